"""Record what one service received, and replay it into a fresh instance, bit for bit.

    node.record("INVENTORY", "inventory.record")      # before the service is spawned
    skyloom gateway my_shop:app --record INVENTORY=inventory.record
    skyloom replay inventory.record my_shop:Inventory  # the same again, as often as you like, under a debugger too

The file is a stream of msgpack arrays. The first names the class, its arguments and the seed of its chance. Each of
the others is one thing that happened to the service, in the one order in which they happened: a message started, an
answer came, a timer fired, the clock said so, a handler went on, a message went out. The replay hands in the same
things in the same order, and compares what goes out; where the service does something else it raises
`ReplayDiverged`.

Covered, in virtual and in real time: `on_start`, rpc methods and raw handlers, what the service monitors (`on_down`),
`call`, `send`, `select`, `fork`, `timeout`, `sleep`, `wait`/`wakeup`, `queue`; what `query`, `spawn`, `unique`,
`register` and `kill` gave; every look at `clock` and all of `random`, which is the service's own while it is recorded;
`getenv`; `asyncio.timeout`, `sleep`, `gather`, `wait`, `wait_for`, `TaskGroup`, `Event`, `Lock`, `Queue` and the loop's
own timers and `time()`; the order of all steps and callbacks of the service's tasks; constructor arguments that are
values (others are given to `replay` by hand). What handlers answer is compared, too.

Not covered, and said so: threads, sockets, databases, subprocesses, and tasks and futures of others. When the service
goes on because of one of them, that is logged as an error, the recording ends, and its replay is refused with
`NotReplayable`, which names the line. The service itself goes on. (So the chat's hub, which awaits its database, cannot
be recorded.) Not covered, and not noticed until something differs: files and `os`, `time`, `random` and `uuid` used
directly, `id`, the order of sets of texts or objects, what other objects in this process share with the service, when
the garbage collector runs. What follows the service's end, `on_stop` included, is not recorded.

A class whose code has changed since diverges where it differs; so may another version of Python. A recorded service
answers no call inside its caller, so it is slower while it is recorded; and its node's loop notes what it is asked, for
which its methods are replaced, until the loop is closed.
"""

from __future__ import annotations

import asyncio
import random
import types
import weakref
from functools import partial
from typing import TYPE_CHECKING, Any, BinaryIO, Final
from weakref import WeakSet

import msgpack
import structlog

from skyloom.message import value
from skyloom.message.errors import CallError, NameTaken, ValueRefused, error_to_values
from skyloom.node.cell import Cell
from skyloom.node.executor import Executor
from skyloom.testing.noted_loop import Inside, Noted, Probe, drop, is_own_task, listen, running

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator
    from pathlib import Path

    from skyloom.message.address import Address
    from skyloom.message.message import Message
    from skyloom.message.protocol import Protocol
    from skyloom.node.clock import Clock, Timer
    from skyloom.node.node import Node
    from skyloom.node.pending import Pending
    from skyloom.service.service import Service

MAGIC: Final = "skyloom record"
VERSION: Final = 2
SEED_BITS: Final = 64

log = structlog.get_logger("skyloom.record")


