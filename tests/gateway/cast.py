"""An app that the gateway's tests serve: its agents answer in every way there is."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import ClassVar

from pydantic import BaseModel, ConfigDict

from skyloom import Failed, Service, rpc
from skyloom_gateway import Agent, App, ClientRef, Push, Watchdog, fan_out, notify, request

SECRET = "the password is swordfish"


class Text(BaseModel):
    model_config = ConfigDict(extra="forbid")
    text: str


class Wait(BaseModel):
    seconds: float = 0.0
    text: str = ""


class Numbers(BaseModel):
    rows: list[list[int]]


class Shouted(Push, route="echo.shouted"):
    text: str


class NoSuchThing(Failed, code="echo.no_such_thing", kind="not_found"):
    """An error of the app's own."""


class Hub(Service):
    """Knows every client that came, and fans out to all of them."""

    name = "ECHO_HUB"

    def __init__(self) -> None:
        self.clients: list[ClientRef] = []

    @rpc
    async def join(self, client: ClientRef) -> None:
        self.clients.append(client)

    @rpc
    async def shout(self, text: str) -> int:
        fan_out(self, self.clients, Shouted(text=text))
        return len(self.clients)

    @rpc
    async def break_down(self) -> None:
        raise ZeroDivisionError(SECRET)


class EchoAgent(Agent):
    """`born` and `stopped` keep the users in order, `seen` what handlers saw, `moved` how clients came and went."""

    born: ClassVar[list[str]] = []
    stopped: ClassVar[list[str]] = []
    moved: ClassVar[list[str]] = []
    seen: ClassVar[list[str]] = []
    slow_start: ClassVar[float] = 0.0
    start_error: ClassVar[Exception | None] = None
    slow_stop: ClassVar[float] = 0.0

    @classmethod
    def reset(cls) -> None:
        cls.born, cls.stopped, cls.seen, cls.moved = [], [], [], []
        cls.slow_start = cls.slow_stop = 0.0
        cls.start_error = None

    def __init__(self, client: ClientRef, user: str, claims: Mapping[str, object]) -> None:
        super().__init__(client, user, claims)
        if type(self.start_error) is KeyError:
            raise self.start_error

    async def on_start(self) -> None:
        if self.slow_start:
            await self.sleep(self.slow_start)
        if self.start_error is not None:
            raise self.start_error
        self.born.append(self.user)

    async def on_suspend(self) -> None:
        self.moved.append(f"{self.user} away")

    async def on_resume(self) -> None:
        self.moved.append(f"{self.user} back")

    async def on_stop(self) -> None:
        await self.sleep(self.slow_stop)
        self.stopped.append(self.user)

    @request("echo.say")
    async def say(self, body: Text) -> Text:
        self.seen.append(body.text)
        return body

    @request("echo.nothing")
    async def nothing(self) -> None:
        return None

    @request("echo.wait")
    async def wait_in_turn(self, body: Wait) -> Wait:
        self.seen.append(f"begin {body.text}")
        await self.sleep(body.seconds)
        self.seen.append(f"end {body.text}")
        return body

    @request("echo.wait_beside", concurrent=True)
    async def wait_beside(self, body: Wait) -> Wait:
        return await self.wait_in_turn(body)

    @request("echo.numbers")
    async def numbers(self, body: Numbers) -> None:
        self.seen.append("numbers")

    @request("echo.fail", errors=[NoSuchThing])
    async def fail(self, body: Text) -> None:
        raise NoSuchThing(f"no {body.text} here", details={"near": ["here"]}, retryable=True)

    @request("echo.fail_oddly", errors=[NoSuchThing])
    async def fail_oddly(self, body: Text) -> None:
        raise NoSuchThing("odd", details={"raw": b"\xff"} if body.text == "bytes" else {"long": "x" * 70_000})

    @request("echo.crash")
    async def break_down(self) -> None:
        raise ZeroDivisionError(SECRET)

    @request("echo.crash_beyond")
    async def break_beyond(self, body: Text) -> None:
        """An error of another service, or of the runtime, that nobody caught."""
        if body.text == "hub":
            await self.call(await self.query("ECHO_HUB"), "lua", "break_down")
        elif body.text == "plain":
            raise Failed(SECRET)
        elif body.text == "late":
            await self.call(self.address, "lua", "never", timeout=0.1)
        elif body.text == "nobody":
            await self.query(SECRET)

    @rpc
    async def never(self) -> None:
        await asyncio.Event().wait()

    @request("echo.long")
    async def long(self) -> str:
        return "x" * 70_000

    @request("echo.join")
    async def join(self) -> None:
        await self.call(await self.query("ECHO_HUB"), "lua", "join", self.client)

    @request("echo.shout")
    async def shout(self, body: Text) -> int:
        count: int = await self.call(await self.query("ECHO_HUB"), "lua", "shout", body.text)
        return count

    @request("echo.push_thrice")
    async def push_thrice(self) -> None:
        for text in "abc":
            self.push(Shouted(text=text))

    @request("echo.out")
    async def throw_out(self) -> None:
        self.end_session("no cheating")

    @request("echo.leave")
    async def leave(self) -> None:
        self.exit()

    @request("echo.closings")
    async def closings(self) -> list[int]:
        """The close codes of all sessions that have ended."""
        return [code for what, code, *_ in Dog.events if what == "close" and isinstance(code, int)]

    @notify("echo.note")
    async def note(self, body: Text) -> None:
        self.seen.append(f"note {body.text}")


class OtherAgent(Agent):
    """Of a second app."""

    @request("other.who")
    async def who(self) -> str:
        return f"other {self.user}"


class Dog(Watchdog):
    """Keeps what it is told."""

    events: ClassVar[list[tuple[object, ...]]] = []

    async def on_open(self, session: str, user: str, peer: str) -> None:
        self.events.append(("open", user, peer))

    async def on_close(self, session: str, code: int, reason: str) -> None:
        self.events.append(("close", code))

    async def on_suspend(self, session: str, code: int, reason: str) -> None:
        self.events.append(("suspend", code))

    async def on_resume(self, session: str, peer: str) -> None:
        self.events.append(("resume", peer))

    async def on_warning(self, session: str, what: str) -> None:
        self.events.append(("warning", what))


echo = App("echo", agent=EchoAgent, services=[Hub], pushes=[Shouted], watchdog=Dog)
other = App("other", agent=OtherAgent)
