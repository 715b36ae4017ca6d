"""Which web pages may connect: a browser says by the Origin header whose page it is (RFC 6455 section 10.2).

A page anywhere can make its visitor's browser connect to the visitor's own machine, where no firewall stands
between; and by DNS rebinding its own name can be made to point there, so that the page is "same origin". Hence, on
loopback, who names a host that DNS could have pointed here is refused too.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection

_DEFAULT_PORTS = {"http": "80", "https": "443", "ws": "80", "wss": "443"}

TWO_ORIGINS = "More than one Origin or Host header.\n"
STRANGE_HOST = (
    "This server listens on loopback, and the Host header names no loopback address. Ask for it as localhost, or name "
    "the address that people reach it by in gateway.origins.\n"
)
STRANGE_ORIGIN = "This page's origin may not connect; gateway.origins names the ones that may.\n"


def refusal(
    offered: Collection[str], hosts: Collection[str], origins: Collection[str] | None, *, on_loopback: bool
) -> str | None:
    """Why a request is refused, as the body of a 403; None when it is welcome.

    Args:
        offered: its Origin headers; who sends none is no browser.
        hosts: its Host headers.
        origins: the origins that may connect; None for none off loopback, and this machine's own on it.
        on_loopback: whether the server is reached from its own machine only.
    """
    if len(offered) > 1 or len(hosts) > 1:
        return TWO_ORIGINS
    origin = next(iter(offered), None)
    host = next(iter(hosts), None)
    known = {normal(each) for each in origins or ()}
    if on_loopback and host is not None and _may_be_rebound(host):
        names = {_name(each.partition("://")[2]) for each in known}
        if _name(host) not in names:
            return STRANGE_HOST
    if origin is None or normal(origin) in known:
        return None
    if on_loopback and origins is None and (_is_loopback(origin) or same_origin(origin, host)):
        return None
    return STRANGE_ORIGIN


def normal(origin: str) -> str:
    """An origin in the one form that browsers send: in small letters, without its scheme's own port."""
    scheme, separator, authority = origin.lower().partition("://")
    port = _DEFAULT_PORTS.get(scheme)
    return f"{scheme}{separator}{authority.removesuffix(f':{port}')}" if port else origin.lower()


def same_origin(origin: str, host: str | None) -> bool:
    """Whether an Origin header names the host that the client asked for.

    The schemes are not compared: behind a proxy that ends TLS they differ.
    """
    scheme, separator, authority = origin.partition("://")
    if not separator or not authority or not host or "/" in authority:
        return False
    default = _DEFAULT_PORTS.get(scheme.lower())
    return default is not None and _with_port(authority, default) == _with_port(host, default)


def _with_port(authority: str, default: str) -> str:
    authority = authority.lower()
    has_port = ":" in authority.rpartition("]")[2]
    return authority if has_port else f"{authority}:{default}"


def _name(authority: str) -> str:
    """A host without its port, brackets and final dot."""
    authority = authority.lower()
    if authority.startswith("["):
        return authority[1:].partition("]")[0]
    return authority.partition(":")[0].removesuffix(".")


def _may_be_rebound(host: str) -> bool:
    """Whether public DNS could hold this name: not an IP address, a name of one word, or one under .localhost."""
    name = _name(host)
    if "." not in name or name.endswith(".localhost"):
        return False
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return True
    return False


def _is_loopback(origin: str) -> bool:
    scheme, _, authority = origin.partition("://")
    return scheme.lower() in ("http", "https") and "/" not in authority and names_loopback(authority)


def names_loopback(authority: str) -> bool:
    """Whether a host, with or without a port, is this machine's own whoever resolves it."""
    name = _name(authority)
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost" or name.endswith(".localhost")
