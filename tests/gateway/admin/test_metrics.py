"""What players did in a whole gateway is what /metrics says, with no more labels than there are routes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from skyloom import Service, rpc
from skyloom.node.status import EVENTS
from skyloom.testing import Sim
from skyloom_gateway import App, Settings, fan_out
from skyloom_gateway.admin.metrics import LIMIT_NAMES, Metrics
from skyloom_gateway.auth import Denied, Forbidden, Identity
from skyloom_gateway.client.errors import RequestFailed
from skyloom_gateway.listener import Connections
from skyloom_gateway.settings import GatewaySettings
from skyloom_gateway.tally import CODES_MAX, OTHER, RouteTally, close_label
from skyloom_gateway.testing import BY_HAND, TestGateway
from tests.gateway.cast import EchoAgent, Hub, Shouted, echo

DOCS = Path(__file__).resolve().parents[3] / "docs" / "operate"
pytestmark = pytest.mark.sim(seeds=2)


class Doorkeeper:
    """Lets in whoever has a good name."""

    scheme = "name"
    development = False

    async def authenticate(self, auth: Any, peer: str) -> Identity:
        name = str(auth["name"])
        if name == "mallory":
            raise Forbidden("not you")
        if name == "nobody":
            raise Denied("who?")
        if name == "broken":
            raise ZeroDivisionError
        return Identity(name)


class Page:
    """What /metrics says, by name and labels."""

    def __init__(self, gateway: TestGateway) -> None:
        self.connections = Connections(10, 10)
        self.metrics = Metrics(gateway.node, gateway.gate, self.connections, lambda: gateway.ready)

    def read(self) -> dict[str, float]:
        status, kind, body = self.metrics.page()
        assert (status, kind.split(";")[0]) == (200, "text/plain")
        values = {}
        for family in text_string_to_metric_families(body.decode()):
            for sample in family.samples:
                labels = ",".join(f"{key}={value}" for key, value in sorted(sample.labels.items()))
                values[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
        return values

    def of(self, name: str) -> dict[str, float]:
        """The values of one metric by its label's value, those that are 0 left out."""
        return {
            key.partition("{")[2].rstrip("}").partition("=")[2]: value
            for key, value in self.read().items()
            if key.partition("{")[0] == name and value
        }


async def test_what_players_do_adds_up(sim: Sim) -> None:
    EchoAgent.reset()
    async with TestGateway(sim, echo) as gateway:
        page = Page(gateway)
        assert page.read()["skyloom_ready"] == 1
        ada = await gateway.connect("ada")
        bob = await gateway.connect("bob", kind="tcp", reconnect=BY_HAND)
        for player in (ada, bob):
            await player.request("echo.join")
        for text in ("one", "two"):
            await ada.request("echo.shout", {"text": text})
        await ada.notify("echo.note", {"text": "x"})
        for route, body in (
            ("echo.fail", {"text": "x"}),
            ("echo.say", {"no": 1}),
            ("echo.sing", {}),
            ("echo.note", {}),
        ):
            with pytest.raises(RequestFailed):
                await ada.request(route, body)
        await gateway.settle()
        values = page.read()
        assert {key: value for key, value in values.items() if key.startswith("skyloom_requests_total") and value} == {
            "skyloom_requests_total{code=ok,route=echo.join}": 2,
            "skyloom_requests_total{code=ok,route=echo.shout}": 2,
            "skyloom_requests_total{code=echo.no_such_thing,route=echo.fail}": 1,
            "skyloom_requests_total{code=gateway.invalid_body,route=echo.say}": 1,
            "skyloom_requests_total{code=gateway.unknown_route,route=other}": 2,
        }
        assert values["skyloom_request_seconds_count{route=echo.shout}"] == 2
        assert values["skyloom_request_seconds_bucket{le=+Inf,route=other}"] == 2
        assert page.of("skyloom_pushes_total") == {"echo.shouted": 4}
        assert page.of("skyloom_notifies_total") == {"echo.note": 1}
        assert page.of("skyloom_connections") == {"websocket": 1, "tcp": 1}
        assert page.of("skyloom_sessions") == {"connected": 2}
        assert page.of("skyloom_logins_total") == {"ok": 2}
        assert values["skyloom_services{service=EchoAgent}"] == 2
        bob.cut()
        await gateway.settle()
        await ada.request("echo.shout", {"text": "three"})
        assert page.of("skyloom_sessions") == {"connected": 1, "suspended": 1}
        assert page.of("skyloom_connections_closed_total") == {"1006": 1}
        assert page.of("skyloom_connections") == {"websocket": 1}
        assert page.read()["skyloom_kept_bytes"] > 0
        assert await bob.resume()
        values = page.read()
        assert values["skyloom_sessions_resumed_total"] == 1
        assert values["skyloom_kept_bytes"] == 0
        assert page.of("skyloom_connections_opened_total") == {"websocket": 1, "tcp": 2}
        assert page.of("skyloom_logins_total") == {"ok": 3}
        assert page.of("skyloom_pushes_total") == {"echo.shouted": 6}
        await ada.close()
        await gateway.advance(1)
        assert page.of("skyloom_sessions_ended_total") == {"1000": 1}


