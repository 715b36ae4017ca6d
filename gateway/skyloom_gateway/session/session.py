"""The state machine of one client's session."""

from collections import deque
from collections.abc import Iterator, Mapping
from enum import Enum
from math import ceil

from skyloom_gateway.session.bucket import Bucket
from skyloom_gateway.session.error import NotInFlight, WrongState
from skyloom_gateway.session.event import Close, Event, HelloEvent, Nothing, Reply
from skyloom_gateway.session.limits import SessionLimits
from skyloom_gateway.wire.codec import Codec
from skyloom_gateway.wire.codes import CloseCode, ErrorKind, WireError, close_error
from skyloom_gateway.wire.frame import Ack, Hello, Notify, Ping, Request
from skyloom_gateway.wire.malformed import Malformed

_NOTHING = Nothing()


class State(Enum):
    """Where a session is in its life; `Session` has the table."""

    CONNECTED = "connected"
    GREETING = "greeting"
    GREETED = "greeted"
    CLOSED = "closed"


_GREETED = State.GREETED  # looked up for every frame, and an enum's members are slow to find


class Session:
    """One client's session: which frames may come when, how many, and what each of them means.

    It does no I/O and reads no clock: the gate hands it each frame with the time, acts on the one event that
    comes back, and sends what the other methods return, in the order of the calls.

    ==========  ============================  ==========================================================
    state       what happens                  what follows
    ==========  ============================  ==========================================================
    CONNECTED   hello                         HelloEvent, now GREETING
                any other frame               Close 4400 (1007 not UTF-8; 1009 over hello_bytes_max)
                hello_timeout_seconds pass    Close 4408
    GREETING    greet()                       the welcome, now GREETED; then call release()
                any frame                     held for release(); Close 1009 over what may be held
                hello_timeout_seconds pass    Close 4408
    GREETED     request, notify, ack          the same as an event
                ping / pong                   Reply with a pong / Nothing
                over a rate                   Reply with an error or Nothing; Close 4429 at refusals_max
                request, its id in flight     Reply with gateway.duplicate_id
                request, too many in flight   Reply with gateway.too_many_requests
                hello, or no frame at all     Close 4400 (1007 not UTF-8; 1009 over frame_bytes_max)
                respond(), fail(), push()     a frame to send
    any         close(), lost()               now CLOSED; requests in flight are forgotten
    CLOSED      any frame                     Nothing
    ==========  ============================  ==========================================================

    A suspended state, for sessions that wait for their client, will stand between GREETED and CLOSED.

    Args:
        codec: the connection's encoding.
        limits: what the client may do.
        now: seconds on a clock that never goes back, when the connection opened.

    Attributes:
        id: the session's id, empty until greeted.
        user: whom the authenticator takes the client for, empty until greeted.
        seq: the number of the last push, 0 before the first.
        refusals_total: frames refused for coming too fast.
    """

    __slots__ = (
        "_codec",
        "_controls",
        "_deadline",
        "_early",
        "_early_bytes",
        "_frame_bytes_max",
        "_in_flight",
        "_limits",
        "_messages",
        "_notice_at",
        "_refusals",
        "_requests_max",
        "_state",
        "id",
        "refusals_total",
        "seq",
        "user",
    )

    def __init__(self, codec: Codec, limits: SessionLimits, now: float) -> None:
        self.id = ""
        self.user = ""
        self.seq = 0
        self.refusals_total = 0
        self._codec = codec
        self._limits = limits
        self._frame_bytes_max = limits.frame_bytes_max
        self._requests_max = limits.requests_in_flight_max
        self._state = State.CONNECTED
        self._deadline = now + limits.hello_timeout_seconds
        self._early: deque[bytes] = deque()
        self._early_bytes = 0
        self._messages = Bucket(limits.messages_per_second, limits.messages_burst)
        self._controls = Bucket(limits.controls_per_second, limits.controls_burst)
        self._refusals = 0
        self._notice_at = now
        self._in_flight: set[int] = set()

    @property
    def state(self) -> State:
        """Where the session is in its life."""
        return self._state

    @property
    def codec(self) -> Codec:
        """The connection's encoding."""
        return self._codec

    @property
    def in_flight(self) -> int:
        """How many requests wait for an answer."""
        return len(self._in_flight)

    def awaits(self, id: int) -> bool:
        """Whether the request of this id waits for an answer, so that `respond` or `fail` would take it."""
        return id in self._in_flight

    def receive(self, data: bytes, now: float) -> Event:
        """Take one frame from the client.

        Args:
            data: one whole frame.
            now: seconds.

        Returns:
            The one event that it amounts to.

        Raises:
            WrongState: `release` was not called, or not run to its end, after `greet`.
        """
        if self._state is _GREETED:
            if self._early:
                raise WrongState("receive() after greet() and before release() would mix up the frames' order")
            return self._receive_greeted(data, now)
        if self._state is State.CONNECTED:
            return self._receive_first(data)
        if self._state is State.GREETING:
            return self._hold(data)
        return _NOTHING

    def greet(self, id: str, key: str, user: str, welcome: Mapping[str, object]) -> bytes:
        """Let the client in. Send the welcome, then act on the events of `release`.

        Args:
            id: the session's id.
            key: the secret for one resume.
            user: whom the authenticator takes the client for.
            welcome: further fields of the welcome, such as `heartbeat`; they win over the session's own.

        Returns:
            The welcome frame.

        Raises:
            WrongState: no hello waits for it.
        """
        self._require(State.GREETING, "greet()")
        frame = self._codec.welcome(
            {
                "session": id,
                "key": key,
                "user": user,
                "recovered": False,
                "limits": {
                    "frame_bytes": self._limits.frame_bytes_max,
                    "messages_per_second": self._limits.messages_per_second,
                },
                **welcome,
            }
        )
        self._state = State.GREETED
        self.id = id
        self.user = user
        return frame

    def release(self, now: float) -> Iterator[Event]:
        """The events of the frames that came between hello and `greet`, in order; none for a patient client.

        Args:
            now: seconds.
        """
        while self._early and self._state is State.GREETED:
            yield self._receive_greeted(self._early.popleft(), now)

    def respond(self, id: int, body: bytes) -> bytes:
        """Answer a request; its id is free again.

        Args:
            id: the request's.
            body: from the codec's `encode_body`.

        Raises:
            NotInFlight: no request of this id waits for an answer.
        """
        self._settle(id)
        return self._codec.response(id, body)

    def fail(self, id: int, error: WireError) -> bytes:
        """Answer a request with an error; its id is free again.

        Raises:
            NotInFlight: no request of this id waits for an answer.
            ValueError: the error's details are not JSON-able; the request still waits.
        """
        frame = self._codec.error(id, error)
        self._settle(id)
        return frame

    def push(self, tail: bytes) -> bytes:
        """Number a push and make its frame.

        Args:
            tail: from the codec's `push_tail`; one for all sessions of that codec.

        Raises:
            WrongState: the session is not greeted.
        """
        if self._state is not _GREETED:
            self._require(_GREETED, "push()")
        self.seq += 1
        return self._codec.push(self.seq, tail)

    def close(self, code: CloseCode, reason: str, error: WireError | None = None) -> Close:
        """Close from the server's side; requests in flight are forgotten.

        Args:
            code: the close code.
            reason: one sentence for the client, at most 123 bytes.
            error: what the error frame says; by default the close code's own error, with `reason` as message.
        """
        self.lost()
        error = error or close_error(code, reason)
        return Close(code, reason, None if error is None else self._codec.error(0, error))

    def lost(self) -> None:
        """The connection is gone; requests in flight are forgotten."""
        self._state = State.CLOSED
        self._in_flight.clear()
        self._early.clear()

    def deadline(self, now: float) -> float | None:
        """When to call `expire`, in seconds on the caller's clock and never before `now`; None for never."""
        if self._state in (State.CONNECTED, State.GREETING):
            return max(self._deadline, now)
        return None

    def expire(self, now: float) -> Close | None:
        """Close a session that its deadline has passed, or None."""
        deadline = self.deadline(now)
        if deadline is None or now < deadline:
            return None
        seconds = self._limits.hello_timeout_seconds
        waited_for = "hello" if self._state is State.CONNECTED else "welcome: the authenticator took too long"
        return self.close(CloseCode.HELLO_TIMEOUT, f"after {seconds:g} s there was no {waited_for}")

    def _require(self, state: State, method: str) -> None:
        if self._state is not state:
            raise WrongState(f"{method} is for a session that is {state.value}, and this one is {self._state.value}")

    def _settle(self, id: int) -> None:
        try:
            self._in_flight.remove(id)
        except KeyError:
            raise NotInFlight(f"no request {id} waits for an answer: it was answered, or the session is over") from None

    def _receive_first(self, data: bytes) -> Event:
        if len(data) > self._limits.hello_bytes_max:
            return self.close(CloseCode.TOO_BIG, f"a hello has at most {self._limits.hello_bytes_max} bytes")
        try:
            frame = self._codec.decode(data)
        except Malformed as malformed:
            return self.close(malformed.close_code, malformed.reason)
        if type(frame) is not Hello:
            return self.close(CloseCode.MALFORMED, f"the first frame must be hello, got {type(frame).__name__.lower()}")
        self._state = State.GREETING
        self._early_bytes = len(data)
        return HelloEvent(frame)

    def _hold(self, data: bytes) -> Event:
        """Keep what an impatient client sends while its hello is looked at, within a stranger's limits."""
        self._early_bytes += len(data)
        if self._early_bytes > self._limits.hello_bytes_max or len(self._early) >= self._limits.early_frames_max:
            return self.close(CloseCode.TOO_BIG, "too much before the welcome: wait for it")
        self._early.append(data)
        return _NOTHING

    def _receive_greeted(self, data: bytes, now: float) -> Event:
        if len(data) > self._frame_bytes_max:
            return self.close(CloseCode.TOO_BIG, f"a frame has at most {self._limits.frame_bytes_max} bytes")
        try:
            frame = self._codec.decode(data)
        except Malformed as malformed:
            return self.close(malformed.close_code, malformed.reason)
        if type(frame) is Request:
            wait = self._messages.take(now)
            if wait:
                return self._refuse(frame.id, wait, now)
            if self._refusals:
                self._refusals -= 1
            in_flight = self._in_flight
            if frame.id in in_flight or len(in_flight) >= self._requests_max:
                return self._turn_away(frame)
            in_flight.add(frame.id)
            return frame
        if type(frame) is Hello:
            return self.close(CloseCode.MALFORMED, "hello: a session has only one")
        wait = (self._messages if type(frame) is Notify else self._controls).take(now)
        if wait:
            return self._refuse(None, wait, now)
        if self._refusals:
            self._refusals -= 1
        if type(frame) is Notify or type(frame) is Ack:
            return frame
        return Reply(self._codec.pong()) if type(frame) is Ping else _NOTHING

    def _turn_away(self, request: Request) -> Event:
        """Answer a request that may not come in now."""
        id = request.id
        if id in self._in_flight:
            return self._error(
                id,
                WireError(
                    "gateway.duplicate_id",
                    ErrorKind.FAILED_PRECONDITION,
                    "a request of this id is still in flight: give each request its own",
                ),
            )
        return self._error(
            id,
            WireError(
                "gateway.too_many_requests",
                ErrorKind.RESOURCE_EXHAUSTED,
                "too many requests wait for an answer: wait for some of them",
                retryable=True,
                details={"requests_in_flight_max": self._requests_max},
            ),
        )

    def _refuse(self, id: int | None, wait: float, now: float) -> Event:
        """Turn away a frame over a rate; `id` is None where nobody waits for an answer.

        Each frame within the rate takes one refusal back, so what counts is a client that keeps sending at
        more than twice the rate, and not one that now and then goes over it.
        """
        self.refusals_total += 1
        self._refusals += 1
        if self._refusals >= self._limits.refusals_max:
            return self.close(CloseCode.RATE, f"{self._refusals} frames over the rate limit: slow down")
        if id is None:
            if now < self._notice_at:
                return _NOTHING
            self._notice_at = now + self._limits.notice_interval_seconds
        return self._error(
            id or 0,
            WireError(
                "gateway.rate_limited",
                ErrorKind.RESOURCE_EXHAUSTED,
                "too many messages: wait before the next",
                retryable=True,
                # Rounded up, so that a client that waits so long is never early.
                details={"retry_after": ceil(wait * 1000) / 1000},
            ),
        )

    def _error(self, id: int, error: WireError) -> Reply:
        return Reply(self._codec.error(id, error))
