"""Mistakes in an agent that everybody makes once: the log says which route it was, and what to do."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel
from structlog.testing import capture_logs

from skyloom import Failed, Service, rpc
from skyloom.testing import Sim
from skyloom_gateway import Agent, App, Push, fan_out, request
from skyloom_gateway.client import RequestFailed
from skyloom_gateway.testing import TestGateway


class Answer(BaseModel):
    text: str


class Said(Push, route="wrong.said"):
    text: str


class Unsaid(Said, route="wrong.unsaid"):
    """In no contract, though what it is made from is."""


class Other(Service):
    name = "OTHER"

    @rpc
    async def echo(self, text: str) -> str:
        return text


class Plain:
    pass


class WrongAgent(Agent):
    @request("wrong.dict")
    async def a_dict(self) -> Answer:
        return {"txt": 3}  # type: ignore[return-value]  # what is tested

    @request("wrong.nothing")
    async def nothing(self) -> Answer:
        return None  # type: ignore[return-value]  # what is tested

    @request("wrong.no_await")
    async def no_await(self) -> str:
        return Other.at(self, "OTHER").echo("x")  # type: ignore[return-value]  # what is tested

    @request("wrong.plain")
    async def plain(self) -> Any:
        return Plain()

    @request("wrong.push")
    async def wrong_push(self) -> None:
        self.push(Unsaid(text="x"))

    @request("wrong.fan_out")
    async def wrong_fan_out(self) -> None:
        fan_out(self, [self.client], Unsaid(text="x"))

    @request("wrong.codeless")
    async def codeless(self) -> None:
        raise Failed("you cannot")

    @request("wrong.right")
    async def right(self) -> Answer:
        self.push(Said(text="x"))
        return Answer(text="x")


app = App("wrong", agent=WrongAgent, services=[Other], pushes=[Said])


@pytest.mark.sim(seeds=1)
@pytest.mark.parametrize("encoding", ["json", "msgpack"])
@pytest.mark.parametrize(
    ("route", "said"),
    [
        ("wrong.dict", "a_dict ('wrong.dict') returned a dict: it is declared to return Answer"),
        ("wrong.nothing", "nothing ('wrong.nothing') returned None: it is declared to return Answer"),
        ("wrong.no_await", "no_await ('wrong.no_await') returned a coroutine: an `await` is missing"),
        ("wrong.plain", "plain ('wrong.plain') returned a Plain: that cannot be encoded: "),
        ("wrong.push", "push Unsaid ('wrong.unsaid') is in no app's contract: write App(..., pushes=[Unsaid])"),
        ("wrong.fan_out", "push Unsaid ('wrong.unsaid') is in no app's contract"),
    ],
)
async def test_a_handler(sim: Sim, encoding: Any, route: str, said: str) -> None:
    async with TestGateway(sim, app) as gateway:
        ada = await gateway.connect("ada", encoding=encoding)
        with capture_logs() as logs, pytest.raises(RequestFailed, match="gateway.internal"):
            await ada.request(route)
        (line,) = (line for line in logs if line["log_level"] == "error")
        assert line["handling"] == f"client {route}"
        assert said in str(line["exc_info"])


@pytest.mark.sim(seeds=1)
async def test_an_error_without_a_code_is_in_the_log(sim: Sim) -> None:
    async with TestGateway(sim, app) as gateway:
        ada = await gateway.connect("ada")
        with capture_logs() as logs, pytest.raises(RequestFailed, match="it has been logged"):
            await ada.request("wrong.codeless")
        (line,) = (line for line in logs if line["log_level"] == "error")
        assert line["error"] == "you cannot [skyloom.failed]"
        assert "class X(Failed, code='<app>.<what>')" in line["remedy"]


@pytest.mark.sim(seeds=1)
async def test_what_is_right_stays_right(sim: Sim) -> None:
    async with TestGateway(sim, app) as gateway:
        ada = await gateway.connect("ada")
        with capture_logs() as logs:
            assert await ada.request("wrong.right") == {"text": "x"}
        assert (await ada.expect_push(Said)).text == "x"
        assert [line for line in logs if line["log_level"] == "error"] == []