class Log:
    """Where a recorded service's events go. A replay has one that hands them out again."""

    over = False
    """Whether nothing is noted any more: the service has ended, or what it does cannot be recorded."""

    def __init__(self, file: BinaryIO, node: Node, address: Address) -> None:
        self._file, self._node, self._address = file, node, address
        self.seed = node.random.getrandbits(SEED_BITS)
        self._keys = 0
        self._asking: WeakSet[Any] = WeakSet()

    def begin(self, cls: type[Service], args: tuple[object, ...], kwargs: dict[str, Any]) -> None:
        """Write what a replay needs to know before the first event."""
        try:
            given: bytes | None = value.pack((args, kwargs))
        except ValueRefused:
            given = None
        name, node = f"{cls.__module__}:{cls.__qualname__}", self._node
        self.put(MAGIC, VERSION, name, node.name, self._address.handle, self.seed, node.env, given)

    def key(self) -> int:
        """A number for a coroutine, a timer, a callback or a question, the same in the replay."""
        self._keys += 1
        return self._keys

    def put(self, *event: object) -> None:
        """Note what came in or went out."""
        if not self.over:
            self._file.write(msgpack.packb(event))

    def end(self, *event: object) -> None:
        """The last thing to note."""
        self.put(*event)
        self.over = True

    def came_from_outside(self, where: str) -> None:
        """The service went on because of something that is not in the recording, which therefore ends here."""
        if not self.over:
            log.error(
                "a recording ends: the service awaits what cannot be recorded", service=str(self._address), where=where
            )
            self.end("outside", where)

    def look(self, what: str, read: Callable[[], float]) -> float:
        """A value of the clock."""
        with Inside(None):
            seen = read()
        self.put(what, seen)
        return seen

    def timer(self, start: Callable[..., Any], callback: Callable[..., object], args: tuple[Any, ...]) -> Any:
        """Set a timer: ``start(function, ...)`` does."""
        key = self.key()
        with Inside(None):
            return start(self._fire, key, callback, args)

    def _fire(self, key: int, callback: Callable[..., object], args: tuple[Any, ...]) -> None:
        self.put("timer", key)
        with Inside(self):
            callback(*args)

    def callback(self, noted: Noted, args: tuple[Any, ...]) -> None:
        """A callback's turn has come."""
        self.put("callback", noted.key)
        noted.run(args)

    def ask(self, what: str, ask: Callable[[], None]) -> None:
        """Ask the node for something that it may refuse."""
        if running() is not self:
            ask()
            return
        try:
            with Inside(None):
                ask()
        except (NameTaken, ValueError) as error:
            self.put(what, type(error).__name__, str(error))
            raise
        self.put(what, None, "")

    async def result(self, what: str, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """What a question to the node gave."""
        key = self.key()
        try:
            given = await self._outside(coroutine)
        except CallError as error:
            self.put("failed", key, what, value.pack(error_to_values(error)))
            raise
        except Exception as error:
            self.put("raised", key, what, type(error).__name__, str(error))
            raise
        self.put("gave", key, what, value.pack((given,)))
        return given

    @types.coroutine
    def _outside(self, coroutine: Any) -> Generator[Any, Any, Any]:
        """Run a coroutine of the node's, in the service's task."""
        sent: object = None
        thrown: BaseException | None = None
        while True:
            try:
                with Inside(None):
                    awaited = coroutine.send(sent) if thrown is None else coroutine.throw(thrown)
            except StopIteration as stop:
                return stop.value
            if awaited is not None:
                self._asking.add(awaited)
            sent = thrown = None
            try:
                sent = yield awaited
            except GeneratorExit:
                coroutine.close()
                raise
            except BaseException as error:  # noqa: BLE001  # whatever it is belongs to the coroutine
                thrown = error

    @types.coroutine
    def steps(self, coroutine: Any, key: int) -> Generator[Any, Any, Any]:
        """Run a coroutine of the service, noting each time that it goes on."""
        sent: object = None
        thrown: BaseException | None = None
        begun = False
        while True:
            try:
                yield from self.turn(key)
            except asyncio.CancelledError as error:  # in a replay, between the end of its wait and its turn
                if not begun or self.over:
                    drop(coroutine)
                    raise
                thrown = error
                continue
            begun = True
            try:
                with Inside(self):
                    awaited = coroutine.send(sent) if thrown is None else coroutine.throw(thrown)
            except StopIteration as stop:
                return stop.value
            sent = thrown = None
            self.watch(awaited, coroutine)
            try:
                sent = yield awaited
            except GeneratorExit:
                coroutine.close()
                raise
            except BaseException as error:  # noqa: BLE001  # whatever it is belongs to the coroutine
                thrown = error

    async def noted(self, coroutine: Any, key: int) -> Any:
        """A coroutine of the service, its steps noted under a number that was drawn when it was made."""
        try:
            return await self.steps(coroutine, key)
        finally:
            drop(coroutine)  # it has not begun when it was cancelled before its first step

    def watch(self, awaited: Any, coroutine: Any) -> None:
        """The service is about to wait: see to it that what ends the wait is in the recording."""
        if asyncio.isfuture(awaited) and not is_own_task(awaited) and awaited not in self._asking and not self.over:
            awaited.add_done_callback(Probe(self, coroutine))

    def turn(self, key: int) -> Generator[None, None, None]:
        """Before a coroutine goes on. A replay lets it wait here until that is what came next."""
        self.put("step", key)
        yield from ()


class RecordedClock:
    """The node's clock; every look and every timer is noted."""

    def __init__(self, clock: Clock, log: Log) -> None:
        self._clock, self._log = clock, log

    def now(self) -> float:
        return self._log.look("now", self._clock.now)

    def time(self) -> float:
        return self._log.look("time", self._clock.time)

    def call_at(self, when: float, callback: Callable[..., object], *args: Any) -> Timer:
        timer: Timer = self._log.timer(partial(self._clock.call_at, when), callback, args)
        return timer


class RecordedNode:
    """The node as a recorded service sees it: what it asks is noted, everything else is the node's own."""

    def __init__(self, node: Node, log: Log, chance: random.Random) -> None:
        self._node, self._log = node, log
        self.clock = RecordedClock(node.clock, log)
        self.random = chance

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._node, name)
        if not isinstance(found, types.MethodType):
            return found

        def outside(*args: Any, **kwargs: Any) -> Any:
            with Inside(None):
                return found(*args, **kwargs)

        return outside

    def now(self) -> float:
        return self._log.look("now", self._node.now) if running() is self._log else self._node.now()

    async def find(self, name: str, wait: float) -> Any:
        return await self._log.result("query", self._node.find(name, wait))

    async def spawn(self, cls: type[Service], *args: object, **kwargs: Any) -> Any:
        return await self._log.result("spawn", self._node.spawn(cls, *args, **kwargs))

    async def unique(self, cls: type[Service], *args: object, **kwargs: object) -> Any:
        return await self._log.result("unique", self._node.unique(cls, *args, **kwargs))

    def register(self, name: str, address: Address) -> None:
        self._log.ask("register", partial(self._node.register, name, address))

    def kill(self, address: Address) -> bool:
        return bool(self._log.look("kill", lambda: float(self._node.kill(address))))

    def run_task(
        self, cell: Cell, coroutine: Coroutine[Any, Any, Any], name: str, request: Message | None = None
    ) -> asyncio.Task[Any]:
        with Inside(self._log):  # so that the loop knows whose task it is
            return self._node.run_task(cell, coroutine, name, request)


