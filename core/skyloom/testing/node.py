"""A node under test: everything that happens to a message is noted, and the node can crash, pause and be asked.

async def test_bank(sim: Sim) -> None:
    node = await sim.node("bank")
    bank = await node.start_service(Bank)  # the service itself, to look at
    await node.call(bank.address, "lua", "pay", "ada", 5)
    await node.settle()
    node.assert_no_dead_letters()
    node.assert_idle()
"""

from __future__ import annotations

import asyncio
import ctypes
from typing import TYPE_CHECKING, Any, Final, TypeVar

from skyloom.message.errors import CallError, Unknown
from skyloom.node.cell import ANSWER, Cell
from skyloom.node.executor import Executor
from skyloom.node.node import Node
from skyloom.node.pending import OPEN, Pending
from skyloom.node.services import Services
from skyloom.testing.clock import SimClock, SimSpawner
from skyloom.testing.network import DETECT_SECONDS
from skyloom.testing.waits import who_waits

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from skyloom.message.address import Address
    from skyloom.message.message import Message
    from skyloom.message.protocol import Protocol
    from skyloom.node.worker import Worker
    from skyloom.service.service import Service
    from skyloom.testing.sim import Sim
    from skyloom.testing.trace import Event

S = TypeVar("S", bound="Service")


class SimServices(Services):
    """Gives each service a cell that notes what happens."""

    def make_cell(self, address: Address, service: Service) -> Cell:
        return SimCell(self._node, address, service)


class SimExecutor(Executor):
    """Notes the calls that run inside their callers."""

    def step(self, target: Cell, message: Message, protocol: Protocol) -> object:
        """`Executor.step`, noted."""
        node = target.node
        assert isinstance(node, TestNode)
        node.note("start", message, target.address)
        try:
            answer = super().step(target, message, protocol)
        except CallError as error:
            node.note("answer", message, target.address, error)
            raise
        if answer is not OPEN:
            node.note("answer", message, target.address, (answer,))
        return answer


class TestNode(Node):
    """See the module's docstring; `Sim.node` makes and starts one.

    Its clock, chance and tasks are the simulation's. Of a call that could run inside its caller the seed decides
    whether it does or goes through the mailbox, for nobody may rely on either.
    """

    __test__ = False  # for pytest, which would take it for tests
    services_type = SimServices
    executor_type = SimExecutor

    def __init__(
        self, name: str = "node-1", *, sim: Sim, env: Mapping[str, str] | None = None, connected: bool = True
    ) -> None:
        super().__init__(
            name,
            rng=sim.chance(f"node {name}"),
            transport=sim.network.transport() if connected else None,
            env=env,
            watch_loop=False,
        )
        self.sim = sim
        self.crashed = False
        self._crash_when: Callable[[Event], bool] | None = None

    async def start(self) -> None:
        """Start it, on the simulation's loop."""
        self._clock = SimClock(self.sim.loop, self)
        self._spawner = SimSpawner(self.sim.loop, self)
        self.sim.nodes[self.name] = self
        await super().start()

    async def stop(self) -> None:
        """Stop it as `Node.stop` does; nothing is left to stop after a crash."""
        if self.crashed:
            return
        await super().stop()
        if self.sim.nodes.get(self.name) is self:
            del self.sim.nodes[self.name]

    def watch_loop(self) -> None:
        """Not here: the watch takes real time."""

    # -- for tests -------------------------------------------------------------------------------------------

    async def start_service(self, cls: type[S], *args: Any, **kwargs: Any) -> S:
        """Spawn a service and return the object itself."""
        service = self.cells[await self.spawn(cls, *args, **kwargs)].service
        assert isinstance(service, cls)
        return service

    async def settle(self) -> None:
        """Wait until nothing can happen unless time passes; see `Sim.settle`."""
        await self.sim.settle()

    async def advance(self, seconds: float) -> None:
        """Let time pass; see `Sim.advance`."""
        await self.sim.advance(seconds)

    def assert_no_dead_letters(self) -> None:
        """Fail if a message reached nobody."""
        if self.dead_letters.total:
            letters = "\n".join(f"  {letter}" for letter in self.dead_letters)
            raise AssertionError(f"{self.name}: {self.dead_letters.total} dead letters\n{letters}")

    def assert_idle(self) -> None:
        """Fail if a call waits, a handler is half-run, or a message lies in a mailbox."""
        waits = who_waits([self])
        if waits:
            raise AssertionError(f"{self.name} is not idle:\n{waits}")

    def mailbox(self, address: Address) -> int:
        """How many messages wait in the mailbox of a service."""
        cell = self.cells[address]
        return len(cell.mailbox or ()) - cell.answers_queued

    # -- trouble ---------------------------------------------------------------------------------------------

    def crash(self, *, detect: float = DETECT_SECONDS) -> None:
        """End as if the power went: no `finally`, no `on_stop`, no word to other nodes, which see it after `detect`
        seconds.

        A handler that runs this very moment runs to its next await; nothing that it does reaches anybody.
        Calls that the test made through this node's own `call` raise Unknown.
        """
        if self.crashed:
            return
        self.crashed = True
        self.sim.note(self.name, "crash")
        self.sim.stop_running(self, None)
        self.sim.network.crash(self.name, detect=detect)
        self.sim.nodes.pop(self.name, None)
        for task, owner in list(self.sim.loop.owners.items()):
            if owner is self and isinstance(task, asyncio.Task):
                abandon(task)
        root = self.root._cell
        for cell in self.cells.values():
            cell.ending, cell.inline, cell.started, cell.mailbox = True, False, False, None
        self.cells.clear()
        waiting, root.pending = root.pending, None
        for pending in (waiting or {}).values():
            pending.settle(Unknown(f"node {self.name} crashed", code="skyloom.node_crashed"))

    def crash_when(self, condition: Callable[[Event], bool]) -> None:
        """Crash at the first event of this node for which `condition` is true; see `skyloom.testing.Event`."""
        self._crash_when = condition

    def crash_after(self, events: int) -> None:
        """Crash at the so-and-so-many-th event of this node from now on."""
        left = iter(range(events - 1, -1, -1))
        self._crash_when = lambda _: next(left) <= 0

    def pause(self) -> None:
        """Stand still, as under a debugger or a long collection of garbage: other nodes notice only silence."""
        self.sim.note(self.name, "pause")
        self.sim.stop_running(self, [])
        self.sim.network.pause(self.name)

    def resume(self) -> None:
        """Go on; all that came meanwhile is handled now, and late."""
        self.sim.note(self.name, "resume")
        self.sim.run_again(self)
        self.sim.network.resume(self.name)

    # -- what happens ----------------------------------------------------------------------------------------

    def note(self, kind: str, message: Message, destination: Address, outcome: object = None) -> None:
        """Put an event into the trace."""
        event = self.sim.note(
            self.name,
            kind,
            source=message.source,
            destination=destination,
            ptype=message.ptype,
            session=message.session,
            payload=message.payload if outcome is None else outcome,
        )
        self._look(event)

    def _look(self, event: Event) -> None:
        if self._crash_when is not None and self._crash_when(event):
            self._crash_when = None
            self.crash()

    def refuse(self, message: Message, dest: Address, error: CallError) -> None:
        """`Node.refuse`, noted."""
        self.note("refuse", message, dest, error)
        super().refuse(message, dest, error)


