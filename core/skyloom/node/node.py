"""One process's runtime."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from contextvars import Context
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeVar

import structlog

from skyloom.message import value
from skyloom.message.address import Address
from skyloom.message.errors import (
    CallError,
    NodeFailed,
    NotExecuted,
    UnknownName,
    error_from_values,
)
from skyloom.message.message import Message
from skyloom.message.ptype import Ptype
from skyloom.node.cell import ANSWER
from skyloom.node.clock import Clock, LoopClock, LoopSpawner, Spawner
from skyloom.node.dead_letters import DeadLetters
from skyloom.node.executor import Executor
from skyloom.node.harbor import Harbor
from skyloom.node.histogram import Histogram
from skyloom.node.loop_watch import LAG_SECONDS, LoopWatch
from skyloom.node.names import Names
from skyloom.node.plain_log import hide_variables
from skyloom.node.run_queue import RunQueue
from skyloom.node.services import STOP_SECONDS, Services
from skyloom.node.worker import CURRENT
from skyloom.service.service import Service

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping
    from types import TracebackType

    from skyloom.cluster.transport import Transport
    from skyloom.node.cell import Cell

QUERY_SECONDS: Final = 0.05
"""How often a query that waits looks the name up on other nodes."""

_T = TypeVar("_T")

log = structlog.get_logger("skyloom.node")


class Node:
    """A runtime that owns services, names, clock, chance and the transport to other nodes.

        async with Node("game-1") as node:
            users = await node.spawn(UserService)
            user = await node.call(users, "lua", "get_user", 42)

    `name` is 1 to 64 letters, digits, ``_.-``. `clock`, `rng` and `spawner` default to the event loop's clock, an
    unseeded generator and the loop's own tasks; give all three to make a run repeatable. `env` is what services
    read by `getenv`.
    """

    executor_type: ClassVar[type[Executor]] = Executor
    """Runs the handlers; a simulation has its own."""

    services_type: ClassVar[type[Services]] = Services
    """Starts and ends the services; a simulation and a replay have their own."""

    def __init__(
        self,
        name: str = "node-1",
        *,
        clock: Clock | None = None,
        rng: random.Random | None = None,
        spawner: Spawner | None = None,
        transport: Transport | None = None,
        env: Mapping[str, str] | None = None,
        watch_loop: bool = True,
    ) -> None:
        Address.parse(str(Address(name, 0)))  # refuses a bad name
        hide_variables()
        self.name = name
        self.random = rng or random.Random()
        self.env: dict[str, str] = dict(env or {})
        self.names = Names()
        self.dead_letters = DeadLetters()
        self.counters: Counter[str] = Counter()
        self.loop_lag = Histogram(LAG_SECONDS)
        self.shared: dict[type[Any], Any] = {}  # what a pattern keeps for all services of this node, by its class
        self.cells: dict[Address, Cell] = {}
        self.run_queue = RunQueue(self)
        self.executor = self.executor_type(self)
        self.services = self.services_type(self)
        self.harbor = Harbor(self, transport)
        self._clock, self._spawner, self._watch_loop = clock, spawner, watch_loop
        self._tasks: set[asyncio.Task[Any]] = set()
        self._watch: LoopWatch | None = None
        self._root: Service | None = None
        self.failure: str | None = None
        """Why this node cannot go on, once that is so."""
        self._failed = asyncio.Event()
        self._main: asyncio.Task[Any] | None = None
        self._interrupted = False

    # -- life ------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start the runtime on the running event loop."""
        self.loop = asyncio.get_running_loop()
        self.clock = self._clock or LoopClock(self.loop)
        self.now = self.clock.now
        self.stopwatch = self.clock.exact if isinstance(self.clock, LoopClock) else self.clock.now
        """Seconds to measure with; unlike those of `now` they go on while a handler runs, whatever the loop."""
        self.spawner = self._spawner or LoopSpawner(self.loop)
        self._root = self.services.make(Service, (), {})
        self._root._cell.started = True
        await self.harbor.start()
        if self._watch_loop:
            self.watch_loop()

    def watch_loop(self) -> None:
        """Watch over the event loop from now on, for a node made with ``watch_loop=False``."""
        self._watch = LoopWatch(self)
        self._watch.start()

    async def stop(self) -> None:
        """Stop every service, the youngest first, each with its `stop_seconds`; then the runtime.

        Those that have a supervisor are stopped by it, in its order.
        """
        await self.services.stop()
        await self.harbor.stop()
        if self._watch is not None:
            self._watch.stop()
        if self._root is not None:
            self.services.bury(self._root._cell, "ended with its node")
        tasks = [worker.task for worker in self.executor.workers] + list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            _, stuck = await asyncio.wait(tasks, timeout=STOP_SECONDS)
            for task in stuck:
                log.error("a handler ignores its cancellation", task=repr(task)[:200])

    async def __aenter__(self) -> Node:
        await self.start()
        self._main = asyncio.current_task()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        main, self._main = self._main, None
        await self.stop()
        if self.failure is None:
            return
        # As in asyncio.timeout: only the cancellation that is ours is taken back.
        ours = self._interrupted and main is not None and main.uncancel() == 0
        if error is None or isinstance(error, Exception) or (ours and isinstance(error, asyncio.CancelledError)):
            raise NodeFailed(self.failure) from error

    def fail(self, reason: str) -> None:
        """Say that this node cannot go on: a supervisor at the root does when it gives up.

        The body of ``async with Node(...)`` is cancelled, and the statement raises NodeFailed, which ends a program
        with a non-zero status and `reason` in its last line. Whoever called `start` awaits `failed`.
        """
        if self.failure is None:
            self.failure = f"node {self.name} cannot go on: {reason}"
            log.critical("node failed", node=self.name, reason=reason)
            self._failed.set()
            self.loop.call_soon(self._interrupt)  # later, so that it finds the body where it waits

    def _interrupt(self) -> None:
        if self._main is not None:
            self._interrupted = True
            self._main.cancel()

    async def failed(self) -> str:
        """Wait until this node cannot go on, and say why."""
        await self._failed.wait()
        return str(self.failure)

    @property
    def root(self) -> Service:
        """The service in whose name the outside world (main programs, tests) calls and sends."""
        if self._root is None:
            raise RuntimeError(f"node {self.name} is not started: use `async with Node(...)` or await start()")
        return self._root

    async def call(self, dest: Address | str, ptype: str | int, *args: object, timeout: float | None = None) -> Any:
        """`Service.call`, from outside any service."""
        return await self.root.call(dest, ptype, *args, timeout=timeout)

    def send(self, dest: Address | str, ptype: str | int, *args: object) -> None:
        """`Service.send`, from outside any service."""
        self.root.send(dest, ptype, *args)

    async def query(self, name: str, *, wait: float = 0.0) -> Address:
        """`Service.query`, from outside any service."""
        return await self.root.query(name, wait=wait)

    # -- names -----------------------------------------------------------------------------------------------

    def register(self, name: str, address: Address) -> None:
        """Give a service of this node a name, also for the nodes connected to it.

        Raises NameTaken, or ValueError for an address where no service lives.
        """
        if address not in self.cells:
            raise ValueError(f"register {name!r}: no service at {address}")
        self.names.register(name, address)
        self.harbor.announce(name, address)

    async def find(self, name: str, wait: float) -> Address:
        """The service of that name; see `Service.query`."""
        deadline = self.now() + wait
        while True:
            found = self.names.find(name) or await self.harbor.resolve(name)
            if found is not None:
                return found
            left = deadline - self.now()
            if left <= 0:
                near = self.names.near(name)
                remedy = "" if near is None else f"; did you mean {near!r}?"
                # On another node it may be about to start.
                kind = "unavailable" if self.harbor.connected else "not_found"
                raise UnknownName(f"no service is registered as {name!r}{remedy}", kind=kind)
            future: asyncio.Future[Address] = self.loop.create_future()
            self.names.wait(name, future)
            try:
                # Another node's names bring no event of their own, so they are looked up now and then.
                await asyncio.wait([future], timeout=min(left, QUERY_SECONDS) if self.harbor.connected else left)
            finally:
                self.names.stop_waiting(name, future)

    # -- services --------------------------------------------------------------------------------------------

    async def spawn(self, cls: type[Service], *args: object, **kwargs: object) -> Address:
        """Start a service: make it, run its `on_start`, register its class's `name` if it has one.

        The arguments go to the class as they are; they do not cross a boundary. Raises NameTaken, or Failed with
        code ``skyloom.start_failed`` when `on_start` raises or takes longer than its `start_seconds`.
        """
        return await self.services.spawn(cls, *args, **kwargs)

    async def unique(self, cls: type[Service], *args: object, **kwargs: object) -> Address:
        """The node's only service of this class, started on first use. The class needs a `name`."""
        return await self.services.unique(cls, *args, **kwargs)

    def kill(self, address: Address) -> bool:
        """End a service at once, without its `on_stop`; its callers get Unknown. False if it is not alive here.

        A service of another node is asked to die; then the answer is always True.
        """
        return self.services.kill(address)

    def record(self, name: str, path: str) -> None:
        """Record the next service of that class-level `name` to a file; see `skyloom.testing.record`."""
        self.services.recordings[name] = path

    # -- messages --------------------------------------------------------------------------------------------

    def post(self, dest: Address, message: Message) -> None:
        """Bring a message to its destination's mailbox, here or on another node."""
        cell = self.cells.get(dest)
        if cell is not None:
            cell.enqueue(message)
        elif dest.node == self.name:
            self.refuse(message, dest, NotExecuted(f"no service at {dest}", code="skyloom.no_service"))
        else:
            self.harbor.post(dest, message)

    def post_named(self, cell: Cell, name: str, message: Message) -> None:
        """Bring a message to the service that has a name on another node, which takes asking."""

        async def post() -> None:
            try:
                dest = await self.find(name, 0)
            except UnknownName as error:
                log.warning("a message was sent to nobody", service=cell.service.title, reason=error.message)
                self.refuse(message, Address(self.name, 0), error)
            else:
                self.post(dest, message)

        self.run_task(cell, post(), f"{cell.service.title} send to {name}")

    def refuse(self, message: Message, dest: Address, error: CallError) -> None:
        """A message was not delivered: its caller learns it; what has no caller becomes a dead letter."""
        if message.ptype == ANSWER:
            self.counters["late_answers"] += 1
        elif message.session:
            self.answer(message, error)
        else:
            self.dead_letters.add(self.clock.time(), dest, message, error.code)

    def answer(self, message: Message, outcome: bytes | tuple[object, ...] | CallError) -> None:
        """Bring the answer to a request to its source."""
        source = self.cells.get(message.source)
        if source is not None:
            source.answer(message.session, outcome)
        elif message.source.node != self.name:
            self.harbor.answer(message, outcome)
        else:
            self.counters["late_answers"] += 1

    def passed_on(self, request: Message, dest: Address) -> None:
        """A request was forwarded: the loss of `dest`'s node is what fails its caller from now on."""
        if request.source.node == self.name:
            self.waits_for(request.source, request.session, dest)
        elif dest.node != self.name:
            self.harbor.passed_on(request, dest)

    def waits_for(self, caller: Address, session: int, dest: Address) -> None:
        """A call of a service of this node will be answered by `dest`, if it has not been answered."""
        source = self.cells.get(caller)
        pending = None if source is None or source.pending is None else source.pending.get(session)
        if pending is not None:
            pending.destination = dest

    def answer_session(self, dest: Address, session: int, ptype: int, payload: bytes | tuple[object, ...]) -> None:
        """Bring an answer that was made by hand to the session of `dest` that waits for it."""
        outcome: bytes | tuple[object, ...] | CallError = payload
        if ptype == Ptype.ERROR:
            outcome = error_from_values(payload if isinstance(payload, tuple) else value.unpack(payload))
        self.answer(Message(ptype, dest, session, payload), outcome)

    def run_task(
        self, cell: Cell, coroutine: Coroutine[Any, Any, _T], name: str, request: Message | None = None
    ) -> asyncio.Task[_T]:
        """Run a coroutine in the name of a service, which owns the task: it ends when the service does."""
        if cell.ending and cell.address not in self.cells:
            coroutine.close()
            raise NotExecuted(f"{cell.service.title} has ended", code="skyloom.service_ended")
        context = Context()
        if request is not None:
            context.run(CURRENT.set, request)
        task = self.spawner.spawn(coroutine, name=name, context=context)
        if cell.tasks is None:
            cell.tasks = set()
        cell.tasks.add(task)
        self._tasks.add(task)
        task.add_done_callback(self._task_done)
        task.add_done_callback(cell.tasks.discard)
        return task

    def _task_done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a forked task failed", task=task.get_name(), exc_info=error)
