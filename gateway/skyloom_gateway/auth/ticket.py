"""Tickets: what a login server of your own gives a client to come in with, once.

A ticket is four parts, joined by dots: ``st1``, the id of the key, the content as JSON in base64url without padding,
and the HMAC-SHA256 (RFC 2104) of all before the last dot with that key, in base64url. The content::

    {"user": "ada", "aud": "skyloom", "exp": 1767225600, "id": "gC0p4uA1Tn3rVxw2", "claims": {"role": "admin"}}

`exp` is in seconds since 1970; `id` is 16 to 64 characters that no other ticket has; `claims` may be left out.
Any language makes one in ten lines, and there is no choice of algorithm that an attacker could make instead.
"""

from __future__ import annotations

import binascii
import hashlib
import hmac
import json
import re
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from skyloom_gateway.auth.denied import Denied
from skyloom_gateway.auth.identity import NO_CLAIMS, Identity, user_fault
from skyloom_gateway.auth.instant import is_instant
from skyloom_gateway.auth.used_tickets import UsedTickets

KEY_BYTES_MIN: Final = 32
TICKET_CHARS_MAX: Final = 3072
ID_BYTES: Final = 16
ID_CHARS_MIN, ID_CHARS_MAX = 16, 64
LIFETIME_SECONDS_MAX: Final = 3600.0
SKEW_SECONDS: Final = 5.0
USED_TICKETS_MAX: Final = 100_000

_VERSION: Final = "st1"
_KEY_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,32}\Z")
_NOT_VALID: Final = "the ticket is not valid; get a new one"


@dataclass(frozen=True, slots=True)
class TicketKey:
    """A key that tickets are signed with.

    Args:
        id: 1 to 32 letters, digits, ``_`` and ``-``; tickets name it, so that old and new keys can live side by side.
        secret: 32 bytes or more that only you know.

    Raises:
        ValueError: one of them is not so; the text holds nothing of the secret.
    """

    id: str
    secret: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if not _KEY_ID.match(self.id):
            raise ValueError("a ticket key's id is 1 to 32 letters, digits, _ and -")
        if len(self.secret) < KEY_BYTES_MIN:
            raise ValueError(
                f"a ticket key's secret has {len(self.secret)} bytes and needs {KEY_BYTES_MIN}: "
                "make one with `openssl rand -hex 32`"
            )

    @classmethod
    def parse(cls, text: str) -> TicketKey:
        """Read ``ID:SECRET``; the secret is the bytes of the text as it stands. Raises ValueError."""
        id, colon, secret = text.strip().partition(":")
        if not colon:
            raise ValueError("a ticket key is written ID:SECRET, as in 2026-11:9f2c...")
        return cls(id, secret.encode())


def issue_ticket(
    key: TicketKey,
    user: str,
    *,
    audience: str,
    expires_at: float,
    claims: Mapping[str, object] | None = None,
    id: str | None = None,
) -> str:
    """Make a ticket; what a login server does for a user whom it knows.

    Args:
        key: signs it.
        user: who the client will be: 1 to 128 printable characters.
        audience: the servers that it is for: their setting `ticket.audience`.
        expires_at: seconds since 1970; a minute from now is plenty for a client that connects at once.
        claims: what agents find in `self.claims`.
        id: 16 to 64 characters that no other ticket has; made by chance when None.

    Raises:
        ValueError: a value does not fit, or the ticket becomes longer than a hello may be.
    """
    if (fault := user_fault(user)) is not None:
        raise ValueError(f"user {fault}")
    content: dict[str, object] = {"user": user, "aud": audience, "exp": expires_at}
    content["id"] = secrets.token_urlsafe(ID_BYTES) if id is None else id
    if claims:
        content["claims"] = dict(claims)
    body = json.dumps(content, separators=(",", ":"), allow_nan=False).encode()
    signed = f"{_VERSION}.{key.id}.{_encode(body)}"
    ticket = f"{signed}.{_encode(_sign(key.secret, signed))}"
    if len(ticket) > TICKET_CHARS_MAX:
        raise ValueError(f"the ticket has {len(ticket)} characters, over {TICKET_CHARS_MAX}: give it fewer claims")
    return ticket


