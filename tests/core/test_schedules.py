"""Whatever happens in whatever order: messages keep their order, and every call ends."""

import asyncio
import random
from collections.abc import Coroutine
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from structlog.testing import capture_logs

from skyloom import Address, CallError, MemoryNetwork, Node, Service, rpc
from skyloom.testing import SimLoop
from tests.core.cast import start
from tests.examples import examples


class Receiver(Service):
    def __init__(self) -> None:
        self.log: list[tuple[int, int]] = []

    @rpc
    async def take(self, sender: int, number: int, seconds: float) -> int:
        self.log.append((sender, number))
        if seconds:
            await self.sleep(seconds)
        if seconds < 0.5 and sender > 0:  # an echo is not echoed
            self.send(self.request.source, "lua", "take", -sender, number, 0)
        return number


class SerialReceiver(Receiver):
    serial = True


class Sender(Receiver):
    @rpc
    async def speak(self, dest: Address, me: int, plan: list[tuple[str, float]]) -> None:
        for number, (verb, seconds) in enumerate(plan):
            if verb == "send":
                self.send(dest, "lua", "take", me, number, seconds)
            elif verb == "queue":
                self.send(dest, "queue", "take", me, number, 0)
            elif verb == "fork":
                self.fork(self.call(dest, "lua", "take", me, number, seconds, timeout=100))
                await asyncio.sleep(0)
            elif verb == "call":
                await self.call(dest, "lua", "take", me, number, seconds, timeout=100)
                if seconds < 0.5 and not self.serial:
                    # What the receiver sent before it answered has started before the answer came.
                    assert (-me, number) in self.log
            else:
                await self.sleep(seconds)


PLANS = st.lists(
    st.lists(
        st.tuples(st.sampled_from(["send", "call", "fork", "sleep", "queue"]), st.sampled_from([0, 0, 0.1, 1])),
        max_size=12,
    ),
    min_size=1,
    max_size=4,
)


@examples(60)
@given(PLANS, st.booleans(), st.booleans())
def test_order_of_every_sender_is_kept(plans: list[list[tuple[str, float]]], serial: bool, two_nodes: bool) -> None:
    async def play() -> None:
        network = MemoryNetwork()
        async with (
            Node("one", watch_loop=False, transport=network.transport()) as one,
            Node("two", watch_loop=False, transport=network.transport()) as two,
        ):
            receiver = await start(one, SerialReceiver if serial else Receiver)
            senders = [await start(two if two_nodes else one, Sender) for _ in plans]
            calls = [
                sender.node.call(sender.address, "lua", "speak", receiver.address, me, plan, timeout=1000)
                for me, (sender, plan) in enumerate(zip(senders, plans, strict=True), 1)
            ]
            await asyncio.gather(*calls)
            await asyncio.sleep(100)
            for me, plan in enumerate(plans, 1):
                heard = [number for sender, number in receiver.log if sender == me]
                spoken = [number for number, (verb, _) in enumerate(plan) if verb != "sleep"]
                # Messages of a fork are sent by the fork, one turn later, which is why each waits for that turn.
                assert heard == spoken

    with asyncio.Runner(loop_factory=SimLoop) as runner:
        runner.run(play())


class Player(Service):
    """Does what chance says, and calls others that do the same."""

    others: list[Address]

    def __init__(self, others: list[Address]) -> None:
        self.others = others

    @rpc
    async def play(self, depth: int) -> int:
        friend = self.random.choice(self.others)
        for _ in range(self.random.randrange(3)):
            await self._do(self.random.randrange(9), friend, depth)
        return depth

    async def _do(self, what: int, friend: Address, depth: int) -> None:
        if what == 0:
            self.kill(friend)
        elif what == 1:
            self.exit()
        elif what == 2:
            self.kill(self.address)
        elif what == 3:
            self.send(friend, "lua", "play", depth - 1)
        elif what == 4 and self.request.session and not self.request.taken:
            self.forward(friend)
        elif what == 5 and self.request.session and not self.request.taken:
            self.response()
        elif what == 6:
            async with asyncio.timeout(self.random.choice([0, 0.1, 1])):
                await self.sleep(0.5)
        elif depth:
            await self.call(friend, "lua", "play", depth - 1)


class EveryCallEnds(RuleBasedStateMachine):
    """Kills, exits, calls and cuts in any order."""

    @initialize(seed=st.integers(0, 2**32))
    def begin(self, seed: int) -> None:
        self.runner = asyncio.Runner(loop_factory=SimLoop)
        self.network = MemoryNetwork()
        self.nodes = [
            Node(name, rng=random.Random(seed), watch_loop=False, transport=self.network.transport())
            for name in ("one", "two")
        ]
        self.others: list[Address] = []
        self.calls: list[tuple[float, asyncio.Task[Any]]] = []
        for node in self.nodes:
            self._run(node.start())
        for which in (0, 1, 0, 1):
            self.spawn(which)

    def _run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        with capture_logs():
            return self.runner.run(coroutine)

    @rule(which=st.integers(0, 1))
    def spawn(self, which: int) -> None:
        self.others.append(self._run(self.nodes[which].spawn(Player, self.others)))

    @rule(which=st.integers(0, 1), dest=st.integers(0, 99), depth=st.integers(0, 40), timeout=st.floats(0.1, 9))
    def call(self, which: int, dest: int, depth: int, timeout: float) -> None:
        node = self.nodes[which]

        async def begin() -> None:
            address = self.others[dest % len(self.others)]
            task = asyncio.ensure_future(node.call(address, "lua", "play", depth, timeout=timeout))
            self.calls.append((node.now() + timeout, task))
            await asyncio.sleep(0)

        self._run(begin())

    @rule(dest=st.integers(0, 99))
    def kill(self, dest: int) -> None:
        async def kill() -> None:
            self.nodes[0].kill(self.others[dest % len(self.others)])

        self._run(kill())

    @rule(seconds=st.floats(0, 3))
    def wait(self, seconds: float) -> None:
        self._run(asyncio.sleep(seconds))

    @rule()
    def cut_and_mend(self) -> None:
        async def cut() -> None:
            self.network.cut("one", "two")
            self.network.mend("one", "two")

        self._run(cut())

    @precondition(lambda self: hasattr(self, "runner"))
    @invariant()
    def calls_have_ended_by_their_deadline(self) -> None:
        for deadline, task in self.calls:
            if task.done():
                error = task.exception()
                assert error is None or isinstance(error, CallError)
            else:
                assert self.nodes[0].now() <= deadline + 0.001

    def teardown(self) -> None:
        if not hasattr(self, "runner"):
            return
        self._run(asyncio.sleep(20))
        self.calls_have_ended_by_their_deadline()
        for node in self.nodes:
            assert not node.root._cell.pending
            for cell in node.cells.values():
                assert cell.running == 0, "a handler never ended"
                assert not cell.open, "a request was never answered"
                assert not cell.mailbox
            self._run(node.stop())
            assert not node.cells
            assert not node.services.monitors
            assert not node.executor.leaving
        self.runner.close()


TestEveryCallEnds = EveryCallEnds.TestCase
TestEveryCallEnds.settings = examples(60, steps=25)
