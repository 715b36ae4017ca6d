"""Guests: for development."""

from __future__ import annotations

import random
import string
from collections.abc import Mapping

from skyloom_gateway.auth.denied import Denied
from skyloom_gateway.auth.identity import Identity, user_fault

GUEST_NAME_CHARS_MAX = 64
GUEST_SUFFIX_LETTERS = 6


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
            return Identity("guest-" + "".join(letters), assigned=True)
        fault = user_fault(name, GUEST_NAME_CHARS_MAX)
        if fault is not None:
            raise Denied(f"auth.name {fault}; leave it out to be given one")
        return Identity(str(name))