async def test_pushes_to_sessions_that_are_gone_do_not_count(sim: Sim) -> None:
    EchoAgent.reset()
    async with TestGateway(sim, echo) as gateway:
        page = Page(gateway)
        ada, bob = await gateway.connect("ada"), await gateway.connect("bob")
        for player in (ada, bob):
            await player.request("echo.join")
        await ada.close()
        await gateway.advance(1)
        await bob.request("echo.shout", {"text": "alone"})
        await gateway.settle()
        assert page.of("skyloom_pushes_total") == {"echo.shouted": 1}


async def test_requests_take_their_time(sim: Sim) -> None:
    EchoAgent.reset()
    async with TestGateway(sim, echo) as gateway:
        page = Page(gateway)
        ada = await gateway.connect("ada")
        await ada.request("echo.wait", {"seconds": 0.3})
        values = page.read()
        assert values["skyloom_request_seconds_sum{route=echo.wait}"] == pytest.approx(0.3)
        assert values["skyloom_request_seconds_bucket{le=0.25,route=echo.wait}"] == 0
        assert values["skyloom_request_seconds_bucket{le=0.5,route=echo.wait}"] == 1
        EchoAgent.slow_start = 0.7
        bob = await gateway.connect("bob")
        await bob.request("echo.nothing")
        assert page.read()["skyloom_request_seconds_sum{route=echo.nothing}"] == pytest.approx(0.7)
    EchoAgent.reset()


async def test_requests_whose_agent_does_not_start(sim: Sim) -> None:
    EchoAgent.reset()
    async with TestGateway(sim, echo) as gateway:
        page = Page(gateway)
        ada = await gateway.connect("ada", timeout=20)
        EchoAgent.start_error = ValueError("no")
        with pytest.raises(RequestFailed, match="not available"):
            await ada.request("echo.nothing")
        EchoAgent.start_error, EchoAgent.slow_start = None, 6.0
        with pytest.raises(RequestFailed, match="no answer in time"):
            await ada.request("echo.nothing")
        values = page.read()
        assert values["skyloom_requests_total{code=gateway.unavailable,route=echo.nothing}"] == 1
        assert values["skyloom_requests_total{code=gateway.deadline_exceeded,route=echo.nothing}"] == 1
    EchoAgent.reset()


async def test_who_is_not_let_in_is_counted_by_why(sim: Sim) -> None:
    settings = Settings(
        gateway=GatewaySettings(sessions_per_user=1, denials_per_minute_per_address=2, loopback_exempt=False)
    )
    async with TestGateway(sim, echo, settings=settings, authenticators=[Doorkeeper()]) as gateway:
        page = Page(gateway)
        ada = await gateway.connect("ada", auth={"scheme": "name", "name": "ada"})
        for name in ("ada", "broken", "nobody", "mallory", "nobody"):
            with pytest.raises(Exception):  # noqa: B017 - of several kinds; what counts is what is counted
                await gateway.connect(name, auth={"scheme": "name", "name": name})
        assert page.of("skyloom_logins_total") == {
            "ok": 1,
            "gateway.too_many_sessions": 1,
            "gateway.unauthenticated": 1,
            "gateway.forbidden": 1,
            "gateway.too_many_denials": 1,
            "gateway.internal": 1,
        }
        await ada.close()


