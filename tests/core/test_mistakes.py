"""Mistakes that everybody makes once: what the runtime says of each, and that it says what to do."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest
from structlog.testing import capture_logs

from skyloom import CallError, Failed, Node, NotExecuted, Service, UnknownName, ValueRefused, rpc
from tests.core.cast import start


@dataclass
class Thing:
    name: str


class Scores(Service):
    name = "SCORES"

    @rpc
    async def best(self, player: str) -> object:
        if player == "nobody":
            raise KeyError(player)
        return self.plain() if player == "forgetful" else (lambda: 1)

    @rpc
    async def keep(self, thing: Thing) -> None:
        raise KeyError(thing.name)

    async def plain(self) -> int:
        return 1


@pytest.mark.parametrize(
    ("dest", "args", "error", "said"),
    [
        ("SCORE", ("lua", "best", "ada"), UnknownName, "no service is registered as 'SCORE'; did you mean 'SCORES'?"),
        ("ELSE", ("lua", "best", "ada"), UnknownName, "no service is registered as 'ELSE' ["),
        ("SCORES", ("best", "ada"), LookupError, "to call a method, write call(dest, 'lua', 'best', ...)"),
        ("SCORES", ("lua", "bets", "ada"), NotExecuted, "Scores has no @rpc method 'bets'; did you mean 'best'?"),
        ("SCORES", ("lua", "plain"), NotExecuted, "'plain'; mark its method of that name with @rpc"),
        ("SCORES", ("lua", 7), NotExecuted, "Scores has no @rpc method by this name: int is no text"),
        ("SCORES", ("lua", "best"), NotExecuted, "missing 1 required positional argument: 'player'"),
        ("SCORES", ("lua", "best", lambda: 1), ValueRefused, "a function cannot cross a service boundary: send plain"),
        ("SCORES", ("lua", "best", "ada"), Failed, "a function cannot cross a service boundary: send plain data"),
        ("SCORES", ("lua", "best", "forgetful"), Failed, "a coroutine cannot cross a service boundary: an `await` is"),
    ],
)
async def test_a_call(node: Node, dest: str, args: Any, error: type[Exception], said: str) -> None:
    await start(node, Scores)
    with capture_logs(), pytest.raises(error) as caught:
        await node.call(dest, *args)
    assert said in str(caught.value)


async def test_a_send_to_a_name_that_nobody_has(node: Node) -> None:
    await start(node, Scores)
    with capture_logs() as logs:
        node.send("SCORE", "lua", "best", "ada")
        await asyncio.sleep(0)
    (line,) = logs
    assert line["event"] == "a message was sent to nobody"
    assert line["reason"] == "no service is registered as 'SCORE'; did you mean 'SCORES'?"


@pytest.mark.parametrize(
    ("args", "handling"), [(("best", "nobody"), "lua best"), (("keep", Thing("nobody")), "lua keep")]
)
async def test_what_failed_is_named_in_the_log(node: Node, args: tuple[object, ...], handling: str) -> None:
    await start(node, Scores)
    with capture_logs() as logs, pytest.raises(CallError):
        await node.call("SCORES", "lua", *args)
    assert [(line["event"], line["handling"]) for line in logs] == [("handler failed", handling)]


async def test_who_did_not_answer_is_named(node: Node) -> None:
    class Slow(Service):
        @rpc
        async def work(self) -> None:
            await self.sleep(60)

    slow = await node.spawn(Slow)
    with pytest.raises(CallError, match="^Slow:[^ ]+ did not answer in time"):
        await node.call(slow, "lua", "work", timeout=1)


async def test_forks_and_timers_are_given_the_right_thing(node: Node) -> None:
    scores = await start(node, Scores)
    with pytest.raises(TypeError, match=r"fork: a coroutine is needed, as in fork\(self.work\(\)\), not a method"):
        scores.fork(scores.plain)  # type: ignore[arg-type]  # what is tested
    with pytest.raises(TypeError, match=r"timeout: a method and its arguments are needed, .*, not a coroutine"):
        scores.timeout(1, scores.plain())  # type: ignore[arg-type]  # what is tested
    with capture_logs() as logs:
        scores.timeout(1, print)  # type: ignore[arg-type]  # what is tested
        await asyncio.sleep(2)
    assert str(logs[0]["exc_info"]) == "timeout: print is no `async def`"
