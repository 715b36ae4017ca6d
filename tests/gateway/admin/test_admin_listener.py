"""The admin port: for programs of this machine, and for nothing that a web page can make a browser send."""

from __future__ import annotations

import pytest

from skyloom_gateway.admin.listener import ANSWER_BYTES_MAX, COMMAND_BYTES_MAX, AdminListener, admin_settings
from skyloom_gateway.listener import Connections, Pages
from skyloom_gateway.settings import GatewaySettings
from tests.gateway.listener.fakes import TEXT, FakeTransport, Peer, Rig, frame, upgrade

HOST = "127.0.0.1:8018"
CONSOLE = {"X_Skyloom_Console": "1"}
STRANGERS = [
    "evil.example",
    "evil.example:8018",
    "intranet",
    "192.168.1.5:8018",
    "0.0.0.0:8018",
    "127.0.0.1.evil.example",
]


class AdminRig(Rig):
    """An admin port without sockets."""

    def __init__(self) -> None:
        settings = admin_settings(GatewaySettings(), 0)
        super().__init__(settings=settings, connections=Connections.within(settings))
        self.pages = Pages()
        self.pages.add_dynamic("/metrics", lambda: (200, "text/plain", b"some 1\n"))
        self.listener = AdminListener(self.accept, self.pages, settings, self.timers, self.connections)

    def ask(self, request: bytes) -> FakeTransport:
        """Send a request; what came of it. The connection is gone afterwards, unless it became a console's."""
        self.timers.advance(1)  # so that no rate bites
        transport = self.connect()
        self.feed(transport, request)
        if status(transport) != 101:
            transport.lose()
        return transport


@pytest.fixture
def rig() -> AdminRig:
    return AdminRig()


def status(transport: FakeTransport) -> int:
    return int(transport.written.split(b" ", 2)[1]) if transport.written else 0


def get(path: str = "/metrics", *lines: str, host: str | None = HOST, method: str = "GET", body: str = "") -> bytes:
    head = [f"{method} {path} HTTP/1.1", *([] if host is None else [f"Host: {host}"]), *lines, "", body]
    return "\r\n".join(head).encode()


@pytest.mark.parametrize("host", [HOST, "localhost:8018", "LOCALHOST", "[::1]:8018", "127.3.2.1", "me.localhost"])
def test_metrics_for_whoever_asks_for_loopback(rig: AdminRig, host: str) -> None:
    transport = rig.ask(get(host=host))
    assert status(transport) == 200
    assert transport.written.endswith(b"some 1\n")
    assert b"no-store" in transport.written


@pytest.mark.parametrize("host", [*STRANGERS, "", None])
def test_another_host_is_refused(rig: AdminRig, host: str | None) -> None:
    assert status(rig.ask(get(host=host))) in {400, 403}
    assert status(rig.ask(upgrade(path="/console", host=host or "", **CONSOLE))) in {400, 403}
    assert rig.recorders == []


def test_two_hosts_are_refused(rig: AdminRig) -> None:
    assert status(rig.ask(get("/metrics", "Host: evil.example"))) == 403


@pytest.mark.parametrize("origin", ["http://evil.example", "http://localhost:8000", f"http://{HOST}", "null"])
def test_a_page_of_any_origin_is_refused(rig: AdminRig, origin: str) -> None:
    assert status(rig.ask(get("/metrics", f"Origin: {origin}"))) == 403
    assert status(rig.ask(upgrade(path="/console", host=HOST, Origin=origin, **CONSOLE))) == 403
    assert rig.recorders == []


@pytest.mark.parametrize(
    ("site", "wanted"), [("cross-site", 403), ("same-site", 403), ("none", 200), ("same-origin", 200)]
)
def test_what_another_sites_page_loads_is_refused(rig: AdminRig, site: str, wanted: int) -> None:
    """A picture or a script of it has no Origin, but browsers say whose page wants it."""
    assert status(rig.ask(get("/metrics", f"Sec-Fetch-Site: {site}"))) == wanted


