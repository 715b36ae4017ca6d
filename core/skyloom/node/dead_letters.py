"""Messages that came to a bad end: counted, and the last ones kept for inspection.

They reached nobody, or they are poison: their handler raised what is no answer, or crashed its service. Nothing here
is delivered again.
"""

from __future__ import annotations

import traceback
from collections import Counter, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from skyloom.message.address import Address
    from skyloom.message.message import Message

DEAD_LETTERS_MAX: Final = 256
"""How many are kept."""

TRACEBACK_CHARS_MAX: Final = 4096
"""How much of a traceback is kept with a dead letter: its end, which says where and what."""

_TRACEBACK_FRAMES: Final = 20
_PREVIEW_BYTES: Final = 64


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One message that came to a bad end: when (wall seconds), to whom, why, and how its payload begins.

    `traceback` is that of the handler that it was poison to, and empty for one that was not delivered.
    """

    time: float
    destination: Address
    source: Address
    ptype: int
    session: int
    reason: str
    preview: str
    traceback: str = ""


class DeadLetters:
    """A ring of dead letters, and how many there were in all by reason."""

    def __init__(self) -> None:
        self._ring: deque[DeadLetter] = deque(maxlen=DEAD_LETTERS_MAX)
        self.by_reason: Counter[str] = Counter()

    def add(self, time: float, destination: Address, message: Message, reason: str, trace: str = "") -> None:
        """Keep a message; `time` in wall seconds, `trace` what `traceback_text` made of a handler's error."""
        self.by_reason[reason] += 1
        self._ring.append(
            DeadLetter(
                time,
                destination,
                message.source,
                message.ptype,
                message.session,
                reason,
                _preview(message.payload),
                trace,
            )
        )

    @property
    def total(self) -> int:
        return self.by_reason.total()

    def __len__(self) -> int:
        return len(self._ring)

    def __iter__(self) -> Iterator[DeadLetter]:
        return iter(self._ring)


def traceback_text(error: BaseException) -> str:
    """The end of an error's traceback, or the stack if it was not raised; at most `TRACEBACK_CHARS_MAX` characters."""
    lines = traceback.format_exception(error, limit=-_TRACEBACK_FRAMES)
    if error.__traceback__ is None:
        lines = traceback.format_stack(limit=_TRACEBACK_FRAMES)[:-1] + lines
    return "".join(lines)[-TRACEBACK_CHARS_MAX:]


def _preview(payload: bytes | tuple[object, ...]) -> str:
    """How a payload begins. Never the repr of the whole: it may be huge, or nested deeper than repr can go."""
    if isinstance(payload, bytes):
        return repr(payload[:_PREVIEW_BYTES])
    shown = [repr(item[:_PREVIEW_BYTES]) if isinstance(item, str) else type(item).__name__ for item in payload[:4]]
    return f"({', '.join(shown)})"
