"""The client's half of the protocol, free of I/O: frames in and out, time passed in.

    greeting --welcome--> open --error 0, close--> (the transport ends it)

A conversation numbers requests, remembers which are unanswered, checks the order of pushes, and knows when
a silent connection must be pinged and when it must be given up. It holds what a resume needs (session, key,
seq), so that a later connection can go on where this one stopped. PROTOCOL version 1 is the source.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from skyloom_gateway.client.errors import ConnectionLost, MessageTooLarge, ProtocolViolation
from skyloom_gateway.wire.codec import Codec
from skyloom_gateway.wire.codes import CLOSE_CAUSES, WireError
from skyloom_gateway.wire.frame import (
    ID_MAX,
    Drain,
    ErrorFrame,
    Ping,
    Pong,
    Push,
    Response,
    ServerFrame,
    Welcome,
)
from skyloom_gateway.wire.malformed import Malformed

_CLOSE_CODES = {cause.code: int(code) for code, cause in CLOSE_CAUSES.items()}
HEARTBEAT_SECONDS = 20.0  # until the welcome names the gateway's own


@dataclass(frozen=True, slots=True)
class Limits:
    """What the gateway allows: bytes in one frame from the client, and messages a second, as its welcome
    says.
    """

    frame_bytes: int = 65_536
    messages_per_second: float = 50.0


@dataclass(frozen=True, slots=True)
class Answer:
    """A request is answered: `error` is set when it failed, else `body` is the answer."""

    id: int
    body: object = None
    error: WireError | None = None


@dataclass(frozen=True, slots=True)
class Complaint:
    """An error with id 0: about the session, or a notify, and not about a request."""

    error: WireError


@dataclass(frozen=True, slots=True)
class Say:
    """A frame that the protocol wants sent now."""

    frame: bytes


@dataclass(frozen=True, slots=True)
class Quiet:
    """Nothing to do. `late` marks an answer to a request that nobody waits for any more."""

    late: bool = False


Event = Welcome | Answer | Complaint | Push | Drain | Say | Quiet

_QUIET = Quiet()


@dataclass(frozen=True, slots=True)
class Tick:
    """What a look at the clock gave: a ping to send, or the verdict `dead`; look again in `wait_seconds`."""

    wait_seconds: float
    frame: bytes | None = None
    dead: bool = False


@dataclass(slots=True)
class Conversation:
    """The protocol state of one client. `now` is the time at which the connection came up, in seconds."""

    codec: Codec
    now: float
    welcome: Welcome | None = None
    limits: Limits = field(default_factory=Limits)
    heartbeat_seconds: float = HEARTBEAT_SECONDS
    seq: int = 0
    complaint: WireError | None = None
    _last_id: int = 0
    _pending: set[int] = field(default_factory=set)
    _heard: float = 0.0
    _pinged: float | None = None

    def __post_init__(self) -> None:
        self._heard = self.now

    def hello(self, auth: Mapping[str, object], client: Mapping[str, object]) -> bytes:
        """The first frame of a connection."""
        return self.codec.hello({"auth": dict(auth), "client": dict(client)})

    def request(self, route: str, body: object) -> tuple[int, bytes]:
        """Number a request and encode it; raises MessageTooLarge. The id stays pending until an answer or
        `forget`.
        """
        request_id = self._next_id()
        frame = self._bounded(route, self.codec.request(request_id, route, self.codec.encode_body(body)))
        self._pending.add(request_id)
        return request_id, frame

    def notify(self, route: str, body: object) -> bytes:
        """Encode a notify; raises MessageTooLarge."""
        return self._bounded(route, self.codec.notify(route, self.codec.encode_body(body)))

    def forget(self, request_id: int) -> None:
        """Nobody waits for this request any more; its answer will count as late."""
        self._pending.discard(request_id)

    def receive(self, data: bytes, now: float) -> Event:
        """Take one frame and say what it means; raises ProtocolViolation."""
        self._heard = now
        self._pinged = None
        self.complaint = None  # only one right before the end tells of the end
        try:
            frame: ServerFrame = self.codec.decode_server(data)
        except Malformed as malformed:
            raise ProtocolViolation(
                f"a frame of {len(data)} bytes is not valid {self.codec.name}: {malformed}"
            ) from malformed
        if self.welcome is None:
            return self._greeted(frame)
        match frame:
            case Response(id=request_id, body=body):
                return self._answer(Answer(request_id, body))
            case ErrorFrame(id=0, error=error):
                self.complaint = error
                return Complaint(error)
            case ErrorFrame(id=request_id, error=error):
                return self._answer(Answer(request_id, error=error))
            case Push(seq=seq):
                if seq != self.seq + 1:
                    raise ProtocolViolation(f"push {seq} came after push {self.seq}")
                self.seq = seq
                return frame
            case Drain():
                return frame
            case Ping():
                return Say(self.codec.pong())
            case Pong():
                return _QUIET
            case Welcome():
                raise ProtocolViolation("a second welcome")

    def tick(self, now: float) -> Tick:
        """Keep a silent connection honest: ping after one heartbeat without a frame, give up after one
        more.
        """
        if self._pinged is not None:
            left = self._pinged + self.heartbeat_seconds - now
            return Tick(left) if left > 0 else Tick(0.0, dead=True)
        left = self._heard + self.heartbeat_seconds - now
        if left > 0:
            return Tick(left)
        self._pinged = now
        return Tick(self.heartbeat_seconds, frame=self.codec.ping())

    def lost(self, code: int | None, reason: str, *, sent: bool = True) -> ConnectionLost:
        """The error that tells of the connection's end. On TCP, without close codes, the last frame tells."""
        complaint = self.complaint
        if code is None and complaint is not None:
            code = _CLOSE_CODES.get(complaint.code)
        return ConnectionLost(code, reason, error=complaint, sent=sent)

    def _greeted(self, frame: ServerFrame) -> Event:
        match frame:
            case Welcome():
                self.welcome = frame
                self.limits = _limits(frame.limits)
                if frame.heartbeat is not None and frame.heartbeat > 0:
                    self.heartbeat_seconds = frame.heartbeat
                return frame
            case ErrorFrame(error=error):
                self.complaint = error
                return Complaint(error)
            case Ping():
                return Say(self.codec.pong())
            case _:
                raise ProtocolViolation(f"{type(frame).__name__} came before the welcome")

    def _answer(self, answer: Answer) -> Event:
        if answer.id in self._pending:
            self._pending.remove(answer.id)
            return answer
        return Quiet(late=True)

    def _next_id(self) -> int:
        candidate = self._last_id % ID_MAX + 1
        while candidate in self._pending:
            candidate = candidate % ID_MAX + 1
        self._last_id = candidate
        return candidate

    def _bounded(self, route: str, frame: bytes) -> bytes:
        if len(frame) > self.limits.frame_bytes:
            raise MessageTooLarge(route, len(frame), self.limits.frame_bytes)
        return frame


def _limits(told: Mapping[str, object]) -> Limits:
    """Read the welcome's limits; what is missing or odd keeps the protocol's default, since frames may
    vary.
    """
    frame_bytes, rate = told.get("frame_bytes"), told.get("messages_per_second")
    default = Limits()
    return Limits(
        frame_bytes=frame_bytes if isinstance(frame_bytes, int) and frame_bytes > 0 else default.frame_bytes,
        messages_per_second=float(rate) if isinstance(rate, int | float) and rate > 0 else default.messages_per_second,
    )
