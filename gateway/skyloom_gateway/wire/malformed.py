"""What a codec raises for bytes that are no frame."""

from skyloom_gateway.wire.codes import CloseCode

# RFC 6455, section 5.5: a control frame carries 125 bytes, and a close frame's code takes 2 of them.
REASON_BYTES_MAX = 123


class Malformed(ValueError):
    """Bytes that are not a frame of the protocol.

    The reason names the field, the kind of value found and what is wanted. It never quotes the bytes, so it
    is safe to log and to send, and it fits a WebSocket close frame.

    Attributes:
        reason: one sentence in ASCII of at most `REASON_BYTES_MAX` bytes.
        close_code: how to close the connection: 4400, or 1007 for text that is not UTF-8.
    """

    def __init__(self, reason: str, close_code: CloseCode = CloseCode.MALFORMED) -> None:
        self.reason = reason
        self.close_code = close_code
        super().__init__(reason)
