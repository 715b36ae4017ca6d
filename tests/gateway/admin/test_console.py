"""The console in a whole gateway, in memory: what operators see, and what they do."""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Callable, Coroutine
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from skyloom import Service, rpc
from skyloom.testing import Sim
from skyloom_gateway import App, Settings
from skyloom_gateway.admin.console import CommandFailed
from skyloom_gateway.admin.line import COMMANDS_BURST, Line
from skyloom_gateway.admin.listener import ANSWER_BYTES_MAX
from skyloom_gateway.settings import GatewaySettings
from skyloom_gateway.testing import TestGateway
from skyloom_gateway.wire import JSON
from tests.gateway.cast import EchoAgent, Hub, Shouted


class Stuck(Service):
    """Handles one message at a time, and never ends the first."""

    name = "STUCK"
    serial = True

    @rpc
    async def hang(self) -> None:
        await self.sleep(10_000)

    @rpc
    async def talk(self, length: int) -> str:
        return "x" * length

    async def on_info(self) -> dict[str, object]:
        return {"never": "told"}


app = App("echo", agent=EchoAgent, services=[Hub, Stuck], pushes=[Shouted])


pytestmark = pytest.mark.sim(seeds=2)


def in_gateway(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., Coroutine[Any, Any, None]]:
    """Run a test that takes a gateway in a simulated one with a console."""

    @functools.wraps(test)
    async def run(sim: Sim, **others: Any) -> None:
        EchoAgent.reset()
        async with TestGateway(sim, app, settings=Settings(gateway=GatewaySettings(admin_port=0))) as gateway:
            await test(gateway, **others)

    signature = inspect.signature(test)
    own = [each for each in signature.parameters.values() if each.name != "gateway"]
    sim = inspect.Parameter("sim", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=Sim)
    run.__signature__ = signature.replace(parameters=[sim, *own])  # type: ignore[attr-defined]  # pytest reads it
    return run


async def run(gateway: TestGateway, *words: str) -> Any:
    return await gateway.node.call("CONSOLE", "lua", "run", list(words), timeout=20)


async def rows(gateway: TestGateway, *words: str) -> list[dict[str, Any]]:
    return cast("list[dict[str, Any]]", (await run(gateway, *words))["rows"])


async def test_without_an_admin_port_there_is_no_console(sim: Sim) -> None:
    async with TestGateway(sim, app) as gateway:
        assert "CONSOLE" not in dict(gateway.node.names)


@in_gateway
async def test_help_has_every_command(gateway: TestGateway) -> None:
    names = [row["command"].split()[0] for row in await rows(gateway, "help")]
    wanted = "help list stat names info task letters sessions mem call kill end log gc"
    assert names == wanted.split()
    assert [row["command"] for row in await rows(gateway, "help", "kill")] == ["kill ADDRESS"]


@in_gateway
async def test_services_are_listed(gateway: TestGateway) -> None:
    found = {row["names"]: row for row in await rows(gateway, "list")}
    hub = found["ECHO_HUB"]
    assert (hub["service"], hub["state"]) == ("Hub", "running")
    assert await rows(gateway, "list", "HUB") == [hub]
    assert {"name": "ECHO_HUB", "address": hub["address"]} in await rows(gateway, "names")
    await gateway.node.call("ECHO_HUB", "lua", "shout", "x")
    (stat,) = await rows(gateway, "stat", "ECHO_HUB")
    assert (stat["handled"], stat["mailbox_messages"]) == (1, 0)


@pytest.mark.parametrize("form", ["name", "full", "short"])
@in_gateway
async def test_an_address_has_three_forms(gateway: TestGateway, form: str) -> None:
    address = await gateway.node.query("ECHO_HUB")
    text = {"name": "ECHO_HUB", "full": str(address), "short": f":{address.handle:x}"}[form]
    assert (await run(gateway, "info", text))["address"] == str(address)


@in_gateway
async def test_a_service_that_hangs_is_looked_into(gateway: TestGateway) -> None:
    gateway.node.send("STUCK", "lua", "hang")
    gateway.node.send("STUCK", "lua", "hang")
    await gateway.advance(1)
    info = await run(gateway, "info", "STUCK")
    assert (info["handlers"], info["mailbox_messages"]) == (1, 1)
    assert "did not answer" in info["silent"]
    assert "never" not in info
    handling = [row for row in await rows(gateway, "task", "STUCK") if "handles" in row["what"]]
    assert handling[0]["what"].startswith("handles lua hang of ")
    assert handling[0]["frames"][0].startswith("Stuck.hang (test_console.py:")


