"""A call that waits for its answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from skyloom.message.errors import CallError, Unknown

if TYPE_CHECKING:
    from collections.abc import Callable

    from skyloom.message.address import Address
    from skyloom.message.message import Message
    from skyloom.message.protocol import Protocol
    from skyloom.node.clock import Timer

OPEN: Final = object()
"""The outcome of a call that has no answer yet."""


class Pending:
    """One session's other half: settled exactly once, by an answer, an error or the deadline."""

    __slots__ = ("destination", "forwarded", "on_settled", "outcome", "protocol", "session", "timer")

    def __init__(self, destination: Address, protocol: Protocol, session: int) -> None:
        self.destination = destination
        self.protocol = protocol
        self.session = session
        # Set by a handler that passes the request on: where to, and as which message.
        self.forwarded: tuple[Address, Message] | None = None
        self.timer: Timer | None = None
        self.outcome: object = OPEN
        self.on_settled: Callable[[Pending], object] | None = None

    def settle(self, outcome: object) -> None:
        """Fill in the payload of the answer, or the CallError."""
        self.outcome = outcome
        if self.timer is not None:
            self.timer.cancel()
        if self.on_settled is not None:
            self.on_settled(self)

    def hand_to(self, settled: Callable[[Any, CallError | None], object]) -> None:
        """Call ``settled(answer, error)`` once it is settled, at once when it is."""

        def hand(_: Pending) -> None:
            try:
                answer = self.result()
            except CallError as error:
                settled(None, error)
            else:
                settled(answer, None)

        if self.outcome is OPEN:
            self.on_settled = hand
        else:
            hand(self)

    def result(self) -> Any:
        """The answer: nothing, one value or a tuple of them. Raises the CallError when there is none."""
        outcome = self.outcome
        if isinstance(outcome, CallError):
            raise outcome
        assert outcome is not OPEN
        try:
            values = self.protocol.from_payload(outcome)  # type: ignore[arg-type]  # a payload, as checked above
        except ValueError as error:
            raise Unknown(str(error), code="skyloom.bad_answer") from None
        return one(values)


def one(values: tuple[Any, ...]) -> Any:
    """What a call returns for an answer of these values: skynet answers with many, Python returns one."""
    if len(values) == 1:
        return values[0]
    return values or None
