"""Replay what `skyloom.testing.record` recorded.

replayed = replay("inventory.record", Inventory)
assert replayed.service.stock == ...        # as it was when the recording ended
"""

from __future__ import annotations

import asyncio
import builtins
import types
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NoReturn

import msgpack

from skyloom.message import value
from skyloom.message.address import Address
from skyloom.message.errors import NameTaken, error_from_values
from skyloom.message.message import Message
from skyloom.node.node import Node
from skyloom.node.services import Services
from skyloom.testing.noted_loop import Inside, Noted, running
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
    """What a replay came to: the service as it then was, how many events it took, and how the service ended, as in
    "crashed: ValueError: no such item"; None for one that still lived, left or was ended by others.
    """

    service: Service
    events: int
    ended: str | None = None


class NotReplayable(ValueError):
    """The service awaited something of which a recording knows nothing. The text says where."""


class ReplayLog(Log):
    """Hands out the events of a file, one after the other."""

    def __init__(self, events: list[list[Any]], seed: int, stop_at: int | None) -> None:
        self._events = events
        self._keys = 0
        self._stop_at = stop_at
        self.seed = seed
        self.position = 0
        self.diverged: ReplayDiverged | None = None
        self.timers: dict[int, _Timer] = {}
        self.callbacks: dict[int | str, tuple[Noted, tuple[Any, ...]]] = {}

    def begin(self, cls: type[Service], args: tuple[object, ...], kwargs: dict[str, Any]) -> None:
        """The head was read before."""

    @property
    def next(self) -> list[Any] | None:
        """The event that comes next; None at the end."""
        return self._events[self.position] if self.position < len(self._events) else None

    def take(self) -> list[Any]:
        """Pass over an event. Past the last one the service stands still: what it did then is not known."""
        if self.next is None:
            raise asyncio.CancelledError("the recording ends here")
        event = self._events[self.position]
        self.position += 1
        if self.position == self._stop_at:
            breakpoint()  # asked for
        return event

    def put(self, *event: object) -> None:
        """The service did something; it must be what comes next."""
        if self.over:
            return
        if self.next is not None and list(event) != self.next:
            self._diverge(f"recorded {_shown(self.next)}, replayed {_shown(event)}")
        self.take()

    def end(self, *event: object) -> None:
        if not self.over and self.next is not None:
            self.put(*event)
        self.over = True

    def _diverge(self, how: str) -> NoReturn:
        """End the replay, also where the service catches what is raised in it."""
        self.diverged = self.diverged or ReplayDiverged(f"event {self.position + 1}: {how}")
        raise self.diverged

    def _taken(self, *whats: str) -> list[Any]:
        if self.next is not None and self.next[0] not in whats:
            self._diverge(f"recorded {_shown(self.next)}, replayed {whats[0]}")
        return self.take()

    def look(self, what: str, read: Callable[[], float]) -> float:
        if self.over:
            return 0.0
        seen: float = self._taken(what)[1]
        return seen

    def timer(self, start: Callable[..., Any], callback: Callable[..., object], args: tuple[Any, ...]) -> Any:
        timer = self.timers[self.key()] = _Timer(callback, args)
        return timer

    def callback(self, noted: Noted, args: tuple[Any, ...]) -> None:
        """Its turn may not have come yet."""
        self.callbacks[noted.key] = noted, args
        if self.over:
            self.stop()

    def stop(self) -> None:
        """The replay is over: nothing waits for its turn any more, and nothing of the service's own runs."""
        self.over = True
        callbacks, self.callbacks = self.callbacks, {}
        for noted, args in callbacks.values():
            if str(getattr(noted.callback, "__module__", "")).startswith("asyncio."):
                noted.run(args)  # `gather`'s: without it the handler that waits for it could not be cancelled
            for arg in args:
                if hasattr(arg, "send"):  # an abandoned generator's last step, which nobody will take
                    arg.close()

    def ask(self, what: str, ask: Callable[[], None]) -> None:
        if running() is not self:
            ask()
            return
        _, name, text = self._taken(what)
        if name is not None:
            raise self._again(name, text)

    def _again(self, name: str, text: str) -> Exception:
        """An exception that is no CallError."""
        error = NameTaken if name == NameTaken.__name__ else getattr(builtins, name, None)
        if isinstance(error, type) and issubclass(error, Exception):
            return error(text)
        return NotReplayable(f"event {self.position}: recorded {name}: {text}, which cannot be raised again")

    async def result(self, what: str, coroutine: Coroutine[Any, Any, Any]) -> Any:
        coroutine.close()
        key = self.key()
        await self._until_given(key)
        event = self.take()
        if event[0] == "raised":
            raise self._again(event[3], event[4])
        values = value.unpack(event[3])
        if event[0] == "failed":
            raise error_from_values(values)
        return values[0]

    @types.coroutine
    def _until_given(self, key: int) -> Generator[None, None, None]:
        while self.next is None or self.next[0] not in ("gave", "failed", "raised") or self.next[1] != key:
            yield

    def watch(self, awaited: Any, coroutine: Any) -> None:
        """What came from outside is not replayed at all."""

    def turn(self, key: int) -> Generator[None, None, None]:
        event = ["step", key]
        while self.next != event:
            if self.over:
                raise asyncio.CancelledError("the replay is over")
            yield
        self.take()