@in_gateway
async def test_the_node_and_its_players_in_numbers(gateway: TestGateway) -> None:
    ada = await gateway.connect("ada")
    bob = await gateway.connect("bob", kind="tcp")
    await ada.request("echo.nothing")
    bob.cut()
    await gateway.advance(1)
    info = await run(gateway, "info")
    assert (info["connections_websocket"], info["connections_tcp"]) == (1, 0)
    assert (info["sessions_connected"], info["sessions_suspended"], info["agents"]) == (1, 1, 1)
    assert info["services"] > 5
    assert (info["late_answers"], info["loop_lag_seconds"]) == (0, 0)
    assert info["node"] == "gateway"
    assert {key: info[key] for key in await run(gateway, "sessions")} == await run(gateway, "sessions")
    assert "ada" not in json.dumps(await run(gateway, "sessions")) + json.dumps(await rows(gateway, "list"))
    (row,) = await rows(gateway, "sessions", "ada")
    assert (row["state"], row["transport"], row["pushes"]) == ("greeted", "websocket", 0)
    agent = await run(gateway, "info", row["agents"]["echo"])
    assert (agent["service"], agent["user"], agent["session"]) == ("EchoAgent", "ada", row["session"])
    assert await rows(gateway, "sessions", "nobody") == []


@in_gateway
async def test_a_session_is_ended(gateway: TestGateway) -> None:
    ada, bob = await gateway.connect("ada"), await gateway.connect("bob")
    (row,) = await rows(gateway, "sessions", "ada")
    with capture_logs() as logs:
        assert await run(gateway, "end", "session", row["session"]) == "ended 1 session"
    assert {"event": "console: end", "session": row["session"], "log_level": "warning"} in logs
    await gateway.advance(1)
    assert ada.client.lost is not None
    assert ada.client.lost.code == 4403
    await bob.request("echo.nothing")
    with pytest.raises(CommandFailed, match="no such session"):
        await run(gateway, "end", "session", row["session"])


@in_gateway
async def test_all_sessions_of_a_user_are_ended_those_that_wait_among_them(gateway: TestGateway) -> None:
    one, two, bob = [await gateway.connect(name) for name in ("ada", "ada", "bob")]
    two.cut()
    await gateway.advance(1)
    assert await run(gateway, "end", "user", "ada") == "ended 2 sessions"
    await gateway.advance(1)
    assert not one.connected
    assert bob.connected
    with pytest.raises(CommandFailed, match="no session of this user"):
        await run(gateway, "end", "user", "ada")


@in_gateway
async def test_a_method_is_called(gateway: TestGateway) -> None:
    assert await run(gateway, "call", "ECHO_HUB", "shout", '"hello"') == {"answer": 0}
    with pytest.raises(CommandFailed, match="is no JSON"):
        await run(gateway, "call", "ECHO_HUB", "shout", "hello")
    with pytest.raises(CommandFailed, match="skyloom.no_method"):
        await run(gateway, "call", "ECHO_HUB", "sing")
    with pytest.raises(CommandFailed, match="skyloom.internal"):
        await run(gateway, "call", "ECHO_HUB", "break_down")
    with pytest.raises(CommandFailed, match="did not answer in time"):
        await run(gateway, "call", "STUCK", "hang")


@in_gateway
async def test_what_is_called_is_logged_without_its_arguments(gateway: TestGateway) -> None:
    with capture_logs() as logs:
        await run(gateway, "call", "ECHO_HUB", "shout", '"secret"')
    (line,) = [line for line in logs if line["event"] == "console: call"]
    assert line["method"] == "shout"
    assert "secret" not in str(logs)


@in_gateway
async def test_a_service_is_killed_and_its_supervisor_starts_it_anew(gateway: TestGateway) -> None:
    before = await gateway.node.query("ECHO_HUB")
    assert await run(gateway, "kill", "ECHO_HUB") == f"killed {before}"
    await gateway.advance(5)
    assert await gateway.node.query("ECHO_HUB") != before
    with pytest.raises(CommandFailed, match="no service at"):
        await run(gateway, "kill", str(before))
    with pytest.raises(CommandFailed, match="stop its process"):
        await run(gateway, "kill", ":1")


@in_gateway
async def test_dead_letters_with_their_tracebacks(gateway: TestGateway) -> None:
    assert (await run(gateway, "letters"))["note"] == "no message came to a bad end"
    gateway.node.send("ECHO_HUB", "lua", "break_down")
    gateway.node.send("ECHO_HUB", "lua", "sing", "la")
    await gateway.advance(1)
    poison, unknown = await rows(gateway, "letters")
    assert (poison["reason"], unknown["reason"]) == ("skyloom.internal", "skyloom.no_method")
    assert poison["traceback"][-1].startswith("ZeroDivisionError")
    assert unknown["traceback"] == []
    assert await rows(gateway, "letters", "1") == [unknown]
    with pytest.raises(CommandFailed, match="whole number"):
        await run(gateway, "letters", "all")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["sing"], "no command 'sing'; `help` lists them"),
        (["help", "sing"], "no command 'sing'"),
        (["kill"], "write it as: kill ADDRESS"),
        (["names", "x"], "write it as: names"),
        (["end", "world", "x"], "write it as: end session SESSION"),
        (["log", "loud"], "the levels are debug, info, warning, error"),
        (["info", ":zz"], "not an address"),
        (["info", ":4000"], "no service at :00004000@gateway"),
        (["info", "NOBODY"], "no service is named 'NOBODY'"),
        (["task", ":00000001@elsewhere"], "node 'elsewhere' is not connected"),
    ],
)
@in_gateway
async def test_a_command_that_cannot_be_done_says_why(gateway: TestGateway, words: list[str], said: str) -> None:
    with pytest.raises(CommandFailed) as failed:
        await run(gateway, *words)
    assert said in failed.value.message


