"""Who is a client? Authenticators answer that from what its hello frame says.

The hello's `auth` names a scheme; the authenticator of that scheme looks at the rest and returns an
`Identity` or raises `Denied`. Write one of your own::

    class TicketAuthenticator:
        scheme = "ticket"
        development = False

        async def authenticate(self, auth: Mapping[str, object], peer: str) -> Identity:
            user = await self.tickets.redeem(auth.get("ticket"))
            if user is None:
                raise Denied("the ticket is not valid or was used before; get a new one")
            return Identity(user)

Whatever the client sent is hostile until checked: `auth` holds values of any type, and nothing of it belongs
in a message.
"""

from __future__ import annotations

import random
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Protocol

GUEST_NAME_CHARS_MAX = 64
GUEST_SUFFIX_LETTERS = 6
_NO_CLAIMS: Mapping[str, object] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a client is.

    Args:
        user: the name that agents and other users see.
        claims: what else the authenticator knows, such as roles.
    """

    user: str
    claims: Mapping[str, object] = field(default_factory=lambda: _NO_CLAIMS)


class Denied(Exception):
    """The client may not come in.

    Args:
        message: sent to the client as it is: say what to do, and nothing that it may not know.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class Authenticator(Protocol):
    """One way to say who one is."""

    @property
    def scheme(self) -> str:
        """The `scheme` of a hello's `auth` that this authenticator answers."""
        ...

    @property
    def development(self) -> bool:
        """True when it lets strangers in, so that the server warns when it starts."""
        ...

    async def authenticate(self, auth: Mapping[str, object], peer: str) -> Identity:
        """Say who the client is.

        Args:
            auth: the hello's `auth`, of any content.
            peer: the client's network address, for logs and bounds.

        Raises:
            Denied: the client is told its message and the connection is closed with 4401.
        """
        ...


class GuestAuthenticator:
    """Lets everybody in under the name that they give: ``{"scheme": "guest", "name": "ada"}``. For
    development.

    A name is 1 to 64 printable characters without a blank at either end. Without a name the client becomes
    "guest-" and six letters. Names are not unique and prove nothing.

    Args:
        source: where the letters come from.
    """

    scheme = "guest"
    development = True

    def __init__(self, source: random.Random) -> None:
        self._source = source

    async def authenticate(self, auth: Mapping[str, object], peer: str) -> Identity:
        """Take the client at its word; see `Authenticator.authenticate`."""
        name = auth.get("name")
        if name is None:
            letters = self._source.choices(string.ascii_lowercase, k=GUEST_SUFFIX_LETTERS)
            return Identity("guest-" + "".join(letters))
        if not isinstance(name, str):
            raise Denied("auth.name must be text")
        if not 1 <= len(name) <= GUEST_NAME_CHARS_MAX:
            raise Denied(f"auth.name must have 1 to {GUEST_NAME_CHARS_MAX} characters; leave it out to be given one")
        # isprintable() is false for control characters, line breaks, and the invisible ones that reorder
        # text.
        if not name.isprintable():
            raise Denied("auth.name must have printable characters only")
        if name != name.strip():
            raise Denied("auth.name must not begin or end with a blank")
        return Identity(name)


async def authenticate(authenticators: Sequence[Authenticator], auth: Mapping[str, object], peer: str) -> Identity:
    """Ask the authenticator whose scheme the client names.

    Args:
        authenticators: the ones on offer; of two with one scheme the first is asked.
        auth: the hello's `auth`, of any content.
        peer: the client's network address.

    Raises:
        Denied: by the authenticator, or because no authenticator has the scheme.
    """
    scheme = auth.get("scheme")
    for authenticator in authenticators:
        if isinstance(scheme, str) and authenticator.scheme == scheme:
            return await authenticator.authenticate(auth, peer)
    on_offer = ", ".join(sorted({authenticator.scheme for authenticator in authenticators})) or "none"
    problem = "is missing" if scheme is None else "is not one of this server's"
    raise Denied(f"auth.scheme {problem}; on offer: {on_offer}")