class RecordedCell(Cell):
    """A cell that notes all that goes in and out."""

    __slots__ = ("_ending", "log")

    def __init__(self, node: Node, address: Address, service: Service, log: Log) -> None:
        self.log = log
        super().__init__(node, address, service)
        listen(node.loop)
        self.quick_rpc = False  # every handler is begun by `begin`
        self.executor = Executor(node)  # only looked at by calls of ours, to learn that none may be stepped
        self.executor.inline_left = 0
        self.node = RecordedNode(node, log, random.Random(log.seed))  # type: ignore[assignment]  # stands for it
        cls, on_start = type(service), service.on_start
        service.on_start = lambda: log.noted(on_start(), log.key())  # type: ignore[method-assign]  # of this instance

        def init(*args: object, **kwargs: object) -> None:
            del service.__dict__["__init__"]
            log.begin(cls, args, kwargs)
            with Inside(log):
                cls.__init__(service, *args, **kwargs)

        service.__dict__["__init__"] = init

    @property
    def ending(self) -> bool:
        """Whether the service ends, and its recording with it."""
        return self._ending

    @ending.setter
    def ending(self, ending: bool) -> None:
        self._ending = ending
        if ending:
            self.log.end("ended")

    @property
    def inline(self) -> bool:
        """Never: what runs inside its caller would pass us by."""
        return False

    @inline.setter
    def inline(self, inline: bool) -> None:
        pass

    def take_back(self, message: Message) -> bool:
        """Never, for the same reason."""
        return False

    def add_handler(self, ptype: int, handler: Callable[..., Coroutine[Any, Any, object]], *, unpack: bool) -> None:
        super().add_handler(ptype, handler, unpack=unpack)
        self.quick, self.quick_rpc = None, False

    def begin(self, message: Message) -> Any:
        self._note_message(message)
        key = self.log.key()
        return self._handle(super().begin(message), key)

    @types.coroutine
    def _handle(self, handler: Any, key: int) -> Generator[Any, Any, Any]:
        try:
            answer = yield from self.log.steps(handler, key)
        except Exception as error:
            self.log.put("erred", key, error.code if isinstance(error, CallError) else type(error).__name__)
            raise
        try:
            packed: bytes | None = value.pack((answer,))
        except ValueRefused:
            packed = None
        self.log.put("answered", key, packed)
        return answer

    def _note_message(self, message: Message) -> None:
        payload, source = message.payload, message.source
        packed = type(payload) is bytes
        self.log.put(
            "message",
            message.ptype,
            source.node,
            source.handle,
            message.session,
            packed,
            payload if type(payload) is bytes else value.pack(payload),  # type: ignore[arg-type]  # a tuple
            message.deadline,
            message.trace,
        )

    def _settle(self, session: int, outcome: object) -> None:
        if isinstance(outcome, CallError):
            self.log.put("answer", session, "error", value.pack(error_to_values(outcome)))
        elif type(outcome) is bytes:
            self.log.put("answer", session, "packed", outcome)
        else:
            self.log.put("answer", session, "values", value.pack(outcome))  # type: ignore[arg-type]  # a tuple
        with Inside(self.log):
            super()._settle(session, outcome)

    # -- going out: never inside the callee, so that its answer comes in by `_settle` -------------------------

    def post(self, message: Message, dest: Address, protocol: Protocol) -> Pending:
        self.note_out(dest, message.ptype, message.payload)
        return super().post(message, dest, protocol)

    def send(self, dest: Address | str, ptype: str | int, args: tuple[object, ...]) -> None:
        self.note_out(dest, self.protocol(ptype).id, self.protocol(ptype).to_payload(args))
        with Inside(None):
            super().send(dest, ptype, args)

    def note_out(self, dest: Address | str, ptype: int, payload: bytes | tuple[object, ...]) -> None:
        """A message goes out; its payload is compared in a replay."""
        packed = payload if type(payload) is bytes else value.pack(payload)  # type: ignore[arg-type]  # a tuple
        where = (dest, 0) if isinstance(dest, str) else (dest.node, dest.handle)
        self.log.put("out", *where, ptype, packed)


def recorded_cell(node: Node, address: Address, service: Service, path: str | Path) -> RecordedCell:
    """The cell of a service that is to be recorded to a file; `Node.record` says when."""
    file = open(path, "wb", buffering=0)  # noqa: SIM115  # open as long as the service lives; nothing is lost in a crash
    log = Log(file, node, address)
    weakref.finalize(log, file.close)
    return RecordedCell(node, address, service, log)
