"""A connection until its client is let in."""

from enum import Enum

from skyloom_gateway.session.error import WrongState
from skyloom_gateway.session.event import Close, HelloEvent, Nothing
from skyloom_gateway.session.limits import SessionLimits
from skyloom_gateway.wire.codec import Codec
from skyloom_gateway.wire.codes import CloseCode, WireError, close_error
from skyloom_gateway.wire.frame import Hello
from skyloom_gateway.wire.malformed import Malformed

_NOTHING = Nothing()


class Phase(Enum):
    """How far a greeting is; `Greeting` has the table."""

    CONNECTED = "connected"
    GREETING = "greeting"
    OVER = "over"


class Greeting:
    """What a stranger may send: one hello, soon, and little more before the answer.

    ==========  ============================  ==========================================================
    phase       what happens                  what follows
    ==========  ============================  ==========================================================
    CONNECTED   hello                         HelloEvent, now GREETING
                any other frame               Close 4400 (1007 not UTF-8; 1009 over hello_bytes_max)
                hello_timeout_seconds pass    Close 4408
    GREETING    any frame                     held for release(); Close 1009 over what may be held
                release()                     the frames held, now OVER: a `Session` goes on
                hello_timeout_seconds pass    Close 4408
    any         close(), lost()               now OVER
    OVER        any frame                     Nothing
    ==========  ============================  ==========================================================

    Args:
        codec: the connection's encoding.
        limits: what the client may do.
        now: seconds on a clock that never goes back, when the connection opened.
    """

    __slots__ = ("_codec", "_deadline", "_early", "_early_bytes", "_limits", "_phase")

    def __init__(self, codec: Codec, limits: SessionLimits, now: float) -> None:
        self._codec = codec
        self._limits = limits
        self._phase = Phase.CONNECTED
        self._deadline = now + limits.hello_timeout_seconds
        self._early: list[bytes] = []
        self._early_bytes = 0

    @property
    def phase(self) -> Phase:
        """How far it is."""
        return self._phase

    def receive(self, data: bytes) -> HelloEvent | Nothing | Close:
        """Take one frame from the client, and say what it amounts to."""
        if self._phase is Phase.CONNECTED:
            return self._receive_first(data)
        if self._phase is Phase.GREETING:
            return self._hold(data)
        return _NOTHING

    def release(self) -> list[bytes]:
        """End the greeting: the client is let in. The frames that it sent since its hello, in order.

        Raises:
            WrongState: no hello waits for an answer.
        """
        if self._phase is not Phase.GREETING:
            raise WrongState(f"release() is for a greeting that is under way, and this one is {self._phase.value}")
        early = self._early
        self.lost()
        return early

    def close(self, code: CloseCode, reason: str, error: WireError | None = None) -> Close:
        """Close from the server's side; arguments as of `Session.close`."""
        self.lost()
        error = error or close_error(code, reason)
        return Close(code, reason, None if error is None else self._codec.error(0, error))

    def lost(self) -> None:
        """The connection is gone."""
        self._phase = Phase.OVER
        self._early = []

    def deadline(self, now: float) -> float | None:
        """When to call `expire`, in seconds on the caller's clock and never before `now`; None for never."""
        return None if self._phase is Phase.OVER else max(self._deadline, now)

    def expire(self, now: float) -> Close | None:
        """Close a connection whose client was not let in by the deadline, or None."""
        deadline = self.deadline(now)
        if deadline is None or now < deadline:
            return None
        seconds = self._limits.hello_timeout_seconds
        waited_for = "hello" if self._phase is Phase.CONNECTED else "welcome: the authenticator took too long"
        return self.close(CloseCode.HELLO_TIMEOUT, f"after {seconds:g} s there was no {waited_for}")

    def _receive_first(self, data: bytes) -> HelloEvent | Close:
        if len(data) > self._limits.hello_bytes_max:
            return self.close(CloseCode.TOO_BIG, f"a hello has at most {self._limits.hello_bytes_max} bytes")
        try:
            frame = self._codec.decode(data)
        except Malformed as malformed:
            return self.close(malformed.close_code, malformed.reason)
        if type(frame) is not Hello:
            return self.close(CloseCode.MALFORMED, f"the first frame must be hello, got {type(frame).__name__.lower()}")
        self._phase = Phase.GREETING
        self._early_bytes = len(data)
        return HelloEvent(frame)

    def _hold(self, data: bytes) -> Nothing | Close:
        """Keep what an impatient client sends while its hello is looked at, within a stranger's limits."""
        self._early_bytes += len(data)
        if self._early_bytes > self._limits.hello_bytes_max or len(self._early) >= self._limits.early_frames_max:
            return self.close(CloseCode.TOO_BIG, "too much before the welcome: wait for it")
        self._early.append(data)
        return _NOTHING
