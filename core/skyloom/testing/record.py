"""Record what one service received, and replay it into a fresh instance, bit for bit.

    node.record("INVENTORY", "inventory.record")      # before the service is spawned
    skyloom gateway my_shop:app --record INVENTORY=inventory.record
    skyloom replay inventory.record my_shop:Inventory  # the same again, as often as you like, under a debugger too

The file is a stream of msgpack arrays. The first names the class, its arguments and the seed of its chance. Each of
the others is one thing that happened to the service, in the one order in which they happened: a message started, an
answer came, a timer fired, the clock said so, a handler went on, a message went out. The replay hands in the same
things in the same order, and compares what goes out; where the service does something else it raises
`ReplayDiverged`.

Covered: `on_start`, rpc methods and raw handlers, what the service monitors (`on_down`), `call`, `send`, `select`,
`fork`, `timeout`, `sleep`, `wait`/`wakeup`, `queue`; what `query`, `spawn`, `unique` and `kill` gave; every look at
`clock` and all of `random`, which is the service's own while it is recorded; `getenv`; constructor arguments that are
values (others are given to `replay` by hand).

Known fault: recordings made in real time of a service that awaits `query` with `wait`, `select` and very short timeouts
at once have been seen to diverge in the replay; recordings made in virtual time were not.

Not covered: tasks that the service makes by other ways than `fork` (`asyncio.gather` and `TaskGroup` run, but the order
of their tasks is not recorded), threads, sockets, files, databases, `time` and `random` used directly, real time of
`asyncio.timeout`, and what follows the service's end. A class whose code has changed since diverges where it differs. A
recorded service answers no call inside its caller, so it is slower while it is recorded.
"""

from __future__ import annotations

import random
import types
import weakref
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import msgpack

from skyloom.message import value
from skyloom.message.errors import CallError, ValueRefused, error_to_values
from skyloom.node.cell import Cell
from skyloom.node.pending import OPEN, Pending

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Coroutine, Generator
    from pathlib import Path

    from skyloom.message.address import Address
    from skyloom.message.message import Message
    from skyloom.message.protocol import Protocol
    from skyloom.node.clock import Clock, Timer
    from skyloom.node.node import Node
    from skyloom.service.service import Service

MAGIC: Final = "skyloom record"
VERSION: Final = 1
SEED_BITS: Final = 64


class Log:
    """Where a recorded service's events go. A replay has one that hands them out again."""

    inside = False
    """Whether a coroutine of the service is running."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._keys = 0

    def key(self) -> int:
        """A number for a coroutine, a timer or a question, the same in the replay."""
        self._keys += 1
        return self._keys

    def put(self, *event: object) -> None:
        """Note what came in or went out."""
        self._file.write(msgpack.packb(event))

    def look(self, what: str, read: Callable[[], float]) -> float:
        """A value of the clock."""
        seen = read()
        self.put(what, seen)
        return seen

    async def result(self, what: str, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """What a question to the node gave."""
        key = self.key()
        try:
            given = await coroutine
        except CallError as error:
            self.put("failed", key, what, value.pack(error_to_values(error)))
            raise
        self.put("gave", key, what, value.pack((given,)))
        return given

    @types.coroutine
    def steps(self, coroutine: Any, key: int) -> Generator[Any, Any, Any]:
        """Run a coroutine of the service, noting each time that it goes on."""
        sent: object = None
        thrown: BaseException | None = None
        while True:
            yield from self.turn(key)
            self.inside = True
            try:
                awaited = coroutine.send(sent) if thrown is None else coroutine.throw(thrown)
            except StopIteration as stop:
                return stop.value
            finally:
                self.inside = False
            sent = thrown = None
            try:
                sent = yield awaited
            except GeneratorExit:
                coroutine.close()
                raise
            except BaseException as error:  # noqa: BLE001  # whatever it is belongs to the coroutine
                thrown = error

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
        return self._clock.call_at(when, self._fire, self._log.key(), callback, args)

    def _fire(self, key: int, callback: Callable[..., object], args: tuple[Any, ...]) -> None:
        self._log.put("timer", key)
        callback(*args)


class RecordedNode:
    """The node as a recorded service sees it: what it asks is noted, everything else is the node's own."""

    def __init__(self, node: Node, log: Log, clock: Clock, chance: random.Random) -> None:
        self._node, self._log = node, log
        self.clock = clock
        self.random = chance

    def __getattr__(self, name: str) -> Any:
        return getattr(self._node, name)

    def now(self) -> float:
        return self._log.look("now", self._node.now) if self._log.inside else self._node.now()

    async def find(self, name: str, wait: float) -> Any:
        return await self._log.result("query", self._node.find(name, wait))

    async def spawn(self, cls: type[Service], *args: object, **kwargs: Any) -> Any:
        return await self._log.result("spawn", self._node.spawn(cls, *args, **kwargs))

    async def unique(self, cls: type[Service], *args: object, **kwargs: object) -> Any:
        return await self._log.result("unique", self._node.unique(cls, *args, **kwargs))

    def kill(self, address: Address) -> bool:
        return bool(self._log.look("kill", lambda: float(self._node.kill(address))))

    def run_task(
        self, cell: Cell, coroutine: Coroutine[Any, Any, Any], name: str, request: Message | None = None
    ) -> asyncio.Task[Any]:
        return self._node.run_task(cell, noted(self._log, coroutine, self._log.key()), name, request)


