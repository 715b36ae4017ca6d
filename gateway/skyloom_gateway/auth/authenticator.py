"""One way to say who one is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

from skyloom_gateway.auth.denied import Denied
from skyloom_gateway.auth.identity import Identity


@runtime_checkable
class Authenticator(Protocol):
    """One way to say who one is."""

    @property
    def scheme(self) -> str:
        """The `scheme` of a hello's `auth` that this authenticator answers."""
        ...

    @property
    def development(self) -> bool:
        """True when it lets strangers in: the server warns when it starts, and listens on loopback only."""
        ...

    async def authenticate(self, auth: Mapping[str, object], peer: str) -> Identity:
        """Say who the client is.

        Args:
            auth: the hello's `auth`, of any content.
            peer: the client's network address, for logs and bounds.

        Raises:
            Denied: the client is told its message and the connection is closed with 4401.
            Forbidden: the same with 4403.
        """
        ...


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
