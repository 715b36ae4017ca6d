"""One simulated run, and many of them.

    def test_transfers() -> None:
        async def main(sim: Sim) -> None:
            a, b = await sim.node("a"), await sim.node("b")
            ...

        simulate(main, seeds=range(1000))

Under pytest the plugin does this for every test that takes `sim`; see `skyloom.testing.plugin`.
"""

from __future__ import annotations

import asyncio
import gc
import random
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, Final

from skyloom.node.executor import Executor
from skyloom.node.node import Node
from skyloom.node.run_queue import RunQueue
from skyloom.service.response import Response
from skyloom.testing.clock import SimClock
from skyloom.testing.loop import START_SECONDS, SimLoop
from skyloom.testing.network import SimNet
from skyloom.testing.node import TestNode, abandon
from skyloom.testing.trace import Event, Trace
from skyloom.testing.waits import where, who_waits

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Mapping
COLLECT_EVERY_RUNS: Final = 50
"""Runs after which garbage is collected; never within a run, where it would come at a time of its own choosing."""

SHOWN_EVENTS: Final = 12
"""Events shown at the end of a failed run."""


class Diverged(AssertionError):
    """The same seed gave two different runs: something in it does not follow the seed."""


class Sim:
    """One run's world: loop, clock, chance, network, nodes and trace. `seed` decides all that is not promised.

    `random` is for the test's own choices; it does not disturb the others.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self.loop = SimLoop(seed)
        self.loop.describe = self.who_waits
        self.random = self.chance("test")
        self.trace = Trace()
        self.nodes: dict[str, TestNode] = {}
        self.network = SimNet(self.chance("network"), self._note_network)
        self._coin = self.chance("inline").getrandbits
        self._stopped: dict[object, list[asyncio.Handle] | None] = {}

    def chance(self, purpose: str) -> random.Random:
        """A source of chance of its own, from the run's seed and the words that say what it is for."""
        return random.Random(f"{self.seed} {purpose}")

    def coin(self) -> bool:
        """True or False, as the seed will have it."""
        return bool(self._coin(1))

    def now(self) -> float:
        """Virtual seconds since the start of the run."""
        return self.loop.time() - START_SECONDS

    async def node(
        self, name: str = "node-1", *, env: Mapping[str, str] | None = None, connected: bool = True
    ) -> TestNode:
        """Start a node. It is stopped at the end of the run. `connected` joins it to `network`."""
        node = TestNode(name, sim=self, env=env, connected=connected)
        await node.start()
        return node

    async def settle(self) -> None:
        """Wait until nothing can happen unless time passes: no handler runs, and no message is on its way."""
        await self.loop.settle()
        while (arrival := self.network.next_arrival) is not None:
            await asyncio.sleep(max(0.0, arrival - self.loop.time()))  # noqa: TID251  # the loop's time is virtual
            await self.loop.settle()

    async def advance(self, seconds: float) -> None:
        """Let so many seconds pass, with all that happens in them."""
        await asyncio.sleep(seconds)  # noqa: TID251  # the loop's time is virtual
        await self.loop.settle()

    def who_waits(self) -> str:
        """Who waits for whom: unanswered calls, half-run handlers and waiting messages of all nodes, then the tasks."""
        others = [task for task in asyncio.all_tasks(self.loop) if task not in self.loop.owners]
        tasks = sorted(f"task {task.get_name()} is {where(task.get_coro())}" for task in others)
        return "\n".join([who_waits(self.nodes.values()), *(f"  {task}" for task in tasks)])

    # -- the trace -------------------------------------------------------------------------------------------

    def note(self, where: str, kind: str, **fields: Any) -> Event:
        """Put an event into the trace; a test may note its own, of any `kind`, with a `payload` of values."""
        return self.trace.add(self.now(), where, kind, **fields)

    def _note_network(self, kind: str, source: str, peer: str, data: bytes) -> None:
        self.note(f"{source} to {peer}", kind, payload=data)

    # -- nodes that stand still ------------------------------------------------------------------------------

    def stop_running(self, node: object, kept: list[asyncio.Handle] | None) -> None:
        """Let nothing of a node run; what was to run is kept, or dropped for good when `kept` is None."""
        self._stopped[node] = kept
        self.loop.held = self._held

    def run_again(self, node: object) -> None:
        """Let a node go on with what was kept."""
        self.loop.rejoin(self._stopped.pop(node, None) or [])
        if not self._stopped:
            self.loop.held = None

    def _held(self, handle: asyncio.Handle) -> bool:
        owner = self._owner(handle)
        if owner not in self._stopped:
            return False
        kept = self._stopped[owner]
        if kept is not None:
            kept.append(handle)
        return True

    def _owner(self, handle: asyncio.Handle) -> object:
        """The node to which a callback belongs; None for what is the test's or the network's."""
        of = getattr(handle._callback, "__self__", None)  # type: ignore[attr-defined]  # as asyncio's own repr
        if isinstance(of, asyncio.Task):
            return self.loop.owners.get(of)
        if isinstance(of, SimClock):
            return of.owner
        if isinstance(of, RunQueue | Executor | Response):
            return of._node
        return of if isinstance(of, Node) else None

    async def run(self, main: Callable[[Sim], Coroutine[Any, Any, object]]) -> None:
        """Run `main`, then stop what it left."""
        try:
            await main(self)
            for node in reversed(list(self.nodes.values())):
                if node in self._stopped:
                    node.resume()
                await node.stop()
        finally:
            for task, owner in list(self.loop.owners.items()):
                if owner in self._stopped and isinstance(task, asyncio.Task):
                    abandon(task)


