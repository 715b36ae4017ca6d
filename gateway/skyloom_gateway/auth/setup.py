"""From settings to authenticators."""

from __future__ import annotations

from typing import TYPE_CHECKING

from skyloom_gateway.auth.authenticator import Authenticator
from skyloom_gateway.auth.guest import GuestAuthenticator
from skyloom_gateway.auth.jwt import JwtAuthenticator
from skyloom_gateway.auth.ticket import TicketAuthenticator, TicketKey
from skyloom_gateway.load import LoadError, load

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from skyloom_gateway.auth.settings import JwtSettings, TicketSettings
    from skyloom_gateway.settings import Settings

SECRET_FILE_BYTES_MAX = 64 * 1024


class AuthError(ValueError):
    """Who may come in is not settled right. The text names the setting and what to do, and holds no secret."""


def authenticators(settings: Settings, source: random.Random, now: Callable[[], float]) -> list[Authenticator]:
    """The authenticators that `gateway.authenticators` names, in its order.

    Args:
        settings: with the sections `ticket` and `jwt`.
        source: chance for guests' names.
        now: the clock, in seconds since 1970.

    Raises:
        AuthError: one of them cannot be made.
    """
    made: list[Authenticator] = []
    for name in settings.gateway.authenticators:
        if name == "guest":
            made.append(GuestAuthenticator(source))
        elif name == "ticket":
            made.append(_tickets(settings.ticket, now))
        elif name == "jwt":
            made.append(_tokens(settings.jwt, now))
        else:
            made.append(_own(name))
    schemes = [each.scheme for each in made]
    if twice := sorted({scheme for scheme in schemes if schemes.count(scheme) > 1}):
        raise AuthError(f"gateway.authenticators: two have the scheme {', '.join(twice)}; keep one of them")
    return made


def refuse_open_door(authenticators: Sequence[Authenticator], host: str, *, is_loopback: bool, allowed: bool) -> None:
    """Strangers come in from this machine alone, unless the operator says otherwise. Raises AuthError."""
    open_to = sorted({each.scheme for each in authenticators if each.development})
    if open_to and not is_loopback and not allowed:
        raise AuthError(
            f"{', '.join(open_to)}: lets anybody in under any name, and {host} is reached from other machines; choose "
            "other authenticators (--set gateway.authenticators=ticket), or allow it with --allow-guests"
        )


def ticket_keys(settings: TicketSettings) -> list[TicketKey]:
    """The keys for tickets; the first one signs. Raises AuthError."""
    if (settings.keys is None) == (settings.keys_file is None):
        raise AuthError("ticket.keys or ticket.keys_file: set one of them, with a key as ID:SECRET")
    if settings.keys_file is not None:
        name = "ticket.keys_file"
        lines = _text(name, settings.keys_file).splitlines()
    else:
        name = "ticket.keys"
        assert settings.keys is not None
        lines = settings.keys.get_secret_value().split(",")
    keys: list[TicketKey] = []
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            keys.append(TicketKey.parse(line))
        except ValueError as error:
            raise AuthError(f"{name}, key {number}: {error}") from None
    if not keys:
        raise AuthError(f"{name}: holds no key; write each as ID:SECRET")
    return keys


def _tickets(settings: TicketSettings, now: Callable[[], float]) -> TicketAuthenticator:
    try:
        return TicketAuthenticator(
            ticket_keys(settings),
            settings.audience,
            now,
            skew_seconds=settings.skew_seconds,
            lifetime_seconds_max=settings.lifetime_seconds,
            used_max=settings.used_max,
        )
    except AuthError:
        raise
    except ValueError as error:
        raise AuthError(f"ticket.keys: {error}") from None


def _tokens(settings: JwtSettings, now: Callable[[], float]) -> JwtAuthenticator:
    for name in ("key_files", "algorithms", "audience"):
        if not getattr(settings, name):
            raise AuthError(f"jwt.{name}: set it, for gateway.authenticators names jwt")
    keys = [_bytes("jwt.key_files", path).rstrip(b"\r\n") for path in settings.key_files]
    assert settings.audience is not None
    try:
        return JwtAuthenticator(
            keys,
            settings.algorithms,
            settings.audience,
            now,
            issuer=settings.issuer,
            user_claim=settings.user_claim,
            skew_seconds=settings.skew_seconds,
        )
    except ImportError:
        raise AuthError("jwt: needs more packages; install them with pip install 'skyloom[auth]'") from None
    except ValueError as error:
        raise AuthError(f"jwt: {error}") from None


def _own(name: str) -> Authenticator:
    what = "an object with scheme, development and authenticate"
    try:
        found: Authenticator = load(name, what, _is_authenticator)
    except LoadError as error:
        raise AuthError(f"gateway.authenticators: {error}") from error
    return found


def _is_authenticator(found: object) -> bool:
    return isinstance(found, Authenticator) and not isinstance(found, type)


def _bytes(name: str, path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(SECRET_FILE_BYTES_MAX + 1)
    except OSError as error:
        raise AuthError(f"{name}: {path} cannot be read: {error.strerror}") from None
    if len(data) > SECRET_FILE_BYTES_MAX:
        raise AuthError(f"{name}: {path} is over {SECRET_FILE_BYTES_MAX} bytes, which no key is")
    return data


def _text(name: str, path: Path) -> str:
    try:
        return _bytes(name, path).decode()
    except UnicodeDecodeError:
        raise AuthError(f"{name}: {path} is not text in UTF-8") from None