async def test_limits_that_bite_are_counted_while_sessions_live_and_after(sim: Sim) -> None:
    EchoAgent.reset()
    settings = Settings(gateway=GatewaySettings(messages_burst=3, messages_per_second=1, suspended_sessions=1))
    async with TestGateway(sim, echo, settings=settings) as gateway:
        page = Page(gateway)
        ada = await gateway.connect("ada")
        for _ in range(3):
            await ada.request("echo.nothing")
        with pytest.raises(RequestFailed, match="rate"):
            await ada.request("echo.nothing")
        assert page.of("skyloom_limit_hits_total") == {"messages_per_second": 1}
        await ada.close()
        await gateway.advance(1)
        assert page.of("skyloom_sessions_ended_total") == {"1000": 1}
        assert page.of("skyloom_limit_hits_total") == {"messages_per_second": 1}
        for name in ("bob", "cat"):
            player = await gateway.connect(name)
            player.cut()
            await gateway.settle()
        page.connections.hits["unsent_bytes"] += 2
        assert page.of("skyloom_limit_hits_total") == {
            "messages_per_second": 1,
            "suspended_sessions": 1,
            "unsent_bytes": 2,
        }
        assert page.of("skyloom_sessions_ended_total") == {"1000": 1, "1013": 1}


class Faulty(Service):
    name = "FAULTY"

    @rpc
    async def fail(self) -> None:
        raise ZeroDivisionError

    @rpc
    async def give_up(self) -> None:
        self.node.counters["of_my_own"] += 1
        self.crash("enough")


async def test_the_runtimes_troubles_are_counted(sim: Sim) -> None:
    app = App("echo", agent=EchoAgent, services=[Hub, Faulty], pushes=[Shouted])
    async with TestGateway(sim, app) as gateway:
        page = Page(gateway)
        node = gateway.node
        assert page.of("skyloom_events_total") == {}
        node.send("FAULTY", "lua", "fail")
        node.send("FAULTY", "lua", "sing")
        await gateway.settle()
        node.send("FAULTY", "lua", "give_up")
        await gateway.advance(2)
        found = page.of("skyloom_events_total")
        assert (found["crashes"], found["restarts"], found["of_my_own"]) == (1, 1, 1)
        letters = page.of("skyloom_dead_letters_total")
        assert (letters["skyloom.internal"], letters["skyloom.no_method"]) == (1, 1)
        assert page.read()["skyloom_messages_handled_total"] > 3


async def test_players_make_no_more_metrics(sim: Sim) -> None:
    EchoAgent.reset()
    async with TestGateway(sim, echo) as gateway:
        page = Page(gateway)
        sizes = []
        for number in range(6):
            player = await gateway.connect(f"player-{number}")
            await player.request("echo.nothing")
            with pytest.raises(RequestFailed):
                await player.request(f"echo.made_up_{number}")
            sizes.append(len(page.read()))
        assert sizes == [sizes[0]] * 6
        assert "player-" not in page.metrics.page()[2].decode()
        assert "made_up" not in page.metrics.page()[2].decode()


async def test_pushes_of_no_apps_route_are_other(sim: Sim) -> None:
    EchoAgent.reset()
    async with TestGateway(sim, App("echo", agent=EchoAgent, services=[Hub])) as gateway:
        page = Page(gateway)
        ada = await gateway.connect("ada")
        await ada.request("echo.join")
        hub = next(cell.service for cell in gateway.node.cells.values() if isinstance(cell.service, Hub))
        fan_out(hub, hub.clients, Shouted(text="x"))
        await gateway.settle()
        assert page.of("skyloom_pushes_total") == {"other": 1}


def test_codes_that_apps_make_up_are_bounded() -> None:
    tally = RouteTally()
    for number in range(500):
        tally.ended(f"echo.made_up_{number}", 0.1)
    assert len(tally.codes) <= CODES_MAX + 2
    assert sum(tally.codes.values()) == tally.seconds.total == 500
    assert tally.codes[OTHER] > 400


@pytest.mark.parametrize(
    ("code", "label"), [(1000, "1000"), (4403, "4403"), (1006, "1006"), (3999, OTHER), (1012, "1012")]
)
def test_close_codes_that_clients_make_up_are_other(code: int, label: str) -> None:
    assert close_label(code) == label


def test_limits_are_named_as_their_settings() -> None:
    assert set(LIMIT_NAMES) <= set(GatewaySettings.model_fields)


async def test_the_page_names_every_metric(sim: Sim) -> None:
    async with TestGateway(sim, echo) as gateway:
        families = {family.name: family for family in Page(gateway).metrics.registry.collect()}
        wanted = {
            f"{name}_total" if family.type == "counter" else name
            for name, family in families.items()
            if name.startswith("skyloom_")
        }
        text = (DOCS / "metrics.md").read_text(encoding="utf-8")
        assert set(re.findall(r"^\| `(skyloom_\w+)`", text, re.MULTILINE)) == wanted
        for name in (*EVENTS, *LIMIT_NAMES):
            assert f"`{name}`" in text
        for family in families.values():
            for sample in family.samples:
                assert not {"session", "user", "address"} & set(sample.labels)