async def noted(log: Log, coroutine: Coroutine[Any, Any, Any], key: int) -> Any:
    """A coroutine of the service, its steps noted under a number that was drawn when it was made."""
    try:
        return await log.steps(coroutine, key)
    finally:
        coroutine.close()  # it has not begun when it was cancelled before its first step


class RecordedCell(Cell):
    """A cell that notes all that goes in and out."""

    __slots__ = ("log",)

    def __init__(self, node: Node, address: Address, service: Service, log: Log, clock: Clock, seed: int) -> None:
        super().__init__(node, address, service)
        self.log = log
        self.quick_rpc = False  # every handler is begun by `begin`
        self.node = RecordedNode(node, log, clock, random.Random(seed))  # type: ignore[assignment]  # stands for it
        on_start = service.on_start
        service.on_start = lambda: noted(log, on_start(), log.key())  # type: ignore[method-assign]  # of this instance

    @property
    def inline(self) -> bool:
        """Never: what runs inside its caller would pass us by."""
        return False

    @inline.setter
    def inline(self, inline: bool) -> None:
        pass

    def add_handler(self, ptype: int, handler: Callable[..., Coroutine[Any, Any, object]], *, unpack: bool) -> None:
        super().add_handler(ptype, handler, unpack=unpack)
        self.quick, self.quick_rpc = None, False

    def begin(self, message: Message) -> Any:
        self._note_message(message)
        key = self.log.key()
        return self.log.steps(super().begin(message), key)

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
        super()._settle(session, outcome)

    # -- going out: never inside the callee, so that its answer comes in by `_settle` -------------------------

    async def call(self, dest: Address, ptype: str | int, args: tuple[object, ...], timeout: float | None) -> Any:
        message, protocol = self.request(dest, ptype, args, timeout)
        pending = self._sent(message, dest, protocol)
        if pending.outcome is OPEN:
            future: asyncio.Future[None] = self.node.loop.create_future()
            pending.on_settled = lambda _: None if future.done() else future.set_result(None)
            try:
                await future
            finally:
                if pending.outcome is OPEN:
                    self.forget(message.session)
        return pending.result()

    def ask(
        self,
        dest: Address,
        ptype: str | int,
        args: tuple[object, ...],
        timeout: float | None,
        settled: Callable[[Any, CallError | None], object],
    ) -> None:
        message, protocol = self.request(dest, ptype, args, timeout)
        self._sent(message, dest, protocol).hand_to(settled)

    def _sent(self, message: Message, dest: Address, protocol: Protocol) -> Pending:
        self.note_out(dest, message.ptype, message.payload)
        pending = self.expect(message, dest, protocol)
        self.node.post(dest, message)
        return pending

    def send(self, dest: Address | str, ptype: str | int, args: tuple[object, ...]) -> None:
        self.note_out(dest, self.protocol(ptype).id, self.protocol(ptype).to_payload(args))
        super().send(dest, ptype, args)

    def note_out(self, dest: Address | str, ptype: int, payload: bytes | tuple[object, ...]) -> None:
        """A message goes out; its payload is compared in a replay."""
        packed = payload if type(payload) is bytes else value.pack(payload)  # type: ignore[arg-type]  # a tuple
        where = (dest, 0) if isinstance(dest, str) else (dest.node, dest.handle)
        self.log.put("out", *where, ptype, packed)


def recorded_cell(node: Node, address: Address, service: Service, path: str | Path) -> RecordedCell:
    """The cell of a service that is to be recorded to a file; `Node.record` says when."""
    file = open(path, "wb", buffering=0)  # noqa: SIM115  # open as long as the service lives; nothing is lost in a crash
    log = Log(file)
    weakref.finalize(log, file.close)
    seed = node.random.getrandbits(SEED_BITS)
    cls = type(service)

    def init(*args: object, **kwargs: object) -> None:
        try:
            given: bytes | None = value.pack((args, kwargs))
        except ValueRefused:
            given = None
        name = f"{cls.__module__}:{cls.__qualname__}"
        log.put(MAGIC, VERSION, name, node.name, address.handle, seed, node.env, given)
        del service.__dict__["__init__"]
        cls.__init__(service, *args, **kwargs)

    service.__dict__["__init__"] = init
    return RecordedCell(node, address, service, log, RecordedClock(node.clock, log), seed)
