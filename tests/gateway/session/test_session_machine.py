"""Any order of frames, answers, pushes and pauses: what must hold, holds."""

from fractions import Fraction

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from skyloom_gateway.session import (
    Close,
    Event,
    HelloEvent,
    Nothing,
    NotifyEvent,
    NotInFlight,
    Reply,
    RequestEvent,
    Session,
    SessionLimits,
    State,
)
from skyloom_gateway.wire import JSON, MSGPACK, ErrorFrame, ErrorKind, Push, Response, WireError
from tests.examples import examples

LIMITS = SessionLimits(
    messages_per_second=10,
    messages_burst=5,
    refusals_max=8,
    requests_in_flight_max=3,
    early_frames_max=4,
    controls_per_second=20,
    controls_burst=6,
)


# Those that close a greeted session are drawn less often, so that sessions live long.
KINDS = [*["request", "notify", "ack", "ping", "pong"] * 5, "hello", "garbage"]


class TextbookBucket:
    """A bucket in exact fractions, to compare with."""

    def __init__(self, per_second: int, burst: int) -> None:
        self.per_second, self.burst = per_second, burst
        self.tokens, self.last_ms = Fraction(burst), 0

    def take(self, now_ms: int) -> bool:
        gained = Fraction((now_ms - self.last_ms) * self.per_second, 1000)
        self.tokens, self.last_ms = min(Fraction(self.burst), self.tokens + gained), now_ms
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True