class _Timer:
    """Set by the service; fires when the recording says so."""

    def __init__(self, callback: Callable[..., object], args: tuple[Any, ...]) -> None:
        self._callback, self._args = callback, args
        self._cancelled = False

    def cancel(self) -> None:
        self._cancelled = True

    def cancelled(self) -> bool:
        return self._cancelled

    def fire(self) -> None:
        if not self._cancelled:
            self._callback(*self._args)


class ReplayLoop(asyncio.SelectorEventLoop):
    """A loop for which it is always 0 o'clock: what happens when is in the recording."""

    def time(self) -> float:
        return 0.0


class ReplayServices(Services):
    """The services of a `ReplayNode`: the one that is replayed, and the root."""

    _node: ReplayNode

    def make_cell(self, address: Address, service: Service) -> Cell:
        node = self._node
        if node._root is None:
            return super().make_cell(address, service)
        node.service = service
        return RecordedCell(node, address, service, node.log)

    def bury(self, cell: Cell, how: str) -> None:
        if cell.service is self._node.service:
            self._node.ended = self._node.ended or how
        super().bury(cell, how)

    def monitor(self, watcher: Address, target: Address) -> None:
        """What was told of it is in the recording."""


class ReplayNode(Node):
    """A node that holds the one service; whatever it sends goes nowhere."""

    services_type = ReplayServices
    log: ReplayLog
    service: Service | None = None
    ended: str | None = None

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
        except (ValueError, msgpack.UnpackException):  # no msgpack: checked below, with what came before it
            events.append([])
    if (
        not events
        or not all(isinstance(event, list) and event for event in events)
        or events[0][:2] != [MAGIC, VERSION]
    ):
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
    debugger at the event of that number. Raises ReplayDiverged, NotReplayable for a service that awaited what cannot
    be recorded (before any of it runs, for it would touch the same files and sockets again), and ValueError for a file
    that is no recording.
    """
    head, events = read(path)
    if events and events[-1][0] == "outside":
        raise NotReplayable(
            f"{path}: {events[-1][1]} awaited something from outside of Skyloom (a thread, a socket, a database or a"
            f" task that is not the service's); that is not in the recording, which ends there, at event {len(events)}"
        )
    with asyncio.Runner(loop_factory=ReplayLoop) as runner:
        return runner.run(_replay(head, events, cls, args, break_at))


async def _replay(
    head: list[Any], events: list[list[Any]], cls: type[Service], args: tuple[object, ...] | None, break_at: int | None
) -> Replayed:
    _, _, _, name, handle, seed, env, given = head
    node = ReplayNode(name, env=env, watch_loop=False)
    node.log = ReplayLog(events, seed, break_at)
    await node.start()
    node.services.last_handle = handle - 1
    kwargs: dict[str, Any] = {}
    if args is None:
        if given is None:
            raise ValueError("the recorded constructor arguments were no values: give them as `args`")
        args, kwargs = value.unpack(given)
    starting = asyncio.ensure_future(node.spawn(cls, *args, **kwargs))
    try:
        await asyncio.sleep(0)  # noqa: TID251  # one turn, in which the service is made
        await _drive(node, Address(name, handle))
        if node.log.next == ["ended"]:
            for _ in range(IDLE_TURNS_MAX):  # a start that fails is noticed some turns later
                if starting.done():
                    break
                await asyncio.sleep(0)  # noqa: TID251  # one turn
        service, ended = node.service, node.ended
        if starting.done() and (error := starting.exception()) is not None:
            error = error.__cause__ or error
            ended = f"did not start: {type(error).__name__}: {error}"
        if service is None:
            raise NotReplayable(f"{cls.__name__} could not be made: {ended}")
    finally:
        node.log.stop()
        starting.cancel()
    return Replayed(service, len(events), ended)


async def _drive(node: ReplayNode, address: Address) -> None:
    """Hand in what came from outside; all else is the service's own doing, and takes its place by itself."""
    log, idle, seen = node.log, 0, -1
    while (event := log.next) is not None and event != ["ended"]:
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
    if log.diverged is not None:
        raise log.diverged


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
        timer = log.timers.pop(event[1], None)
        if timer is None:
            raise ReplayDiverged(f"event {log.position + 1}: recorded timer {event[1]}, which was not set")
        log.take()
        with Inside(log):
            timer.fire()
        return True
    if kind == "callback" and event[1] in log.callbacks:
        log.take()
        noted, args = log.callbacks.pop(event[1])
        noted.run(args)
        return True
    if kind == "answer":
        _, session, how, data = event
        unpacked: Any = data if how == "packed" else value.unpack(data)
        cell._settle(session, error_from_values(unpacked) if how == "error" else unpacked)
        return True
    return False


def _shown(event: Any) -> str:
    return repr(tuple(event))[:200]
