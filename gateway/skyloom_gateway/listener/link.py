"""What a listener and the gate say to each other.

    listener                           gate
       | -- acceptor(link) ----------->  |   once, when the transport is open; answers with the Receiver
       | -- receiver.received(data) -->  |   one whole frame, in the order it arrived
       | <- link.send(frame) ----------  |   never blocks, never raises
       | <- link.close(code, reason) --  |   at most the first one counts
       | -- receiver.closed(code, ..) >  |   exactly once, when the socket is gone

All calls are made on the event loop's thread. Time comes only from `Timers`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Protocol

from skyloom_gateway.wire import Codec

LinkKind = Literal["websocket", "tcp"]


class TimerHandle(Protocol):
    """A timer that has been set."""

    def cancel(self) -> None:
        """Stop the timer; does nothing when it has fired or was cancelled."""


class Timers(Protocol):
    """The only source of time a listener has; a test gives one with virtual time."""

    def now(self) -> float:
        """The monotonic time in seconds."""

    def call_later(self, seconds: float, callback: Callable[..., object], /, *args: object) -> TimerHandle:
        """Call `callback(*args)` after `seconds`, never before this call returns."""


class Link(Protocol):
    """One client's transport, as the gate sees it."""

    @property
    def codec(self) -> Codec:
        """The encoding that the client chose, fixed for the life of the link."""

    @property
    def peer(self) -> str:
        """The client's address, "ip:port" ("[ip]:port" for IPv6), or "unix"."""

    @property
    def kind(self) -> LinkKind:
        """The transport's name."""

    @property
    def buffered_bytes(self) -> int:
        """Bytes of output that the kernel has not taken yet."""

    def send(self, frame: bytes, tail: bytes = b"") -> None:
        """Send one encoded frame. Never blocks and never raises; dropped when the link is closing.

        A link whose unsent output passes the settings' bounds is cut off with close code 1013.

        Args:
            frame: all of it, or what comes before `tail`.
            tail: what many links are sent alike; a long one is not copied for each that has to wait.
        """

    def close(self, code: int, reason: str, frame: bytes | None = None) -> None:
        """Close the link; only the first call counts.

        Args:
            code: a close code that may travel (RFC 6455 section 7.4): 1000 to 1014 without 1004 to 1006, or
                3000 to 4999.
            reason: shown to the client, cut to 123 bytes of UTF-8.
            frame: sent before the close. On TCP, where there is no close frame, an error frame with id 0
                that names the code is sent when this is None.

        Raises:
            ValueError: the code may not travel.
        """


class Receiver(Protocol):
    """What the gate attaches to a link."""

    def received(self, data: bytes) -> None:
        """One whole frame has arrived. Not called after the link began to close."""

    def closed(self, code: int, reason: str) -> None:
        """The link is gone. Called exactly once, from the event loop, never inside `send` or `close`.

        Args:
            code: what ended it first: the code given to `close`, the listener's own, the client's; 1005 when
                the client gave none, 1006 when the connection broke, 1001 when a TCP stream ended between frames.
            reason: for the log.
        """


Acceptor = Callable[[Link], Receiver]
