"""The opening of a connection on the WebSocket port: an upgrade to a link, or a page."""

from __future__ import annotations

import http
from collections.abc import Sequence

from websockets.datastructures import Headers, MultipleValuesError
from websockets.exceptions import NegotiationError
from websockets.http11 import Request, Response
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from skyloom_gateway.listener import origin
from skyloom_gateway.listener.connections import Refusal
from skyloom_gateway.listener.pages import Pages, Reply, path_of, plain
from skyloom_gateway.listener.settings import ListenerSettings
from skyloom_gateway.wire import CODECS, JSON, Codec

RETRY_AFTER_SECONDS = 5


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
    is_page = path_of(request.path) != settings.path
    stranger = origin.refusal(
        () if is_page else headers.get_all("Origin"),  # whoever may fetch a page may read it
        headers.get_all("Host"),
        settings.origins,
        on_loopback=on_loopback,
    )
    if stranger is not None:
        return protocol.reject(http.HTTPStatus.FORBIDDEN, stranger)
    if is_page:
        return http_response(pages.respond(request.method, request.path, first(headers, "If-None-Match")))
    if refusal is not None:
        response = protocol.reject(503 if refusal is Refusal.FULL else 429, refusal.value + "\n")
        response.headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
        return response
    return protocol.accept(request)


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
