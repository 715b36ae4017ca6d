"""What a node can say about itself and its services, made when somebody asks.

    service_status(cell)   one service: what waits, what runs
    node_status(node)      all of it in numbers
    stacks(cell)           where its handlers and forks wait

Nothing here asks a service: one that hangs is described like the others.
"""

from __future__ import annotations

import inspect
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from skyloom.message.message import NEVER
from skyloom.message.ptype import Ptype
from skyloom.node.executor import INLINE_CALLS_MAX

if TYPE_CHECKING:
    from collections.abc import Iterator

    from skyloom.message.address import Address
    from skyloom.message.message import Message
    from skyloom.node.cell import Cell
    from skyloom.node.node import Node

FRAMES_MAX: Final = 64
"""Frames of one stack that are shown."""

EVENTS: Final = (
    "late_answers",
    "bad_messages",
    "mailbox_pressure",
    "loop_blocked",
    "loop_overloaded",
    "crashes",
    "restarts",
)
"""What the runtime counts in `Node.counters`; patterns and services count more there."""

State = Literal["starting", "running", "ending"]


@dataclass(frozen=True, slots=True)
class ServiceStatus:
    """One service, as the runtime sees it.

    `handled` are messages that it has taken, from its mailbox or at once; `handlers` handlers that are half-run;
    `calls` its own calls without an answer; `kept` requests that it will answer later; `forks` its other tasks.
    """

    address: Address
    service: str
    names: tuple[str, ...]
    state: State
    mailbox_messages: int
    mailbox_bytes: int
    mailbox_messages_max: int
    handled: int
    handlers: int
    calls: int
    kept: int
    forks: int


@dataclass(frozen=True, slots=True)
class Stack:
    """Something of a service's that is under way: what it is, and where it waits, the innermost place last.

    `seconds_left` is the time to its deadline, None where there is none.
    """

    what: str
    seconds_left: float | None
    frames: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ClassStatus:
    """All services of a class together."""

    services: int
    mailbox_messages: int
    mailbox_bytes: int


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """A node in numbers. What is counted grows from its start on; the rest is so now.

    `nodes` are the others that are connected. `fullest_mailbox` is the share of its limit of messages that the fullest
    one holds, `loop_lag_seconds` the mean of
    how late the event loop was (0 where nobody watches over it). `dead_letters` are counted by why; `counters` are
    those of `Node.counters`, of which `EVENTS` are always there.
    """

    node: str
    nodes: tuple[str, ...]
    services: dict[str, ClassStatus]
    names: int
    handled: int
    handlers: int
    calls: int
    fullest_mailbox: float
    loop_lag_seconds: float
    dead_letters: dict[str, int]
    counters: dict[str, int]


def service_status(cell: Cell) -> ServiceStatus:
    """What goes on in a service."""
    handled = [worker.message for worker in cell.workers or ()]
    return ServiceStatus(
        cell.address,
        type(cell.service).__name__,
        tuple(cell.node.names.of(cell.address)),
        "ending" if cell.ending else "running" if cell.started else "starting",
        _waiting(cell),
        cell.mailbox_bytes,
        cell.messages_max,
        cell.handled,
        cell.running,
        len(cell.pending or ()),
        sum(message not in handled for message in cell.open or ()),
        len(cell.tasks or ()),
    )


def _waiting(cell: Cell) -> int:
    return len(cell.mailbox) - cell.answers_queued if cell.mailbox else 0


def node_status(node: Node) -> NodeStatus:
    """What goes on in a node. It looks at every service once: about a millisecond for a thousand."""
    services: Counter[str] = Counter()
    messages: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    handlers = calls = 0
    fullest = 0.0
    for cell in node.cells.values():
        name = type(cell.service).__name__
        services[name] += 1
        handlers += cell.running
        if cell.pending:
            calls += len(cell.pending)
        if cell.mailbox:
            waiting = _waiting(cell)
            messages[name] += waiting
            sizes[name] += cell.mailbox_bytes
            fullest = max(fullest, waiting / cell.messages_max)
    return NodeStatus(
        node.name,
        node.harbor.nodes(),
        {name: ClassStatus(count, messages[name], sizes[name]) for name, count in sorted(services.items())},
        len(node.names),
        node.run_queue.handled + INLINE_CALLS_MAX - node.executor.inline_left,
        handlers,
        calls,
        fullest,
        node.loop_lag.sum / (node.loop_lag.total or 1),
        dict(node.dead_letters.by_reason),
        dict.fromkeys(EVENTS, 0) | dict(node.counters),
    )


def stacks(cell: Cell) -> list[Stack]:
    """What a service has under way: half-run handlers, requests that it will answer later, forks, calls."""
    now = cell.node.now()
    found = []
    handled = []
    for worker in cell.workers or ():
        if (message := worker.message) is not None:
            handled.append(message)
            found.append(Stack(f"handles {what(cell, message)}", _left(message, now), frames(worker.generator)[1:]))
    found += [
        Stack(f"will answer {what(cell, message)} later", _left(message, now), ())
        for message in cell.open or ()
        if message not in handled
    ]
    found += [Stack(task.get_name(), None, frames(task.get_coro())) for task in cell.tasks or ()]
    found += [
        Stack(f"waits for {pending.destination} to answer session {session}", None, ())
        for session, pending in (cell.pending or {}).items()
    ]
    return found


def what(cell: Cell, message: Message) -> str:
    """A message in words; of its payload only the method of a remote procedure call, which is no user's secret."""
    protocol = cell.protocols.get(message.ptype)
    name = str(message.ptype) if protocol is None else protocol.name
    if protocol is not None and message.ptype in (Ptype.LUA, Ptype.QUEUE) and message.ptype not in cell.unopened:
        args = protocol.from_payload(message.payload)  # it did unpack, or it would have no handler
        if args and isinstance(args[0], str) and args[0] in cell.methods:
            name = f"{name} {args[0]}"
    return f"{name} of {message.source}, session {message.session}"


def _left(message: Message, now: float) -> float | None:
    return None if message.deadline == NEVER else round(message.deadline - now, 3)


def frames(running: Any) -> tuple[str, ...]:
    """Where a coroutine waits, as far as Python code goes: from the outermost to the innermost place."""
    return tuple(_frames(running))


def _frames(running: Any) -> Iterator[str]:
    for _ in range(FRAMES_MAX):
        if running is None:
            return
        frame = getattr(running, "cr_frame", None) or getattr(running, "gi_frame", None)
        if frame is not None and inspect.isframe(frame):
            code = frame.f_code
            yield f"{code.co_qualname} ({code.co_filename.rsplit('/', 1)[-1]}:{frame.f_lineno})"
        running = getattr(running, "cr_await", None) or getattr(running, "gi_yieldfrom", None)