@dataclass(frozen=True, slots=True)
class Run:
    """What one run came to: equal for equal runs."""

    seed: int
    digest: str
    events: int
    seconds: float


def run_seed(main: Callable[[Sim], Coroutine[Any, Any, object]], seed: int) -> tuple[Run, Trace]:
    """Run `main` once. What it raises carries a note with the end of the trace."""
    sim = Sim(seed)
    with asyncio.Runner(loop_factory=lambda: sim.loop) as runner:
        try:
            runner.run(sim.run(main))
        except Exception as error:
            error.add_note(f"at {sim.now():g} s of the run with seed {seed}, after:\n{sim.trace.tail(SHOWN_EVENTS)}")
            raise
    return Run(seed, sim.trace.digest, sim.trace.count, sim.now()), sim.trace


def simulate(
    main: Callable[[Sim], Coroutine[Any, Any, object]], *, seeds: Iterable[int] = range(100), twice: bool = True
) -> list[Run]:
    """Run `main` once for each seed, in a new world every time; the first one `twice`, to see that it repeats.

    Raises what `main` raises, with a note that names the seed, and Diverged when the two first runs differ.
    """
    runs: list[Run] = []
    was_enabled = gc.isenabled()
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        for number, seed in enumerate(seeds):
            run, trace = run_seed(main, seed)
            runs.append(run)
            if number == 0 and twice:
                again, other = run_seed(main, seed)
                if again != run:
                    raise Diverged(_difference(trace, other, seed))
                other.clear()
            trace.clear()  # most of what a world that has crashed weighs, which is never freed: see `abandon`
            if number % COLLECT_EVERY_RUNS == COLLECT_EVERY_RUNS - 1:
                gc.collect()
    finally:
        if was_enabled:
            gc.enable()
        gc.unfreeze()
    return runs


def _difference(first: Trace, second: Trace, seed: int) -> str:
    for one, other in zip_longest(first, second):
        if str(one) != str(other):
            return (
                f"seed {seed} gave two different runs; the first difference is event {(one or other).number}:\n"
                f"  first:  {one}\n  second: {other}\n"
                "Something in the run does not follow the seed: real time, threads, sockets, `random` or `id` used "
                "directly, or state that outlives a run."
            )
    return f"seed {seed} gave two runs that end at different times"
