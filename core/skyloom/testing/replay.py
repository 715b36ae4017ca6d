"""Replay what `skyloom.testing.record` recorded.

replayed = replay("inventory.record", Inventory)
assert replayed.service.stock == ...        # as it was when the recording ended
"""

from __future__ import annotations

import asyncio
import types
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NoReturn

import msgpack

from skyloom.message import value
from skyloom.message.address import Address
from skyloom.message.errors import error_from_values
from skyloom.message.message import Message
from skyloom.node.node import Node
from skyloom.node.services import Services
from skyloom.testing.loop import SimLoop
from skyloom.testing.record import MAGIC, VERSION, Log, RecordedCell

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator
    from pathlib import Path

    from skyloom.node.cell import Cell
    from skyloom.service.service import Service

IDLE_TURNS_MAX: Final = 200
"""Turns of the loop without progress after which a replay has diverged."""


class ReplayDiverged(AssertionError):
    """The service did something else than in the recording. The text says what, and at which event."""


@dataclass(frozen=True, slots=True)
class Replayed:
    """What a replay came to: the service as it then was, and how many events it took."""

    service: Service
    events: int


class ReplayLog(Log):
    """Hands out the events of a file, one after the other."""

    def __init__(self, events: list[list[Any]], stop_at: int | None) -> None:
        self._events = events
        self._keys = 0
        self._stop_at = stop_at
        self.position = 0
        self.diverged: ReplayDiverged | None = None

    @property
    def next(self) -> list[Any] | None:
        """The event that comes next; None at the end."""
        return self._events[self.position] if self.position < len(self._events) else None

    def take(self) -> list[Any]:
        """Pass over an event."""
        event = self._events[self.position]
        self.position += 1
        if self.position == self._stop_at:
            breakpoint()  # asked for
        return event

    def put(self, *event: object) -> None:
        """The service did something; it must be what comes next. After the last event anything goes."""
        if self.next is None:
            return
        if list(event) != self.next:
            self._diverge(f"recorded {_shown(self.next)}, replayed {_shown(event)}")
        self.take()

    def _diverge(self, how: str) -> NoReturn:
        """End the replay, also where the service catches what is raised in it."""
        self.diverged = self.diverged or ReplayDiverged(f"event {self.position + 1}: {how}")
        raise self.diverged

    def look(self, what: str, read: Callable[[], float]) -> float:
        if self.next is None:
            return 0.0
        if self.next[0] != what:
            self._diverge(f"recorded {_shown(self.next)}, replayed a look at {what}")
        seen: float = self.take()[1]
        return seen

    async def result(self, what: str, coroutine: Coroutine[Any, Any, Any]) -> Any:
        coroutine.close()
        key = self.key()
        await self._until_given(key)
        event = self.take()
        values = value.unpack(event[3])
        if event[0] == "failed":
            raise error_from_values(values)
        return values[0]

    @types.coroutine
    def _until_given(self, key: int) -> Generator[None, None, None]:
        while self.next is None or self.next[0] not in ("gave", "failed") or self.next[1] != key:
            yield

    def turn(self, key: int) -> Generator[None, None, None]:
        while self.next is not None and self.next != ["step", key]:
            yield
        if self.next is not None:
            self.take()


class _Timer:
    def __init__(self, callback: Callable[..., object], args: tuple[Any, ...]) -> None:
        self.callback, self.args = callback, args

    def cancel(self) -> None:
        self.callback = lambda *_: None


class ReplayClock:
    """Says what the recorded clock said, and fires timers when they fired."""

    def __init__(self, log: ReplayLog) -> None:
        self._log = log
        self.timers: dict[int, _Timer] = {}

    def now(self) -> float:
        return self._log.look("now", float)

    def time(self) -> float:
        return self._log.look("time", float)

    def call_at(self, when: float, callback: Callable[..., object], *args: Any) -> _Timer:
        timer = self.timers[self._log.key()] = _Timer(callback, args)
        return timer


class ReplayServices(Services):
    """The services of a `ReplayNode`: the one that is replayed, and the root."""

    _node: ReplayNode

    def make_cell(self, address: Address, service: Service) -> Cell:
        node = self._node
        if node._root is None:
            return super().make_cell(address, service)
        return RecordedCell(node, address, service, node.log, node.replayed, node.seed)

    def monitor(self, watcher: Address, target: Address) -> None:
        """What was told of it is in the recording."""


