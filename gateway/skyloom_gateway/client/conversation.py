"""The client's half of the protocol, free of I/O: frames in and out, time passed in.

    connected() --hello--> greeting --welcome--> open --the transport ends--> connected() ...

A conversation goes on over many connections. It numbers requests and keeps each until it has the answer, counts pushes
and lets each through once, acknowledges them now and then, and knows when a silent connection must be pinged and when
it must be given up. Its hello asks for the session that it had; the welcome says whether it has it back:

- recovered: the pushes after the last one follow. Requests without an answer are repeated under their ids, before new
  ones; the gateway answers from memory what it has run already.
- not recovered: a new session. Whoever waits for an answer of the old one is told so, and ids and pushes are counted
  from 1 again.

PROTOCOL version 1 is the source.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from skyloom_gateway.client.errors import ConnectionLost, MessageTooLarge, ProtocolViolation
from skyloom_gateway.wire.codec import Codec
from skyloom_gateway.wire.codes import CLOSE_CAUSES, CloseCode, ErrorKind, WireError
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

HEARTBEAT_SECONDS = 20.0  # until the welcome names the gateway's own
PONG_SECONDS = 10.0
"""How long the gateway may take to say anything once it was pinged."""

ACK_PUSHES = 32
"""Pushes after which they are acknowledged at once."""

ACK_SECONDS = 1.0
"""How long a push waits to be acknowledged with others: the gateway keeps it for so long."""

_CLOSE_CODES = {cause.code: int(code) for code, cause in CLOSE_CAUSES.items()}
_GOODBYES = set(_CLOSE_CODES) - {CLOSE_CAUSES[CloseCode.RATE].code}  # which may also be a mere warning
_CLOSE_CODES_BY_KIND = {
    ErrorKind.UNAUTHENTICATED: int(CloseCode.UNAUTHENTICATED),
    ErrorKind.PERMISSION_DENIED: int(CloseCode.FORBIDDEN),
}


@dataclass(frozen=True, slots=True)
class Limits:
    """What the gateway allows: bytes in one frame from the client, and messages a second, as its welcome
    says.
    """

    frame_bytes: int = 65_536
    messages_per_second: float = 50.0


@dataclass(eq=False, slots=True)
class Pending:
    """A request that has no answer. It gets its id when it is first sent, so that ids have no gaps."""

    route: str
    body: bytes
    id: int = 0

    @property
    def sent(self) -> bool:
        """Whether it was handed to a connection, so that it may have run."""
        return self.id != 0


@dataclass(frozen=True, slots=True)
class Begun:
    """The gateway let the client in. With `recovered` the session goes on; else it is new, and `orphans` are the
    requests of the old one that nobody will answer.
    """

    recovered: bool
    orphans: tuple[Pending, ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """A request is answered: `error` is set when it failed, else `body` is the answer."""

    request: Pending
    body: object = None
    error: WireError | None = None


@dataclass(frozen=True, slots=True)
class Complaint:
    """An error with id 0: about the session, or a notify, and not about a request. A `goodbye` only says why the
    connection ends now.
    """

    error: WireError
    goodbye: bool = False


@dataclass(frozen=True, slots=True)
class Quiet:
    """Nothing to do. `late` marks an answer to a request that nobody waits for any more."""

    late: bool = False


Event = Begun | Answer | Complaint | Push | Drain | Quiet

_QUIET = Quiet()


@dataclass(frozen=True, slots=True)
class Tick:
    """What a look at the clock gave: frames to send, or the verdict `dead`; look again in `wait_seconds`."""

    wait_seconds: float
    frames: tuple[bytes, ...] = ()
    dead: bool = False


@dataclass(slots=True)
class Conversation:
    """The protocol state of one client."""

    codec: Codec
    welcome: Welcome | None = None
    limits: Limits = field(default_factory=Limits)
    heartbeat_seconds: float = HEARTBEAT_SECONDS
    seq: int = 0
    complaint: WireError | None = None
    due: float = 0.0
    """When to call `tick` next; an event may move it forward."""
    _greeting: bool = True
    _last_id: int = 0
    _sent: dict[int, Pending] = field(default_factory=dict)
    _waiting: dict[Pending, None] = field(default_factory=dict)
    _heard: float = 0.0
    _pinged: float | None = None
    _pong_due: bool = False
    _acked: int = 0
    _ack_at: float = 0.0

    def connected(self, auth: Mapping[str, object], client: Mapping[str, object], now: float) -> bytes:
        """A connection is there: the hello to begin with, which asks for the session that was lost, if any."""
        self._greeting = True
        self._heard = self.due = now
        self._pinged = None
        self._pong_due = False
        self.complaint = None
        hello: dict[str, object] = {"auth": dict(auth), "client": dict(client)}
        if self.welcome is not None:
            hello["resume"] = {"session": self.welcome.session, "key": self.welcome.key, "seq": self.seq}
        return self.codec.hello(hello)

    # -- to the gateway --------------------------------------------------------------------------------------

    @property
    def waiting(self) -> int:
        """How many requests wait to be sent."""
        return len(self._waiting)

    def request(self, route: str, body: object) -> Pending:
        """Put a request in the queue for `take`; raises MessageTooLarge. It is kept until its answer or `forget`."""
        encoded = self.codec.encode_body(body)
        self._check_size(route, self.codec.request(ID_MAX, route, encoded))
        pending = Pending(route, encoded)
        self._waiting[pending] = None
        return pending

    def take(self) -> bytes | None:
        """The frame of the next request that this connection has not carried yet, None if there is none."""
        if not self._waiting:
            return None
        pending = next(iter(self._waiting))
        del self._waiting[pending]
        pending.id = pending.id or self._next_id()
        self._sent[pending.id] = pending
        return self.codec.request(pending.id, pending.route, pending.body)

    def notify(self, route: str, body: object) -> bytes:
        """Encode a notify; raises MessageTooLarge."""
        return self._check_size(route, self.codec.notify(route, self.codec.encode_body(body)))

    def forget(self, pending: Pending) -> None:
        """Nobody waits for this request any more; its answer will count as late."""
        self._waiting.pop(pending, None)
        self._sent.pop(pending.id, None)

    def tick(self, now: float) -> Tick:
        """What the clock asks for: answers to pings, acknowledgements, and a ping after one heartbeat of silence. The
        connection is dead when nothing at all comes for PONG_SECONDS after a ping.
        """
        frames = []
        if self._pong_due:
            self._pong_due = False
            frames.append(self.codec.pong())
        if self.seq - self._acked >= ACK_PUSHES or (self.seq > self._acked and now >= self._ack_at):
            self._acked = self.seq
            frames.append(self.codec.ack(self.seq))
        if self._pinged is None and now >= self._heard + self.heartbeat_seconds:
            self._pinged = now
            frames.append(self.codec.ping())
        if self._pinged is None:
            self.due = self._heard + self.heartbeat_seconds
        else:
            self.due = self._pinged + PONG_SECONDS
            if now >= self.due:
                return Tick(0.0, dead=True)
        if self.seq > self._acked:
            self.due = min(self.due, self._ack_at)
        return Tick(self.due - now, tuple(frames))

    # -- from the gateway ------------------------------------------------------------------------------------

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
        if self._greeting and not isinstance(frame, Welcome | ErrorFrame | Ping):
            raise ProtocolViolation(f"{type(frame).__name__} came before the welcome")
        match frame:
            case Response(id=request_id, body=body):
                return self._answer(request_id, body=body)
            case ErrorFrame(id=request_id, error=error) if request_id and not self._greeting:
                return self._answer(request_id, error=error)
            case ErrorFrame(error=error):
                self.complaint = error
                return Complaint(error, goodbye=error.code in _GOODBYES)
            case Push():
                return self._pushed(frame, now)
            case Drain():
                return frame
            case Ping():
                self._pong_due, self.due = True, now
                return _QUIET
            case Pong():
                return _QUIET
            case Welcome():
                return self._welcomed(frame)

    def lost(self, code: int | None, reason: str) -> ConnectionLost:
        """The error that tells of the connection's end. On TCP, without close codes, the last frame tells."""
        complaint = self.complaint
        if code is None and complaint is not None:
            code = _CLOSE_CODES.get(complaint.code) or _CLOSE_CODES_BY_KIND.get(complaint.kind)
        return ConnectionLost(code, reason, error=complaint)

    def _welcomed(self, welcome: Welcome) -> Begun:
        if not self._greeting:
            raise ProtocolViolation("a second welcome")
        before, self.welcome = self.welcome, welcome
        if welcome.recovered and (before is None or before.session != welcome.session):
            raise ProtocolViolation("the welcome recovers a session that this client did not ask for")
        self._greeting = False
        self.limits = _limits(welcome.limits)
        if welcome.heartbeat is not None and welcome.heartbeat > 0:
            self.heartbeat_seconds = welcome.heartbeat
        if welcome.recovered:
            # The hello told the gateway which pushes are here.
            self._acked = self.seq
            self._waiting = self._unanswered()
            return Begun(recovered=True)
        orphans = () if before is None else tuple(self._unanswered())
        if before is not None:
            self._sent, self._waiting = {}, {}
        self.seq = self._acked = self._last_id = 0
        return Begun(recovered=False, orphans=orphans)

    def _pushed(self, push: Push, now: float) -> Event:
        if push.seq <= self.seq:
            return _QUIET
        if push.seq != self.seq + 1:
            raise ProtocolViolation(f"push {push.seq} came after push {self.seq}")
        if self.seq == self._acked:
            self._ack_at = now + ACK_SECONDS
            self.due = min(self.due, self._ack_at)
        self.seq = push.seq
        if self.seq - self._acked == ACK_PUSHES:
            self.due = now
        return push

    def _answer(self, request_id: int, *, body: object = None, error: WireError | None = None) -> Event:
        pending = self._sent.pop(request_id, None)
        if pending is None:
            return Quiet(late=True)
        self._waiting.pop(pending, None)  # answered before it was repeated
        return Answer(pending, body, error)

    def _unanswered(self) -> dict[Pending, None]:
        """All requests without an answer, in the order in which they were made."""
        return dict.fromkeys([*self._sent.values(), *self._waiting])

    def _next_id(self) -> int:
        candidate = self._last_id % ID_MAX + 1
        while candidate in self._sent:
            candidate = candidate % ID_MAX + 1
        self._last_id = candidate
        return candidate

    def _check_size(self, route: str, frame: bytes) -> bytes:
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