async def test_a_console_on_another_node_is_asked_for(sim: Sim) -> None:
    async with TestGateway(sim, app, settings=Settings(gateway=GatewaySettings(admin_port=0))) as gateway:
        other = await sim.node("other")
        stuck = await other.start_service(Stuck)
        other.send(stuck.address, "lua", "hang")
        await sim.advance(1)
        info = await run(gateway, "info", str(stuck.address))
        assert (info["handlers"], info["address"]) == (1, str(stuck.address))
        assert (await rows(gateway, "task", str(stuck.address)))[0]["what"].startswith("handles lua hang")


# -- its line ------------------------------------------------------------------------------------------------


class FakeLink:
    """Keeps what is sent."""

    buffered_bytes = 0
    peer = "127.0.0.1:5"
    codec = JSON
    kind = "websocket"

    def __init__(self) -> None:
        self.sent: list[bytes] = []

    def send(self, frame: bytes, tail: bytes = b"") -> None:
        self.sent.append(frame + tail)

    @property
    def told(self) -> list[dict[str, Any]]:
        told, self.sent = [json.loads(frame) for frame in self.sent], []
        return told


def talk(gateway: TestGateway) -> tuple[Line, FakeLink]:
    link = FakeLink()
    return Line(gateway.node.root, cast("Any", link)), link


def words(*given: str) -> bytes:
    return json.dumps({"words": given}).encode()


@in_gateway
async def test_a_line_tells_results_and_errors(gateway: TestGateway) -> None:
    line, link = talk(gateway)
    line.received(words("end", "user", "x"))
    await gateway.advance(1)
    line.received(words("kill", "STUCK"))
    await gateway.advance(1)
    failed, done = link.told
    assert failed == {"error": "no session of this user"}
    assert done["result"].startswith("killed :")


@pytest.mark.parametrize(
    "data",
    [b"", b"kill GATE", b"[]", b'{"words": []}', b'{"words": "kill"}', b'{"words": [1]}', b'{"words": ["a"], "b": 1}']
    + [b"\xff", b"[" * 10_000, json.dumps({"words": ["x"] * 65}).encode()],
)
@in_gateway
async def test_what_is_no_command_is_told_so(gateway: TestGateway, data: bytes) -> None:
    line, link = talk(gateway)
    line.received(data)
    assert link.told == [{"error": 'send {"words": [...]}, with 1 to 64 words'}]


@in_gateway
async def test_one_command_at_a_time(gateway: TestGateway) -> None:
    line, link = talk(gateway)
    line.received(words("call", "STUCK", "hang"))
    line.received(words("mem"))
    assert link.told == [{"error": "one command at a time: wait for the answer"}]
    await gateway.advance(6)
    assert "did not answer in time" in link.told[0]["error"]
    line.received(words("names"))
    await gateway.advance(1)
    assert "result" in link.told[0]


@in_gateway
async def test_commands_have_a_rate(gateway: TestGateway) -> None:
    line, link = talk(gateway)
    for _ in range(COMMANDS_BURST):
        line.received(b"")
    assert len(link.told) == COMMANDS_BURST
    line.received(words("names"))
    assert "too many commands" in link.told[0]["error"]
    await gateway.advance(1)
    line.received(words("names"))
    await gateway.advance(1)
    assert "result" in link.told[0]


@in_gateway
async def test_an_answer_may_be_long_and_not_too_long(gateway: TestGateway) -> None:
    line, link = talk(gateway)
    for length in (1_000_000, ANSWER_BYTES_MAX):
        line.received(words("call", "STUCK", "talk", str(length)))
        await gateway.advance(1)
    fine, much = link.told
    assert len(fine["result"]["answer"]) == 1_000_000
    assert "bytes, over 4,194,304: ask for less" in much["error"]


@in_gateway
async def test_an_operator_who_leaves_waits_no_longer(gateway: TestGateway) -> None:
    line, link = talk(gateway)
    line.received(words("call", "STUCK", "hang"))
    await gateway.advance(0.5)
    line.closed(1000, "left")
    await gateway.advance(10)
    assert link.told == []


@in_gateway
async def test_a_console_that_was_killed_is_there_again(gateway: TestGateway) -> None:
    line, link = talk(gateway)
    line.received(words("kill", "CONSOLE"))
    await gateway.advance(5)
    assert len(link.told) == 1
    line.received(words("names"))
    await gateway.advance(1)
    assert "result" in link.told[0]