class SimCell(Cell):
    """Notes what comes in and what starts."""

    __slots__ = ("_inline",)
    node: TestNode

    @property
    def inline(self) -> bool:
        """Whether a call may run inside its caller: where both are right, the seed decides."""
        return self._inline and self.node.sim.coin()

    @inline.setter
    def inline(self, inline: bool) -> None:
        self._inline = inline

    def take_back(self, message: Message) -> bool:
        return self.node.sim.coin() and super().take_back(message)

    def enqueue(self, message: Message) -> None:
        self.node.note("post", message, self.address)
        super().enqueue(message)

    def answer(self, session: int, outcome: object) -> None:
        sim = self.node.sim
        sim.note(self.node.name, "answer", destination=self.address, session=session, payload=outcome)
        super().answer(session, outcome)

    def expect(self, message: Message, dest: Address, protocol: Protocol) -> Pending:
        pending = super().expect(message, dest, protocol)
        if self.node.crashed:
            self.forget(message.session)
            pending.settle(Unknown(f"node {self.node.name} crashed", code="skyloom.node_crashed"))
        return pending

    def run(self, worker: Worker, share: int) -> int:
        """`Cell.run`, one message at a time, so that each is noted before it starts."""
        done = 0
        while self.mailbox and done < share and self.running < self.concurrency:
            message = self.mailbox[0]
            if message.ptype != ANSWER and message.deadline >= self.node.now():
                self.node.note("start", message, self.address)
            if not self.mailbox:  # crashed at this very event
                break
            done += super().run(worker, 1)
            if worker.cell is not None or len(worker.context) != 1:
                break  # the worker is not free any more
            worker.cell = None
        return done


_ABANDONED: Final[list[asyncio.Task[Any]]] = []


def abandon(task: asyncio.Task[Any]) -> None:
    """Forget a task without letting any `finally` in it run, now or ever.

    A suspended coroutine that is freed is closed, and closing it runs its `finally` blocks. So it is never freed, not
    even when the process ends; it costs its memory, a few kilobytes.
    """
    if not task.done():
        asyncio.tasks._unregister_task(task)
        _ABANDONED.append(task)
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(task))
