"""Any order of frames, answers, pushes, losses and returns: what must hold, holds."""

from fractions import Fraction

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from skyloom_gateway.session import (
    Admission,
    Close,
    Event,
    Nothing,
    NotifyEvent,
    NotInFlight,
    Reply,
    RequestEvent,
    Session,
    SessionLimits,
    State,
)
from skyloom_gateway.wire import JSON, MSGPACK, Codec, ErrorFrame, ErrorKind, Push, Response, Resume, Welcome, WireError
from tests.examples import examples

LIMITS = SessionLimits(
    messages_per_second=10,
    messages_burst=5,
    refusals_max=8,
    requests_in_flight_max=3,
    controls_per_second=20,
    controls_burst=6,
    repeats_per_second=20,
    repeats_burst=4,
    replay_pushes_max=4,
    answers_max=3,
)


# Those that close a session are drawn less often, so that sessions live long.
KINDS = [*["request", "notify", "ack", "ping", "pong"] * 5, "hello", "garbage"]
# Not counted from 1, so that the least model of what is remembered is a list.
IDS = range(10, 18)


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

    @initialize(codec=st.sampled_from([JSON, MSGPACK]))
    def connect(self, codec: object) -> None:
        self.codec: Codec = JSON if codec is JSON else MSGPACK
        self.now_ms = 0
        self.session = Session("s", "u", self.codec, LIMITS, 0.0, "secret")
        self.messages = TextbookBucket(10, 5)
        self.controls = TextbookBucket(20, 6)
        self.repeats = TextbookBucket(20, 4)
        self.waiting: set[int] = set()
        self.answered: list[tuple[int, bytes]] = []  # the last ones
        self.refused = 0
        self.streak = 0
        self.pushed = 0
        self.gone = 0  # pushes up to this one
        self.keys: list[str] = []
        self.used = -1  # the key used last
        self.arrived = False
        self.lost_at = 0  # the last push before the connection was lost
        self.left_ms = 0
        self.hopeless = False
        self.welcome(recovered=False)

    def welcome(self, *, recovered: bool) -> None:
        frame = self.codec.decode_server(self.session.welcome(recovered, {}))
        assert isinstance(frame, Welcome)
        assert (frame.session, frame.user, frame.recovered) == ("s", "u", recovered)
        assert frame.key not in self.keys
        self.keys.append(frame.key)
        self.arrived = False

    @property
    def now(self) -> float:
        return self.now_ms / 1000

    def in_state(self, state: State) -> bool:
        return self.session.state is state

    @rule(ms=st.integers(0, 400))
    def pause(self, ms: int) -> None:
        self.now_ms += ms

    @precondition(lambda self: self.in_state(State.GREETED))
    @rule(kind=st.sampled_from(KINDS), id=st.sampled_from(IDS), seq=st.integers(0, 30))
    def client_sends(self, kind: str, id: int, seq: int = 0) -> None:
        data = {
            "request": self.codec.request(id, "a", self.codec.encode_body({})),
            "notify": self.codec.notify("a", self.codec.encode_body({})),
            "ack": self.codec.ack(seq),
            "ping": self.codec.ping(),
            "pong": self.codec.pong(),
            "hello": self.codec.hello({"auth": {}}),
            "garbage": b"garbage",
        }[kind]
        self.arrived = True
        self.check(kind, id, seq, self.session.receive(data, self.now))

    @rule(kind=st.sampled_from(["request", "notify", "ack"]), frames=st.integers(2, 20), ms=st.integers(0, 60))
    def client_floods(self, kind: str, frames: int, ms: int) -> None:
        for _ in range(frames):
            if self.in_state(State.GREETED):
                self.client_sends(kind, 10)
                self.now_ms += ms

    def check(self, kind: str, id: int, seq: int, event: Event) -> None:
        if kind in ("hello", "garbage"):
            assert isinstance(event, Close)
            return
        repeated = kind == "request" and (id in self.waiting or id in dict(self.answered))
        counted = self.messages if kind in ("request", "notify") else self.controls
        bucket = self.repeats if repeated else counted
        if not bucket.take(self.now_ms):
            self.refused += 1
            self.streak += 1
            assert isinstance(event, Close) == (self.streak >= LIMITS.refusals_max)
            assert isinstance(event, Close | Reply | Nothing)
            if kind == "request" and not repeated and not isinstance(event, Close):
                self.check_error(event, id, "gateway.rate_limited")
            return
        if not repeated:
            self.streak = max(0, self.streak - 1)
        if kind == "ack":
            self.gone = max(self.gone, min(seq, self.pushed))
        if kind != "request":
            assert isinstance(event, NotifyEvent) == (kind == "notify")
            assert not isinstance(event, Close)
        elif id in self.waiting:
            assert event == Nothing()
        elif id in dict(self.answered):
            assert event == Reply(dict(self.answered)[id])
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

    @rule(id=st.sampled_from(IDS), how=st.sampled_from(["answer", "answer", "fail", "not run"]))
    def agent_answers(self, id: int, how: str) -> None:
        expected = id in self.waiting
        assert self.session.awaits(id) == expected
        try:
            if how == "answer":
                frame = self.session.respond(id, self.codec.encode_body({}))
            else:
                error = WireError("a.b", ErrorKind.INTERNAL, "no")
                frame = self.session.fail(id, error, ran=how == "fail")
        except NotInFlight:
            assert not expected
        else:
            assert expected
            self.waiting.remove(id)
            if how != "not run":
                self.answered = [*self.answered, (id, frame)][-LIMITS.answers_max :]
            decoded = self.codec.decode_server(frame)
            assert isinstance(decoded, Response if how == "answer" else ErrorFrame)
            assert decoded.id == id

    @precondition(lambda self: not self.in_state(State.CLOSED) and not self.hopeless)
    @rule()
    def push(self) -> None:
        self.pushed += 1
        self.gone = max(self.gone, self.pushed - LIMITS.replay_pushes_max)
        tail = self.codec.push_tail("a", self.codec.encode_body(self.pushed))
        if self.in_state(State.GREETED):
            assert self.codec.decode_server(self.session.push(tail) + tail) == Push(self.pushed, "a", self.pushed)
        else:
            self.hopeless = self.gone > self.lost_at
            assert self.session.keep(tail) == (not self.hopeless)

    @precondition(lambda self: self.in_state(State.GREETED))
    @rule()
    def connection_breaks(self) -> None:
        self.session.suspend(self.now)
        self.left_ms, self.lost_at = self.now_ms, self.pushed

    @precondition(lambda self: not self.in_state(State.CLOSED))
    @rule(seq=st.integers(0, 30), key=st.integers(1, 4), forged=st.integers(0, 9))
    def client_returns(self, seq: int, key: int, forged: int) -> None:
        """With the newest key, most of the time, or one before it, or a wrong one."""
        which = max(0, len(self.keys) - key) if key < 4 else len(self.keys) - 1
        wrong = forged == 0
        text = self.keys[which] + "0" * wrong
        admission = self.session.admit(Resume("s", text, seq))
        newest = which == len(self.keys) - 1
        again = which == self.used and self.in_state(State.SUSPENDED) and not self.arrived
        whole = self.gone <= seq <= self.pushed
        if wrong:
            assert admission is Admission.STRANGER
            return
        if not newest and not again:
            assert admission is Admission.USED_TWICE
            self.session.end()
            return
        self.used = which
        if not whole:
            assert admission is Admission.START_OVER
            self.session.end()
            return
        assert admission is Admission.WELCOME
        if self.in_state(State.GREETED):
            self.connection_breaks()
        self.session.resume(seq)
        self.welcome(recovered=True)
        self.gone = seq
        frames = [self.codec.decode_server(frame) for frame in self.session.replay()]
        assert frames == [Push(number, "a", number) for number in range(seq + 1, self.pushed + 1)]
        self.hopeless = False

    @rule(seconds=st.integers(0, 70))
    def time_passes(self, seconds: int) -> None:
        if self.in_state(State.SUSPENDED):
            self.now_ms += seconds * 1000
            over = self.now_ms >= self.left_ms + 60_000
            assert self.session.expire(self.now) == over
            if over:
                self.session.end()
        else:
            assert not self.session.expire(self.now)

    @invariant()
    def nothing_grows(self) -> None:
        if not hasattr(self, "session"):
            return
        session = self.session
        if session.state is State.CLOSED:
            self.waiting.clear()
            assert session.kept_bytes == 0
        assert session.in_flight == len(self.waiting) <= LIMITS.requests_in_flight_max
        assert session.refusals_total == self.refused
        assert session._refusals <= LIMITS.refusals_max
        assert session.seq == self.pushed
        assert len(session._replay._tails) <= LIMITS.replay_pushes_max
        assert session._replay.size == sum(map(len, session._replay._tails.values()))
        answers = session._answers
        assert len(answers._frames) <= LIMITS.answers_max
        assert answers.size == sum(map(len, answers._frames.values()))


TestSessionMachine = SessionMachine.TestCase
TestSessionMachine.settings = examples(150, steps=60)