class ReplayNode(Node):
    """A node that holds the one service; whatever it sends goes nowhere."""

    services_type = ReplayServices
    log: ReplayLog
    replayed: ReplayClock
    seed: int
    handle: int

    async def start(self) -> None:
        """Start it; outside the service's own code it is always 0 o'clock, so that nothing is ever too late."""
        await super().start()
        self.now = lambda: 0.0

    def post(self, dest: Address, message: Message) -> None:
        """Nowhere: answers come from the recording."""

    def post_named(self, *_: Any) -> None:
        """Nowhere."""

    def answer(self, message: Message, outcome: Any) -> None:
        """Nowhere either."""


def read(path: str | Path) -> tuple[list[Any], list[list[Any]]]:
    """The head and the events of a recording. Raises ValueError for another file; a torn end is left out."""
    with open(path, "rb") as file:
        unpacker = msgpack.Unpacker(file, strict_map_key=False, max_buffer_size=0)
        events: list[list[Any]] = []
        try:
            events.extend(unpacker)
        except msgpack.OutOfData:
            pass
    if not events or events[0][:2] != [MAGIC, VERSION]:
        raise ValueError(f"{path}: not a recording of version {VERSION}")
    return events[0], events[1:]


def replay(
    path: str | Path,
    cls: type[Service],
    args: tuple[object, ...] | None = None,
    *,
    break_at: int | None = None,
) -> Replayed:
    """Replay a recording into a fresh instance of a class.

    `args` are the constructor's, when those recorded are not values or others are wished; `break_at` opens the
    debugger at the event of that number. Raises ReplayDiverged, and ValueError for a file that is no recording.
    """
    head, events = read(path)
    with asyncio.Runner(loop_factory=SimLoop) as runner:
        return runner.run(_replay(head, events, cls, args, break_at))


async def _replay(
    head: list[Any], events: list[list[Any]], cls: type[Service], args: tuple[object, ...] | None, break_at: int | None
) -> Replayed:
    _, _, _, name, handle, seed, env, given = head
    node = ReplayNode(name, env=env, watch_loop=False)
    node.log = ReplayLog(events, break_at)
    node.replayed = ReplayClock(node.log)
    node.seed = seed
    await node.start()
    node.services.last_handle = handle - 1
    kwargs: dict[str, Any] = {}
    if args is None:
        if given is None:
            raise ValueError("the recorded constructor arguments were no values: give them as `args`")
        args, kwargs = value.unpack(given)
    starting = asyncio.ensure_future(node.spawn(cls, *args, **kwargs))
    address = Address(name, handle)
    try:
        await _drive(node, address)
        service = node.cells[address].service
        await asyncio.sleep(0)  # noqa: TID251  # one turn, for what the last event woke
    finally:
        node.log.position = len(events)  # nothing waits for its turn any more
        starting.cancel()
    return Replayed(service, len(events))


async def _drive(node: ReplayNode, address: Address) -> None:
    """Hand in what came from outside; all else is the service's own doing, and takes its place by itself."""
    log, idle, seen = node.log, 0, -1
    while (event := log.next) is not None:
        if log.diverged is not None:
            raise log.diverged
        cell = node.cells.get(address)
        if cell is not None and (event[0] != "message" or cell.started) and _hand_in(node, cell, event):
            idle = 0
            continue
        idle = 0 if log.position != seen else idle + 1
        seen = log.position
        if idle > IDLE_TURNS_MAX:
            raise ReplayDiverged(f"event {log.position + 1}: recorded {_shown(event)}, replayed nothing")
        await asyncio.sleep(0)  # noqa: TID251  # one turn


def _hand_in(node: ReplayNode, cell: Cell, event: list[Any]) -> bool:
    """Hand in an event from outside. False for one of the service's own."""
    log = node.log
    kind = event[0]
    if kind == "message":
        if cell.mailbox:
            return False  # it was handed in, and is about to start
        _, ptype, source, handle, session, packed, payload, deadline, trace = event
        message = Message(
            ptype, Address(source, handle), session, payload if packed else value.unpack(payload), deadline, trace
        )
        cell.enqueue(message)
        return False
    if kind == "timer":
        timer = node.replayed.timers.pop(event[1], None)
        if timer is None:
            raise ReplayDiverged(f"event {log.position + 1}: recorded timer {event[1]}, which was not set")
        log.take()
        timer.callback(*timer.args)
        return True
    if kind == "answer":
        _, session, how, data = event
        unpacked: Any = data if how == "packed" else value.unpack(data)
        cell._settle(session, error_from_values(unpacked) if how == "error" else unpacked)
        return True
    return False


def _shown(event: Any) -> str:
    return repr(tuple(event))[:200]
