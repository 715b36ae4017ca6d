"""The admin port: a listener on loopback that answers nothing a web page could make its visitor's browser ask.

A page may send requests to its visitor's own machine, and with DNS rebinding even read what they answer. So the Host
header has to name loopback, no request may have an Origin or come from another site's page, and the console, which is
a WebSocket, wants a header that no page can add to one.
"""

from __future__ import annotations

import http
from typing import TYPE_CHECKING, Final

from skyloom_gateway.listener import ListenerSettings, WebSocketListener
from skyloom_gateway.listener.origin import names_loopback
from skyloom_gateway.listener.pages import path_of

if TYPE_CHECKING:
    from websockets.datastructures import Headers
    from websockets.http11 import Request, Response
    from websockets.server import ServerProtocol

    from skyloom_gateway.listener.connections import Refusal
    from skyloom_gateway.settings import GatewaySettings

ADMIN_HOST: Final = "127.0.0.1"
"""The only address that it ever listens on."""

CONSOLE_PATH: Final = "/console"
CONSOLE_HEADER: Final = "X-Skyloom-Console"
CONSOLE_HEADER_VALUE: Final = "1"

COMMAND_BYTES_MAX: Final = 64 * 1024
"""The longest command."""

ANSWER_BYTES_MAX: Final = 4 * 1024 * 1024
"""The longest answer, and what may wait for a console that does not read."""


class AdminListener(WebSocketListener):
    """Serves the admin port; see the module's docstring."""

    def answer(self, protocol: ServerProtocol, request: Request, refusal: Refusal | None) -> Response:
        """The answer to a request; its status is 101 when the connection becomes a console's."""
        fault = stranger(request.headers, to_console=path_of(request.path) == self.settings.path)
        if fault is not None:
            return protocol.reject(http.HTTPStatus.FORBIDDEN, fault + "\n")
        if refusal is not None:  # a page too: metrics are not free
            return protocol.reject(http.HTTPStatus.TOO_MANY_REQUESTS, refusal.value + "\n")
        return super().answer(protocol, request, None)


def stranger(headers: Headers, *, to_console: bool) -> str | None:
    """Why a request may be a web page's, and not the operator's; None when it cannot."""
    hosts = headers.get_all("Host")
    if len(hosts) != 1 or not names_loopback(hosts[0]):
        return "The Host header has to name loopback: ask for 127.0.0.1 or localhost."
    if headers.get_all("Origin") or set(headers.get_all("Sec-Fetch-Site")) - {"none", "same-origin"}:
        return "Web pages are not answered here."
    if to_console and headers.get_all(CONSOLE_HEADER) != [CONSOLE_HEADER_VALUE]:
        return f"The console wants the header {CONSOLE_HEADER}: {CONSOLE_HEADER_VALUE}."
    return None


def admin_settings(gateway: GatewaySettings, port: int) -> ListenerSettings:
    """How the admin port listens: all its clients are this machine's, and they share its limits."""
    return ListenerSettings(
        host=ADMIN_HOST,
        port=port,
        reuse_port=gateway.reuse_port,
        path=CONSOLE_PATH,
        frame_bytes_max=COMMAND_BYTES_MAX,
        open_timeout_seconds=gateway.open_timeout_seconds,
        close_timeout_seconds=gateway.close_timeout_seconds,
        output_bytes_max=ANSWER_BYTES_MAX,
        output_bytes_total_max=gateway.admin_connections * ANSWER_BYTES_MAX,
        connections_max=gateway.admin_connections,
        connections_per_address_max=gateway.admin_connections,
        connects_per_second_max=gateway.admin_connects_per_second,
        connects_burst_max=max(1, round(2 * gateway.admin_connects_per_second)),
        connections_refused_max=gateway.admin_connections,
        loopback_is_limited=True,
    )
