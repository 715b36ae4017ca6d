"""Supervisors held against a model that knows nothing of messages: who runs, who stops and starts in which order."""

import asyncio
import random
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Final

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from structlog.testing import capture_logs

from skyloom import Node
from skyloom.supervision.child import Child, Restart, permanent, temporary, transient
from skyloom.supervision.supervisor import STRATEGIES, Strategy, Supervisor
from skyloom.testing import SimLoop
from tests.core.supervision.cast import Actor, alive, children
from tests.examples import examples

RESTARTS_MAX: Final = 3
PERIOD: Final = 5.0
MAKE: Final[dict[Restart, Callable[..., Child]]] = {
    "permanent": permanent,
    "transient": transient,
    "temporary": temporary,
}
restarts = st.sampled_from(list(MAKE))
picks = st.integers(0, 1000)


@dataclass
class Model:
    """What must be: the children in order, those that run, and what the log must say."""

    strategy: Strategy
    order: dict[str, Restart] = field(default_factory=dict)
    ended: set[str] = field(default_factory=set)
    crashes: list[float] = field(default_factory=list)
    log: list[str] = field(default_factory=list)
    failed: bool = False

    @property
    def running(self) -> list[str]:
        return [part for part in self.order if part not in self.ended]

    def start(self, part: str, restart: Restart) -> None:
        self.order[part] = restart
        self.log.append(f"+{part}")

    def stop(self, part: str) -> None:
        if part in self.running:
            self.log.append(f"-{part}")
        del self.order[part]
        self.ended.discard(part)

    def end(self, part: str, now: float, *, by_itself: bool) -> None:
        restart = self.order[part]
        if by_itself:
            self.log.append(f"-{part}")
        if restart == "temporary":
            del self.order[part]
        elif restart == "transient" and by_itself:
            self.ended.add(part)
        else:
            self.mend(part, now)

    def mend(self, part: str, now: float) -> None:
        self.crashes = [time for time in self.crashes if time > now - PERIOD] + [now]
        others = [other for other in self.running if other != part]
        if len(self.crashes) > RESTARTS_MAX:
            self.failed = True
            self.log += [f"-{other}" for other in reversed(others)]
            self.order.clear()
            return
        order = list(self.order)
        first = {"one_for_one": len(order), "one_for_all": 0, "rest_for_one": order.index(part)}[self.strategy]
        down = [other for other in order[first:] if other in others]
        self.log += [f"-{other}" for other in reversed(down)]
        back = [other for other in order if other in (*down, part) and self.order[other] != "temporary"]
        for other in down:
            if self.order[other] == "temporary":
                del self.order[other]
        self.log += [f"+{other}" for other in back]


class SupervisorMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner(loop_factory=SimLoop)
        self.logs = capture_logs()
        self.logs.__enter__()
        self.log: list[str] = []
        self.count = 0

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(work)

    @initialize(strategy=st.sampled_from(STRATEGIES), kinds=st.lists(restarts, max_size=5), seed=st.integers(0, 9))
    def begin(self, strategy: Strategy, kinds: list[Restart], seed: int) -> None:
        self.model = Model(strategy)
        self.node = Node("model", rng=random.Random(seed), watch_loop=False)
        first = [self.child(kind) for kind in kinds]

        async def begin() -> None:
            await self.node.start()
            self.supervisor = await self.node.spawn(
                Supervisor, *first, strategy=strategy, restarts_max=RESTARTS_MAX, period_seconds=PERIOD
            )

        self.run(begin())

    def child(self, kind: Restart) -> Child:
        part = f"p{self.count}"
        self.count += 1
        self.model.start(part, kind)
        return MAKE[kind](Actor, part, self.log).but(id=part)

    def pick(self, number: int) -> str:
        return self.model.running[number % len(self.model.running)]

    @precondition(lambda self: not self.model.failed)
    @rule(kind=restarts)
    def start_child(self, kind: Restart) -> None:
        self.run(Supervisor.at(self.node.root, self.supervisor).start_child(self.child(kind)))

    @precondition(lambda self: self.model.order)
    @rule(number=picks)
    def stop_child(self, number: int) -> None:
        part = list(self.model.order)[number % len(self.model.order)]
        assert self.run(Supervisor.at(self.node.root, self.supervisor).stop_child(part))
        self.model.stop(part)

    @precondition(lambda self: self.model.running)
    @rule(number=picks, wait=st.floats(0.9, 3))
    def kill(self, number: int, wait: float) -> None:
        part = self.pick(number)

        async def kill() -> None:
            self.model.end(part, self.node.now(), by_itself=False)
            self.node.kill(await self.node.query(part))
            await asyncio.sleep(wait)

        self.run(kill())

    @precondition(lambda self: self.model.running)
    @rule(number=picks)
    def leave(self, number: int) -> None:
        part = self.pick(number)

        async def leave() -> None:
            self.model.end(part, self.node.now(), by_itself=True)
            await self.node.call(part, "lua", "leave")
            await asyncio.sleep(0.9)

        self.run(leave())

    @rule(seconds=st.floats(0.1, 6))
    def wait(self, seconds: float) -> None:
        self.run(asyncio.sleep(seconds))

    @invariant()
    def is_as_the_model_says(self) -> None:
        assert self.log == self.model.log
        assert sorted(alive(self.node)) == sorted(self.model.running)
        assert (self.node.failure is not None) == self.model.failed
        if self.model.failed:
            assert self.supervisor not in self.node.cells
            return
        found = self.run(children(self.node, self.supervisor))
        assert list(found) == list(self.model.order)
        for part, status in found.items():
            assert status.state == ("ended" if part in self.model.ended else "running")
            assert status.address == (None if part in self.model.ended else self.run(self.node.query(part)))

    def teardown(self) -> None:
        if hasattr(self, "node"):
            running = list(self.model.running)
            self.run(self.node.stop())
            assert self.log == self.model.log + [f"-{part}" for part in reversed(running)]
        self.logs.__exit__(None, None, None)
        self.runner.close()


TestSupervisor = SupervisorMachine.TestCase
TestSupervisor.settings = examples(40, steps=20)
