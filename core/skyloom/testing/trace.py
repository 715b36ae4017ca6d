"""What happened in a run: every message posted, started, answered or refused, with its virtual time.

Two runs are the same when their traces are. A line of it::

    12.500000 game-1 start  :00000001@game-1 -> :00000003@game-1 lua#17 get_user d41d8cd9

is the time since the start of the run in seconds, the node, what happened, who sent it to whom, protocol and session,
the method if there is one, and a hash of the payload.
"""

from __future__ import annotations

import hashlib
from collections import deque
from typing import TYPE_CHECKING, Final, NamedTuple

from skyloom.message.errors import CallError, ValueRefused
from skyloom.message.ptype import Ptype
from skyloom.message.value import pack

if TYPE_CHECKING:
    from collections.abc import Iterator

    from skyloom.message.address import Address

TRACE_LINES_MAX: Final = 10_000
"""Lines kept for reading; the hash covers all there were."""

_HASH_BYTES: Final = 4
_NAMES: Final = {int(ptype): ptype.name.lower() for ptype in Ptype}


class Event(NamedTuple):
    """One thing that happened to a message.

    `kind` is "post" (put into a mailbox), "start" (its handler begins), "answer" (its answer reached who asked),
    "refuse" (it was not delivered), "send", "arrive" or "lose" (between nodes), or a word of the test's own.
    `number` counts the events of a run from 1.
    """

    number: int
    time: float
    node: str
    kind: str
    source: Address | None
    destination: Address | None
    ptype: int
    session: int
    method: str
    digest: str

    def __str__(self) -> str:
        head = f"{self.time:.6f} {self.node} {self.kind:<6}"
        if self.source is None and self.destination is None:
            return f"{head} {self.digest}".rstrip()
        source = "" if self.source is None else f"{self.source}"
        destination = "" if self.destination is None else f"{self.destination}"
        name = _NAMES.get(self.ptype, str(self.ptype))
        return f"{head} {source} -> {destination} {name}#{self.session} {self.method} {self.digest}".rstrip()


class Trace:
    """The events of one run; `digest` stands for them all."""

    def __init__(self) -> None:
        self._hash = hashlib.blake2b(digest_size=16)
        self._last: deque[Event] = deque(maxlen=TRACE_LINES_MAX)
        self.count = 0

    def add(
        self,
        time: float,
        node: str,
        kind: str,
        *,
        source: Address | None = None,
        destination: Address | None = None,
        ptype: int = 0,
        session: int = 0,
        payload: object = (),
    ) -> Event:
        """Note an event; `time` in seconds since the start of the run."""
        self.count += 1
        method, digest = method_of(ptype, payload), digest_of(payload)
        event = Event(self.count, time, node, kind, source, destination, ptype, session, method, digest)
        self._last.append(event)
        # Of a NamedTuple a slice is a plain tuple, whose repr takes a quarter of the time.
        ends = source and source[:], destination and destination[:]
        self._hash.update(repr((time, node, kind, ends, ptype, session, method, digest)).encode())
        return event

    @property
    def digest(self) -> str:
        """A hash of all events: equal for equal runs."""
        return self._hash.hexdigest()

    def __iter__(self) -> Iterator[Event]:
        """The last `TRACE_LINES_MAX` events, oldest first."""
        return iter(self._last)

    def __len__(self) -> int:
        return self.count

    def clear(self) -> None:
        """Forget the lines; what was counted and hashed stays."""
        self._last.clear()

    def tail(self, lines: int) -> str:
        """The last events, as text."""
        return "\n".join(str(event) for event in list(self._last)[-lines:])


def method_of(ptype: int, payload: object) -> str:
    """The method that a remote procedure call names; empty for other messages, and for packed ones."""
    if ptype in (Ptype.LUA, Ptype.QUEUE) and isinstance(payload, tuple) and payload and isinstance(payload[0], str):
        return payload[0][:64]
    return ""


def digest_of(payload: object) -> str:
    """A short hash of a payload or of an answer. Empty for what has no packed form."""
    if isinstance(payload, CallError):
        data = f"{type(payload).__name__} {payload.code}".encode()
    elif isinstance(payload, bytes):
        data = payload
    elif isinstance(payload, tuple):
        try:
            data = pack(payload)
        except ValueRefused:
            return ""
    else:
        return ""
    return hashlib.blake2b(data, digest_size=_HASH_BYTES).hexdigest()