class TicketAuthenticator:
    """Lets in who brings a ticket: ``{"scheme": "ticket", "ticket": "st1..."}``. A ticket serves once.

    Used tickets are remembered by this process: two gateways, or one that was restarted, each take a ticket once
    within its lifetime. So give tickets a minute, not an hour.

    Args:
        keys: any of them may have signed it; keep the old one beside the new until its tickets have expired.
        audience: the `aud` that tickets must have.
        now: the clock, in seconds since 1970.
        skew_seconds: how much later than `exp` a ticket is still taken, for clocks that differ.
        lifetime_seconds_max: how far ahead `exp` may be; with `used_max` it bounds the memory of used tickets.
        used_max: used tickets that are remembered at once; over it all tickets are refused for a while.

    Raises:
        ValueError: there is no key, or two have one id.
    """

    scheme = "ticket"
    development = False

    def __init__(
        self,
        keys: Sequence[TicketKey],
        audience: str,
        now: Callable[[], float],
        *,
        skew_seconds: float = SKEW_SECONDS,
        lifetime_seconds_max: float = LIFETIME_SECONDS_MAX,
        used_max: int = USED_TICKETS_MAX,
    ) -> None:
        self._keys = {key.id: key.secret for key in keys}
        if not keys or len(self._keys) < len(keys):
            raise ValueError("tickets need at least one key, and each key an id of its own")
        self._audience = audience
        self._now = now
        self._skew_seconds = skew_seconds
        self._lifetime_seconds_max = lifetime_seconds_max
        self.used = UsedTickets(used_max)
        self._no_key = secrets.token_bytes(KEY_BYTES_MIN)

    async def authenticate(self, auth: Mapping[str, object], peer: str) -> Identity:
        """Check a ticket and mark it as used; see `Authenticator.authenticate`."""
        content = self._content(auth.get("ticket"))
        user, claims, id = content.get("user"), content.get("claims", NO_CLAIMS), content.get("id")
        expires_at = content.get("exp")
        if content.get("aud") != self._audience:
            raise Denied(_NOT_VALID, detail="the ticket is for another audience")
        if not is_instant(expires_at):
            raise Denied(_NOT_VALID, detail="the ticket's exp is no time")
        if not isinstance(id, str) or not ID_CHARS_MIN <= len(id) <= ID_CHARS_MAX:
            raise Denied(_NOT_VALID, detail=f"the ticket's id is not {ID_CHARS_MIN} to {ID_CHARS_MAX} characters")
        if user_fault(user) is not None or not isinstance(claims, Mapping):
            raise Denied(_NOT_VALID, detail="the ticket's user or claims are not as they should be")
        now = self._now()
        until = expires_at + self._skew_seconds
        if until <= now:
            raise Denied("the ticket has expired; get a new one")
        if expires_at > now + self._lifetime_seconds_max + self._skew_seconds:
            raise Denied(_NOT_VALID, detail="the ticket lives longer than ticket.lifetime_seconds allows")
        used = self.used
        used.forget(now)
        if id in used:
            raise Denied("the ticket was used before; get a new one")
        if used.full:
            raise Denied("too many tickets are in use; try again later", detail="ticket.used_max is reached")
        used.add(id, until)
        return Identity(str(user), claims)

    def _content(self, ticket: object) -> Mapping[str, object]:
        """The content of a ticket whose signature is right. Raises Denied, and does not say which part is wrong."""
        if not isinstance(ticket, str) or len(ticket) > TICKET_CHARS_MAX:
            raise Denied(_NOT_VALID, detail=f"auth.ticket is no text of at most {TICKET_CHARS_MAX} characters")
        signed, _, signature = ticket.rpartition(".")
        version, _, rest = signed.partition(".")
        key_id, _, body = rest.partition(".")
        # With an unknown key there is as much to compute as with a known one, so that time does not tell them apart.
        secret = self._keys.get(key_id, self._no_key)
        try:
            if not hmac.compare_digest(_sign(secret, signed), _decode(signature)) or version != _VERSION:
                raise Denied(_NOT_VALID, detail="signed with no key of this server's, or changed on its way")
            content = json.loads(_decode(body))
        except (ValueError, RecursionError):
            raise Denied(_NOT_VALID, detail="no ticket, but other text") from None
        if not isinstance(content, dict):
            raise Denied(_NOT_VALID, detail="the ticket's content is no object")
        return content


def _sign(secret: bytes, signed: str) -> bytes:
    return hmac.digest(secret, signed.encode(), hashlib.sha256)


def _encode(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    """base64url without padding, and nothing else: one ticket has one form. Raises ValueError."""
    try:
        data = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (binascii.Error, ValueError) as error:
        raise ValueError("no base64url") from error
    if _encode(data) != text:
        raise ValueError("no base64url")
    return data
