"""The opening of a connection on the WebSocket port: an upgrade to a link, or a page."""

from __future__ import annotations

import http
from collections.abc import Sequence

from websockets.datastructures import Headers, MultipleValuesError
from websockets.exceptions import NegotiationError
from websockets.http11 import Request, Response
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from skyloom_gateway.listener.connections import Refusal
from skyloom_gateway.listener.pages import Pages, Reply, path_of, plain
from skyloom_gateway.listener.settings import ListenerSettings
from skyloom_gateway.wire import CODECS, JSON, Codec

RETRY_AFTER_SECONDS = 5
_DEFAULT_PORTS = {"http": "80", "https": "443", "ws": "80", "wss": "443"}


def select_subprotocol(_: ServerProtocol, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    """The client's first offer that there is a codec for; None when it offers nothing, which means json.

    Raises:
        NegotiationError: it offers only others, which the library answers with HTTP 400.
    """
    if not offered:
        return None
    for subprotocol in offered:
        if subprotocol in CODECS:
            return subprotocol
    raise NegotiationError(f"unknown subprotocol; offer one of {', '.join(CODECS)}, or none for json")


def codec_of(subprotocol: Subprotocol | None) -> Codec:
    """The codec that a selected subprotocol stands for."""
    return JSON if subprotocol is None else CODECS[subprotocol]


def answer(
    protocol: ServerProtocol,
    request: Request,
    *,
    settings: ListenerSettings,
    pages: Pages,
    refusal: Refusal | None,
    on_loopback: bool,
) -> Response:
    """The HTTP answer to a request; its status is 101 when the connection becomes a link.

    Pages are answered to connections over a limit too, or health checks would fail when the server is full.
    """
    headers = request.headers
    if path_of(request.path) != settings.path:
        return http_response(pages.respond(request.method, request.path, first(headers, "If-None-Match")))
    if refusal is not None:
        response = protocol.reject(503 if refusal is Refusal.FULL else 429, refusal.value + "\n")
        response.headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
        return response
    if not origin_allowed(headers, settings.origins, on_loopback=on_loopback):
        return protocol.reject(http.HTTPStatus.FORBIDDEN, "This page's origin may not connect.\n")
    return protocol.accept(request)


def origin_allowed(headers: Headers, origins: Sequence[str] | None, *, on_loopback: bool) -> bool:
    """Whether a browser's page may connect (RFC 6455 section 10.2); who names no origin is no browser."""
    offered = headers.get_all("Origin")
    if not offered:
        return True
    if len(offered) > 1:
        return False
    origin = offered[0]
    if origins is None:
        return on_loopback or same_origin(origin, first(headers, "Host"))
    return origin in origins or same_origin(origin, first(headers, "Host"))


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


def first(headers: Headers, name: str) -> str | None:
    """A header's value; None when it is missing or stands there several times."""
    try:
        return headers.get(name)
    except MultipleValuesError:
        return None


def http_response(reply: Reply) -> Response:
    """A page's answer in the library's form."""
    return Response(reply.status, reply.reason, Headers(reply.headers), reply.body)


def bad_request() -> Response:
    """The answer to bytes that are no HTTP request that is served here."""
    return _last(plain(http.HTTPStatus.BAD_REQUEST, "This is no HTTP/1.1 request without a body.\n"))


def head_too_long(bytes_max: int) -> Response:
    """The answer to a request head over the bound."""
    status = http.HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
    return _last(plain(status, f"The request head is longer than {bytes_max} bytes.\n"))


def _last(reply: Reply) -> Response:
    headers = {**reply.headers, "Connection": "close", "Content-Length": str(len(reply.body))}
    return http_response(Reply(reply.status, headers, reply.body))
