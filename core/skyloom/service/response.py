"""An answer that is given later, from anywhere, once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from skyloom.message.errors import AnsweredTwice, CallError, Failed, error_from_values, error_to_values
from skyloom.message.value import copied

if TYPE_CHECKING:
    from skyloom.message.message import Message
    from skyloom.node.cell import Cell


class Response:
    """The duty to answer one request, taken out of its handler by `Service.response`.

    Answer with `ret` or `fail`, once. One that is dropped unanswered fails its caller at once, and so does the end
    of the service. Answers to a `send`, which wants none, go nowhere.
    """

    __slots__ = ("_cell", "_message", "_node")

    def __init__(self, cell: Cell, message: Message) -> None:
        self._message: Message | None = None
        if message.taken:
            raise AnsweredTwice("this request was answered, or passed on, before")
        cell.take(message)
        if message.session:
            cell.hold(message, None)
        self._cell = cell
        self._node = cell.node
        self._message = message

    @property
    def answered(self) -> bool:
        """Whether the answer was given."""
        return self._message is None

    def ret(self, *values: object) -> None:
        """Answer. Raises AnsweredTwice, or ValueRefused for what cannot cross a boundary (it stays unanswered)."""
        message = self._open()
        payload = self._cell.protocol(message.ptype).to_payload(values)
        self._give(message, payload)

    def fail(self, error: CallError) -> None:
        """Answer with an error. Raises AnsweredTwice, or ValueRefused for details that cannot cross a boundary."""
        self._give(self._open(), error_from_values(copied(error_to_values(error))))

    def _open(self) -> Message:
        if self._message is None:
            raise AnsweredTwice("this request was answered before")
        return self._message

    def _give(self, message: Message, outcome: bytes | tuple[object, ...] | CallError) -> None:
        self._message = None
        if not message.session:
            return
        held = self._cell.open is not None and message in self._cell.open
        self._cell.release(message)
        if held:  # else the service has ended, and the caller was told so
            self._node.answer(message, outcome)

    def __del__(self) -> None:
        message = getattr(self, "_message", None)
        if message is not None and not self._node.loop.is_closed():
            dropped = Failed("the handler dropped its response unanswered", code="skyloom.no_answer")
            self._node.loop.call_soon_threadsafe(self._give, message, dropped)