def test_the_console_wants_the_header_that_no_page_can_send(rig: AdminRig) -> None:
    assert status(rig.ask(upgrade(path="/console", host=HOST))) == 403
    assert status(rig.ask(upgrade(path="/console", host=HOST, X_Skyloom_Console="2"))) == 403
    assert rig.recorders == []
    assert status(rig.ask(upgrade(path="/console", host=HOST, **CONSOLE))) == 101
    assert len(rig.recorders) == 1


@pytest.mark.parametrize("path", ["/console", "/metrics"])
@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "text/plain", "application/json"])
def test_a_forms_post_does_nothing(rig: AdminRig, path: str, kind: str) -> None:
    body = '{"words": ["kill", "GATE"]}'
    posted = get(path, f"Content-Type: {kind}", f"Content-Length: {len(body)}", method="POST", body=body)
    assert status(rig.ask(posted)) == 400
    assert status(rig.ask(get(path, f"Content-Type: {kind}", "Content-Length: 0", method="POST"))) >= 400
    assert rig.recorders == []


@pytest.mark.parametrize("path", ["/console", "/metrics"])
def test_a_preflight_allows_nothing(rig: AdminRig, path: str) -> None:
    asked = rig.ask(get(path, "Origin: http://evil.example", "Access-Control-Request-Method: POST", method="OPTIONS"))
    assert status(asked) == 403
    assert b"access-control" not in asked.written.lower()
    assert b"access-control" not in rig.ask(get()).written.lower()


@pytest.mark.parametrize("path", ["/", "/ws", "/console/", "/metrics/x", "/healthz"])
def test_there_is_nothing_else(rig: AdminRig, path: str) -> None:
    assert status(rig.ask(get(path))) == 404


def test_a_long_head_is_refused_and_a_slow_one_cut_off(rig: AdminRig) -> None:
    assert status(rig.ask(get("/metrics", *(f"X-{n}: {'a' * 1000}" for n in range(20))))) == 431
    transport = rig.connect()
    rig.feed(transport, b"GET /metrics HTTP/1.1\r\n")
    rig.timers.advance(4.9)
    assert not transport.aborted
    rig.timers.advance(0.2)
    assert transport.aborted


def test_a_long_command_closes_the_console(rig: AdminRig) -> None:
    transport = rig.ask(upgrade(None, "/console", host=HOST, **CONSOLE))
    rig.feed(transport, frame(TEXT, b"x" * COMMAND_BYTES_MAX))
    assert [len(message) for message in rig.recorders[0].messages] == [COMMAND_BYTES_MAX]
    rig.feed(transport, frame(TEXT, b"x" * (COMMAND_BYTES_MAX + 1)))
    assert Peer(transport).close_code == 1009


def test_a_console_that_does_not_read_is_cut_off(rig: AdminRig) -> None:
    transport = rig.ask(upgrade(None, "/console", host=HOST, **CONSOLE))
    transport.room = 0
    link = rig.recorders[0].link
    for _ in range(2 * ANSWER_BYTES_MAX // 65_536):
        link.send(b"x" * 65_536)
        transport.turn()
    transport.turn()
    assert transport.aborted
    assert rig.connections.hits == {"unsent_bytes": 1}


def test_more_connections_than_it_takes_are_refused(rig: AdminRig) -> None:
    limit = GatewaySettings().admin_connections
    for _ in range(limit):
        assert status(rig.ask(upgrade(path="/console", host=HOST, **CONSOLE))) == 101
    assert status(rig.ask(upgrade(path="/console", host=HOST, **CONSOLE))) == 429
    assert status(rig.ask(get())) == 429


def test_the_rate_of_connections_is_bounded_for_metrics_too(rig: AdminRig) -> None:
    burst = round(2 * GatewaySettings().admin_connects_per_second)
    answered = []
    for _ in range(burst + 3):
        transport = rig.connect()
        rig.feed(transport, get())
        answered.append(status(transport))
        transport.lose()
    assert answered == [200] * burst + [429] * 3
    rig.timers.advance(1)
    assert status(rig.ask(get())) == 200
