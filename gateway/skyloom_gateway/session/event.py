"""What one frame from a client means to the gate: exactly one of these."""

from dataclasses import dataclass

from skyloom_gateway.wire.codes import CloseCode
from skyloom_gateway.wire.frame import Ack, Hello, Notify, Request

# Frames that reach the gate as they are; a class of its own would cost each of them a second object.
RequestEvent = Request
NotifyEvent = Notify
AckEvent = Ack


@dataclass(frozen=True, slots=True)
class HelloEvent:
    """The client asks to come in: authenticate it, then let it in or `close`."""

    hello: Hello


@dataclass(frozen=True, slots=True)
class Nothing:
    """The frame needs nothing done."""


@dataclass(frozen=True, slots=True)
class Reply:
    """Send this frame to the client; nobody else need know."""

    frame: bytes


@dataclass(frozen=True, slots=True)
class Close:
    """The session, or the greeting, has closed: send `frame`, if there is one, then close the connection.

    Args:
        code: the close code.
        reason: one sentence, at most 123 bytes.
        frame: the error frame with id 0 that says why.
    """

    code: CloseCode
    reason: str
    frame: bytes | None


Event = HelloEvent | Request | Notify | Ack | Nothing | Reply | Close
