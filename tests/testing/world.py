"""Services of every temper, and two ends to put them at: what the promises are tried on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from skyloom import Address, CallError, Failed, Response, Service, rpc

if TYPE_CHECKING:
    from skyloom.testing import Sim, TestNode


class Refused(Failed, code="test.refused", kind="aborted"):
    """An error of the application's own."""


class Log(Service):
    """Writes down what starts and what ends."""

    def __init__(self) -> None:
        self.started: list[object] = []
        self.ended: list[object] = []
        self.late: list[object] = []
        self.kept: list[Response] = []
        self.inside = self.in_section = 0
        self.section = self.queue()

    async def on_start(self) -> None:
        async def raw(session: int, source: Address, value: object) -> object:
            self.begin(value)
            return value

        self.dispatch("snax", raw)

    def begin(self, value: object) -> None:
        self.started.append(value)
        if self.request.deadline < self.clock.now():
            self.late.append(value)

    @rpc
    async def note(self, value: object) -> object:
        self.begin(value)
        return value

    @rpc
    async def work(self, value: object, seconds: float) -> object:
        self.begin(value)
        self.inside += 1
        assert self.inside == 1 or not self.serial
        try:
            await self.sleep(seconds)
        finally:
            self.inside -= 1
        self.ended.append(value)
        return value

    @rpc
    async def guarded(self, value: object, seconds: float) -> object:
        self.begin(value)
        async with self.section:
            self.in_section += 1
            assert self.in_section == 1
            try:
                await self.sleep(seconds)
            finally:
                self.in_section -= 1
        self.ended.append(value)
        return value

    @rpc
    async def fail(self, value: object, seconds: float) -> None:
        self.begin(value)
        await self.sleep(seconds)
        raise Refused("no")

    @rpc
    async def keep(self, value: object) -> None:
        self.begin(value)
        self.kept.append(self.response())

    @rpc
    async def take(self, value: list[object]) -> list[object]:
        self.begin(value)
        value.append("taken")
        return value

    @rpc
    async def leave(self, seconds: float) -> None:
        await self.sleep(seconds)
        self.exit()


class SerialLog(Log):
    serial = True


class Caller(Service):
    """Sends and calls as it is told; keeps what came of each call, and when."""

    def __init__(self) -> None:
        self.outcomes: dict[object, object] = {}
        self.times: dict[object, float] = {}

    async def ask(
        self, key: object, dest: Address | str, method: str, *args: object, timeout: float | None = None
    ) -> None:
        outcome: object
        try:
            outcome = await self.call(dest, "lua", method, *args, timeout=timeout)
        except CallError as error:
            outcome = error
        self.outcomes[key] = outcome
        self.times[key] = self.clock.now()


class Member(Service):
    """A child of a supervisor; it ends as it is told."""

    def __init__(self, role: str, born: list[tuple[str, float]]) -> None:
        self.role, self.born = role, born

    async def on_start(self) -> None:
        self.born.append((self.role, self.clock.now()))

    @rpc
    async def who(self) -> str:
        return self.role

    @rpc
    async def end(self, how: str) -> None:
        if how == "crash":
            self.crash("its state is bad")
        elif how == "fork":
            self.fork(self.fail(), critical=True)
        else:
            self.exit()

    async def fail(self) -> None:
        raise ValueError("what it cannot do without has failed")


@dataclass
class Family:
    """The model of a supervisor: who must run, who comes back, and when it is too much."""

    strategy: str
    restarts_max: int
    period: float
    kinds: dict[str, str] = field(default_factory=dict)
    over: set[str] = field(default_factory=set)
    crashes: list[float] = field(default_factory=list)
    touched: set[str] = field(default_factory=set)
    gave_up: bool = False

    @property
    def running(self) -> list[str]:
        return [] if self.gave_up else [name for name in self.kinds if name not in self.over]

    @property
    def untouched(self) -> list[str]:
        """Those who run on, of those who ran before the last crashes."""
        return [name for name in self.running if name not in self.touched]

    def ended(self, victim: str, how: str, now: float) -> list[str]:
        """Who is started anew, and in which order, because this one ended."""
        self.touched.add(victim)
        kind = self.kinds[victim]
        if kind == "temporary" or (kind == "transient" and how == "exit"):
            self.over.add(victim)
            return []
        self.crashes = [*(time for time in self.crashes if time > now - self.period), now]
        if len(self.crashes) > self.restarts_max:
            self.gave_up = True
            return []
        names = list(self.kinds)
        first = {"one_for_one": names.index(victim), "rest_for_one": names.index(victim), "one_for_all": 0}
        group = [victim] if self.strategy == "one_for_one" else names[first[self.strategy] :]
        self.touched.update(group)
        self.over.update(name for name in group if self.kinds[name] == "temporary")
        return [name for name in group if name not in self.over]


async def two_ends(sim: Sim) -> tuple[TestNode, TestNode]:
    """A node that calls and one that is called: the same one for every other seed."""
    here = await sim.node("here")
    return here, here if sim.seed % 2 else await sim.node("there")
