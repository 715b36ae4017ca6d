"""One process's runtime."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from contextvars import Context
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeVar

import structlog

from skyloom.message import value
from skyloom.message.address import HANDLE_MAX, Address
from skyloom.message.errors import (
    CallError,
    Failed,
    NameTaken,
    NodeFailed,
    NotExecuted,
    Unknown,
    UnknownName,
    error_from_values,
)
from skyloom.message.message import Message
from skyloom.message.ptype import Ptype
from skyloom.node.cell import ANSWER, Cell
from skyloom.node.clock import Clock, LoopClock, LoopSpawner, Spawner
from skyloom.node.dead_letters import DeadLetters, traceback_text
from skyloom.node.executor import Executor
from skyloom.node.harbor import Harbor
from skyloom.node.loop_watch import LoopWatch
from skyloom.node.names import Names
from skyloom.node.run_queue import RunQueue
from skyloom.node.worker import CURRENT
from skyloom.service.crash import Crash
from skyloom.service.service import Service

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping
    from types import TracebackType

    from skyloom.cluster.transport import Transport

STOP_SECONDS: Final = 5.0
"""How long the handler that called `exit` may take."""

EXITED: Final = "exited"
"""How a service ended that ended by itself, as `on_down` is told; every other end is a crash to its supervisor."""

QUERY_SECONDS: Final = 0.05
"""How often a query that waits looks the name up on other nodes."""

SERVICES_MAX: Final = 1_000_000
"""Services that one node holds at once."""

_S = TypeVar("_S", bound=Service)
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
        self.name = name
        self.random = rng or random.Random()
        self.env: dict[str, str] = dict(env or {})
        self.names = Names()
        self.dead_letters = DeadLetters()
        self.counters: Counter[str] = Counter()
        self.shared: dict[type[Any], Any] = {}  # what a pattern keeps for all services of this node, by its class
        self.cells: dict[Address, Cell] = {}
        self.run_queue = RunQueue(self)
        self.executor = self.executor_type(self)
        self.monitors: dict[Address, set[Address]] = {}
        self.harbor = Harbor(self, transport)
        self._clock, self._spawner, self._watch_loop = clock, spawner, watch_loop
        self._recordings: dict[str | None, str] = {}
        self._last_handle = 0
        self._starting: dict[str, asyncio.Future[Address]] = {}
        self._ending: dict[Address, asyncio.Task[None]] = {}
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
        self.spawner = self._spawner or LoopSpawner(self.loop)
        self._root = self._make(Service, (), {})
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
        for cell in reversed(list(self.cells.values())):
            if cell.address in self.cells and cell.service is not self._root and cell.owner is None:
                self.exit(cell, None)
                if cell.address in self._ending:
                    await asyncio.wait([self._ending[cell.address]])
        await self.harbor.stop()
        if self._watch is not None:
            self._watch.stop()
        if self._root is not None:
            self.bury(self._root._cell, "ended with its node")
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
                raise UnknownName(f"no service is registered as {name!r}")
            future: asyncio.Future[Address] = self.loop.create_future()
            self.names.wait(name, future)
            try:
                # Another node's names bring no event of their own, so they are looked up now and then.
                await asyncio.wait([future], timeout=min(left, QUERY_SECONDS) if self.harbor.connected else left)
            finally:
                self.names.stop_waiting(name, future)

    # -- services --------------------------------------------------------------------------------------------

    def _make(self, cls: type[_S], args: tuple[object, ...], kwargs: dict[str, Any]) -> _S:
        if len(self.cells) >= SERVICES_MAX:
            raise NotExecuted(f"this node has {SERVICES_MAX} services", code="skyloom.overloaded")
        if self._last_handle >= HANDLE_MAX:
            raise NotExecuted("this node has used up its handles; restart it", code="skyloom.overloaded")
        self._last_handle += 1
        address = Address(self.name, self._last_handle)
        service = cls.__new__(cls)
        # Before __init__, so that a user's __init__ need not call ours and may already send.
        cell = service._cell = self.make_cell(address, service)
        service.__init__(*args, **kwargs)  # type: ignore[misc]  # the class is the user's, so are the arguments
        self.cells[address] = cell
        return service

    def make_cell(self, address: Address, service: Service) -> Cell:
        """The cell of a new service. Those who watch over its messages give it one of their own."""
        path = self._recordings.pop(type(service).name, None)
        if path is not None:
            from skyloom.testing.record import recorded_cell  # only when asked for

            return recorded_cell(self, address, service, path)
        return Cell(self, address, service)

    def record(self, name: str, path: str) -> None:
        """Record the next service of that class-level `name` to a file; see `skyloom.testing.record`."""
        self._recordings[name] = path

    async def spawn(self, cls: type[Service], *args: object, **kwargs: object) -> Address:
        """Start a service: make it, run its `on_start`, register its class's `name` if it has one.

        The arguments go to the class as they are; they do not cross a boundary. Raises NameTaken, or Failed with
        code ``skyloom.start_failed`` when `on_start` raises or takes longer than its `start_seconds`.
        """
        if cls.name is not None and self.names.find(cls.name) is not None:
            self.names.register(cls.name, Address(self.name, 0))  # raises NameTaken, and says by whom
        service = self._make(cls, args, kwargs)
        cell = service._cell
        if cls.on_start is not Service.on_start:
            await self._run_on_start(cell)
        if cls.name is not None:
            try:
                service.register(cls.name)
            except (NameTaken, ValueError):  # another one took it while this one started
                self.bury(cell, "did not start")
                raise
        cell.started = True
        cell.wake()
        return cell.address

    async def _run_on_start(self, cell: Cell) -> None:
        async def run() -> None:
            async with asyncio.timeout(cell.service.start_seconds):
                await cell.service.on_start()

        title = cell.service.title
        task = self.run_task(cell, run(), f"{title} on_start")
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            self.bury(cell, "killed while it started")
            raise
        error = None if task.cancelled() else task.exception()
        if error is None and cell.address in self.cells:
            return
        self.bury(cell, "did not start")
        if isinstance(error, Failed) and error.code == "skyloom.start_failed":
            raise error  # a supervisor's child did not start: that was logged, and is what there is to say
        if isinstance(error, Exception):
            log.error("service did not start", service=title, exc_info=error)
        raise Failed(
            f"{title} did not start: {repr(error) if error else 'it ended'}", code="skyloom.start_failed"
        ) from error

    async def unique(self, cls: type[Service], *args: object, **kwargs: object) -> Address:
        """The node's only service of this class, started on first use. The class needs a `name`."""
        if cls.name is None:
            raise ValueError(f"{cls.__name__} needs a class attribute `name` to be unique")
        found = self.names.find(cls.name)
        if found is not None:
            return found
        starting = self._starting.get(cls.name)
        if starting is None:
            spawning = self.spawn(cls, *args, **kwargs)
            starting = self._starting[cls.name] = self.run_task(self.root._cell, spawning, f"start {cls.name}")
            starting.add_done_callback(lambda _: self._starting.pop(str(cls.name), None))
        return await asyncio.shield(starting)

    def kill(self, address: Address) -> bool:
        """End a service at once, without its `on_stop`; its callers get Unknown. False if it is not alive here.

        A service of another node is asked to die; then the answer is always True.
        """
        cell = self.cells.get(address)
        if cell is not None:
            self.bury(cell, "was killed")
            return True
        return address.node != self.name and self.harbor.kill(address)

    def crash_service(self, cell: Cell, error: BaseException, poison: Message | None) -> None:
        """End a service at once, for its own fault; see `Service.crash`. `poison` is the message that did it."""
        if self.cells.get(cell.address) is not cell:
            return
        text = str(error) if isinstance(error, Crash) else f"{type(error).__name__}: {error}"
        log.error("service crashed", service=cell.service.title, reason=text, exc_info=error.__traceback__ and error)
        if poison is not None:
            self.dead_letters.add(self.clock.time(), cell.address, poison, "skyloom.crashed", traceback_text(error))
        self.bury(cell, f"crashed: {text}")

    def adopt(self, owner: Cell, child: Address) -> Cell:
        """Have a service end when `owner`, its supervisor, does. Raises NotExecuted when it has ended already."""
        cell = self.cells.get(child)
        if cell is None:
            raise NotExecuted(f"no service at {child}", code="skyloom.no_service")
        if owner.children is None:
            owner.children = {}
        owner.children[child] = cell
        cell.owner = owner
        return cell

    async def shut(self, address: Address, seconds: float | None) -> bool:
        """Have a service of this node exit, and kill it after so many seconds. True when it ended by itself."""
        cell = self.cells.get(address)
        if cell is None:
            return True
        self.exit(cell, None, seconds)
        ending = self._ending[address]
        await asyncio.wait([ending], timeout=seconds)
        if address not in self.cells:
            return True
        log.error("service did not stop in time and was killed", service=cell.service.title, seconds=seconds)
        self.bury(cell, "did not stop in time")
        ending.cancel()
        return False

    def exit(self, cell: Cell, keep: Message | None, seconds: float | None = None) -> None:
        """Have a service end: refuse what waits, fail what runs but for `keep`, await that, `on_stop`, bury it.

        `on_stop` may take so many seconds, or else the service's own `stop_seconds`.
        """
        if cell.ending:
            return
        started = cell.started
        cell.held()  # the answers in the mailbox may be what `keep` waits for
        cell.ending, cell.inline = True, False
        running = self.executor.running(cell, keep)
        leaving = {message: self.loop.create_future() for message in running}
        self.executor.leaving.update(leaving)
        self._refuse_mailbox(cell)
        self._fail_open(cell, "exited", keep if keep in leaving else None)
        ending = self.run_task(
            self.root._cell, self._end(cell, leaving, started, seconds), f"{cell.service.title} exit"
        )
        self._ending[cell.address] = ending
        ending.add_done_callback(lambda _: self._ending.pop(cell.address))

    async def _end(
        self, cell: Cell, leaving: dict[Message, asyncio.Future[None]], started: bool, seconds: float | None
    ) -> None:
        title = cell.service.title
        try:
            if leaving:
                _, stuck = await asyncio.wait(leaving.values(), timeout=STOP_SECONDS)
                if stuck:
                    log.error("service has handlers that do not end", service=title, handlers=len(stuck))
            if started:
                async with asyncio.timeout(cell.service.stop_seconds if seconds is None else seconds):
                    await cell.service.on_stop()
        except Exception as error:
            log.error("service did not stop cleanly", service=title, exc_info=error)
        finally:
            for message in leaving:
                self.executor.leaving.pop(message, None)
            self.bury(cell, EXITED)

    def bury(self, cell: Cell, how: str) -> None:
        """Take a service out of the world: nobody can reach it, and everybody who waits for it is told."""
        if self.cells.pop(cell.address, None) is None:
            return
        is_root = cell.started and cell.children is not None and cell.owner is None
        cell.ending, cell.inline, cell.started = True, False, False
        self._refuse_mailbox(cell)
        self._fail_open(cell, how, None)
        for child in reversed(list((cell.children or {}).values())):
            self.bury(child, "ended with its supervisor")
        if cell.owner is not None and cell.owner.children is not None:
            cell.owner.children.pop(cell.address, None)
        for task in list(cell.tasks or ()):
            task.cancel()
        waiting, cell.pending = cell.pending, None
        for pending in (waiting or {}).values():
            # Most who wait were just cancelled; tasks that the service does not own were not.
            pending.settle(Unknown(f"{cell.service.title} {how} while it waited for an answer"))
        cell.names = self.names.forget(cell.address)
        self.harbor.withdraw(cell.names, cell.address)
        for target in sorted(cell.watching or ()):
            self.unmonitor(cell.address, target)
        for watcher in sorted(self.monitors.pop(cell.address, ())):  # sorted, for a set's order does not repeat
            watching = self.cells.get(watcher)
            if watching is not None and watching.watching is not None:
                watching.watching.discard(cell.address)
            self.post(watcher, Message(int(Ptype.ERROR), cell.address, 0, (how,)))
        if is_root and how != EXITED:
            self.fail(f"{cell.service.title} {how}")

    def _refuse_mailbox(self, cell: Cell) -> None:
        mailbox, cell.mailbox, cell.mailbox_bytes = cell.mailbox, None, 0
        ended = NotExecuted(f"{cell.service.title} has ended", code="skyloom.service_ended")
        for message in mailbox or ():
            self.refuse(message, cell.address, ended)

    def _fail_open(self, cell: Cell, how: str, keep: Message | None) -> None:
        for message in list(cell.open or ()):
            if message is keep or not message.session:
                continue
            cell.release(message)
            message.taken = True
            self.answer(message, Unknown(f"{cell.service.title} {how} while it handled the call"))
        for worker in list(cell.workers or ()):
            if worker.message is not keep or keep is None:
                worker.task.cancel()

    def monitor(self, watcher: Address, target: Address) -> None:
        """Have `watcher` told, by its `on_down`, when `target` ends; at once if it is not alive."""
        if target.node == self.name:
            alive = target in self.cells
        else:
            alive = self.harbor.monitor(watcher, target)
        if alive:
            self.monitors.setdefault(target, set()).add(watcher)
            cell = self.cells.get(watcher)
            if cell is not None:
                if cell.watching is None:
                    cell.watching = set()
                cell.watching.add(target)
        else:
            self.post(watcher, Message(int(Ptype.ERROR), target, 0, ("is not alive",)))

    def unmonitor(self, watcher: Address, target: Address, *, tell: bool = True) -> None:
        """Take back `monitor`."""
        watchers = self.monitors.get(target)
        if watchers is None:
            return
        watchers.discard(watcher)
        cell = self.cells.get(watcher)
        if cell is not None and cell.watching is not None:
            cell.watching.discard(target)
        if not watchers:
            del self.monitors[target]
        cell = self.cells.get(watcher)
        if cell is not None and cell.watching is not None:
            cell.watching.discard(target)
        if tell and target.node != self.name:
            self.harbor.unmonitor(watcher, target)

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
        """A request was forwarded: if its caller lives here, the loss of `dest`'s node is what fails it from now on."""
        source = self.cells.get(request.source)
        pending = None if source is None or source.pending is None else source.pending.get(request.session)
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