class SessionMachine(RuleBasedStateMachine):
    """Drives a session and keeps the least model of what it must do."""

    @initialize(codec=st.sampled_from([JSON, MSGPACK]), come_in=st.integers(0, 3).map(bool))
    def connect(self, codec: object, come_in: bool) -> None:
        self.codec = JSON if codec is JSON else MSGPACK
        self.now_ms = 0
        self.session = Session(self.codec, LIMITS, 0.0)
        self.messages = TextbookBucket(10, 5)
        self.controls = TextbookBucket(20, 6)
        self.waiting: set[int] = set()
        self.refused = 0
        self.streak = 0
        self.seq = 0
        if come_in:
            assert isinstance(self.session.receive(self.codec.hello({"auth": {}}), 0.0), HelloEvent)
            self.session.greet("s", "k", "u", {})

    @property
    def now(self) -> float:
        return self.now_ms / 1000

    def in_state(self, state: State) -> bool:
        return self.session.state is state

    @rule(ms=st.integers(0, 400))
    def pause(self, ms: int) -> None:
        self.now_ms += ms
        stranger = self.session.state in (State.CONNECTED, State.GREETING)
        close = self.session.expire(self.now)
        assert (close is not None) == (stranger and self.now_ms >= 5000)

    @rule(
        kind=st.sampled_from(KINDS),
        id=st.integers(0, 5),
    )
    def client_sends(self, kind: str, id: int) -> None:
        before = self.session.state
        data = {
            "request": self.codec.request(id, "a", self.codec.encode_body({})),
            "notify": self.codec.notify("a", self.codec.encode_body({})),
            "ack": self.codec.ack(id),
            "ping": self.codec.ping(),
            "pong": self.codec.pong(),
            "hello": self.codec.hello({"auth": {}}),
            "garbage": b"garbage",
        }[kind]
        event = self.session.receive(data, self.now)
        if before is State.CONNECTED:
            assert isinstance(event, HelloEvent if kind == "hello" else Close)
        elif before is State.GREETING:
            assert isinstance(event, Nothing | Close)
        elif before is State.CLOSED:
            assert event == Nothing()
        else:
            self.check_greeted(kind, id, event)

    @rule(kind=st.sampled_from(["request", "notify", "ack"]), frames=st.integers(2, 20), ms=st.integers(0, 60))
    def client_floods(self, kind: str, frames: int, ms: int) -> None:
        for _ in range(frames if self.in_state(State.GREETED) else 0):
            self.client_sends(kind, 0)
            self.now_ms += ms

    def check_greeted(self, kind: str, id: int, event: Event) -> None:
        if kind in ("hello", "garbage"):
            assert isinstance(event, Close)
            self.waiting.clear()
            return
        bucket = self.messages if kind in ("request", "notify") else self.controls
        if not bucket.take(self.now_ms):
            self.refused += 1
            self.streak += 1
            assert isinstance(event, Close) == (self.streak >= LIMITS.refusals_max)
            assert isinstance(event, Close | Reply | Nothing)
            if isinstance(event, Close):
                self.waiting.clear()
            elif kind == "request":
                self.check_error(event, id, "gateway.rate_limited")
            return
        self.streak = max(0, self.streak - 1)
        if kind != "request":
            assert isinstance(event, NotifyEvent) == (kind == "notify")
            assert not isinstance(event, Close)
        elif id in self.waiting:
            self.check_error(event, id, "gateway.duplicate_id")
        elif len(self.waiting) >= LIMITS.requests_in_flight_max:
            self.check_error(event, id, "gateway.too_many_requests")
        else:
            assert isinstance(event, RequestEvent)
            self.waiting.add(id)

    def check_error(self, event: Event, id: int, code: str) -> None:
        assert isinstance(event, Reply)
        frame = self.codec.decode_server(event.frame)
        assert isinstance(frame, ErrorFrame)
        assert (frame.id, frame.error.code) == (id, code)

    @precondition(lambda self: self.in_state(State.GREETING))
    @rule()
    def greet(self) -> None:
        self.session.greet("s", "k", "u", {})
        for event in self.session.release(self.now):
            # The model begins with the frames that come after these.
            if isinstance(event, RequestEvent):
                self.waiting.add(event.id)
        self.resynchronise()

    def resynchronise(self) -> None:
        """After a release the buckets have given an unknown number of tokens: wait until they are full."""
        if not self.in_state(State.GREETED):
            self.waiting.clear()
        self.now_ms += 10_000
        self.refused = self.session.refusals_total
        self.messages, self.controls = TextbookBucket(10, 5), TextbookBucket(20, 6)
        self.messages.last_ms = self.controls.last_ms = self.now_ms

    @rule(id=st.integers(0, 5), fails=st.booleans())
    def agent_answers(self, id: int, fails: bool) -> None:
        expected = id in self.waiting
        assert self.session.awaits(id) == expected
        try:
            if fails:
                frame = self.session.fail(id, WireError("a.b", ErrorKind.INTERNAL, "no"))
            else:
                frame = self.session.respond(id, self.codec.encode_body({}))
        except NotInFlight:
            assert not expected
        else:
            assert expected
            self.waiting.remove(id)
            decoded = self.codec.decode_server(frame)
            assert isinstance(decoded, ErrorFrame if fails else Response)
            assert decoded.id == id

    @precondition(lambda self: self.in_state(State.GREETED))
    @rule()
    def push(self) -> None:
        self.seq += 1
        frame = self.session.push(self.codec.push_tail("a", self.codec.encode_body(None)))
        assert self.codec.decode_server(frame) == Push(self.seq, "a", None)

    @rule()
    def lose(self) -> None:
        if self.now_ms > 20_000:
            self.session.lost()
            self.waiting.clear()

    @invariant()
    def nothing_grows(self) -> None:
        if not hasattr(self, "session"):
            return
        session = self.session
        if session.state is State.CLOSED:
            self.waiting.clear()
        assert session.in_flight == len(self.waiting) <= LIMITS.requests_in_flight_max
        assert len(session._early) <= LIMITS.early_frames_max
        assert session._early_bytes <= LIMITS.hello_bytes_max
        assert session.refusals_total == self.refused
        assert session._refusals <= LIMITS.refusals_max
        assert session.seq == self.seq


TestSessionMachine = SessionMachine.TestCase
TestSessionMachine.settings = examples(150, steps=60)
