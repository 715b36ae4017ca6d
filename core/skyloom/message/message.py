"""One message, as it lies in a mailbox."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from skyloom.message.address import Address

SESSION_MAX: Final = 0x7FFF_FFFF
"""Sessions are int31, as in skynet; 0 means that no answer is wanted."""

NEVER: Final = inf
"""The deadline of a message that has none."""


class Message:
    """(ptype, source, session, payload), plus the deadline and the trace context it carries.

    ``payload`` is ``bytes`` when packed by the message's protocol, or a ``tuple`` of immutable arguments that
    skipped packing because nobody can tell the difference (promise 7). ``deadline`` is in seconds of the
    receiving node's clock. ``trace`` is opaque text that nested calls inherit.

    ``taken`` is the receiver's mark that the duty to answer has passed on: to a `Response`, to another service by
    forwarding, or to an answer already sent.
    """

    claim: object
    """While the handler runs inside its caller's `call`: True, then the caller's `Pending` once it was taken."""

    weight: int
    """Bytes that it counts in its mailbox."""

    __slots__ = ("claim", "deadline", "payload", "ptype", "session", "source", "taken", "trace", "weight")

    def __init__(
        self,
        ptype: int,
        source: Address,
        session: int,
        payload: bytes | tuple[object, ...],
        deadline: float = NEVER,
        trace: str | None = None,
    ) -> None:
        # `claim` and `weight` are set by those who need them: this runs for every message, and each field costs.
        self.ptype = ptype
        self.source = source
        self.session = session
        self.payload = payload
        self.deadline = deadline
        self.trace = trace
        self.taken = False

    def __repr__(self) -> str:
        kind = "packed" if type(self.payload) is bytes else "args"
        return (
            f"<Message ptype={self.ptype} source={self.source} session={self.session} "
            f"payload={kind}:{len(self.payload)}>"
        )
