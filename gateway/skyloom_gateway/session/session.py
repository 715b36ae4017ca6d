"""The state machine of one client's session.

A session is what client and server have in common: who the client is, which pushes it was sent, which requests it
made and what they were answered. Connections carry it, one at a time. When one is lost the session waits, and the next
one takes it over where it was; close() ends it in every state::

    connection   CONNECTED --hello--> GREETING --+                        (`Greeting`)
                                                 | a new session, or one that waits
    session                      +---------------+
                                 v
                              GREETED --suspend()--> SUSPENDED --expire()--> CLOSED
                                 ^                      |
                                 +------ resume() ------+

Theory. The client numbers its requests, the server its pushes, and each keeps what it sent until it knows that the
other has it: the client a request until it has the answer, the server a push until it is acknowledged. After a break
each side says what it has - the client the number of the last push, and then the requests that it has no answer for -
and the other sends the rest. So nothing is lost; and nothing counts twice, since the client drops no push and gets none
again (their numbers have no gaps), and the server runs no request whose id it knows.

Memory is bounded, so it can come to be that something is missing: a push fell out of the buffer before the client came
back, or an answer was too big to keep. Then the session says so. It is not taken up (`recovered: false`), or the
request gets `gateway.answer_gone`. It never pretends.

==========  ===========================  ===========================================================
state       what happens                 what follows
==========  ===========================  ===========================================================
GREETED     request, notify, ack         the same as an event; ack also drops pushes that are kept
            ping / pong                  Reply with a pong / Nothing
            request, its id in flight    Nothing: the one answer is on its way
            request, its id answered     Reply with that answer, or with gateway.answer_gone
            request, too many in flight  Reply with gateway.too_many_requests
            over a rate                  Reply with an error or Nothing; Close 4429 at refusals_max
            hello, or no frame at all    Close 4400 (1007 not UTF-8; 1009 over frame_bytes_max)
            push()                       kept, and a frame to send
            suspend()                    now SUSPENDED
SUSPENDED   keep()                       a push is kept; False when one that the client lacks is lost
            resume()                     now GREETED; send welcome(), then replay()
            resume_seconds pass          expire() says so: close it
both        respond(), fail()            the answer is kept; a frame to send
            admit()                      whether a client that asks for the session may have it
            close(), end()               now CLOSED; what was kept is forgotten
CLOSED      any frame                    Nothing
==========  ===========================  ===========================================================
"""

from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from math import ceil

from skyloom_gateway.session.allowance import Allowance
from skyloom_gateway.session.answers import Answers
from skyloom_gateway.session.bucket import Bucket
from skyloom_gateway.session.error import NotInFlight, WrongState
from skyloom_gateway.session.event import Close, Event, Nothing, Reply
from skyloom_gateway.session.keys import Keys, Verdict
from skyloom_gateway.session.limits import SessionLimits
from skyloom_gateway.session.refusal import ANSWER_GONE, rate_limited, too_many_requests
from skyloom_gateway.session.replay import Replay
from skyloom_gateway.wire.codec import Codec
from skyloom_gateway.wire.codes import CloseCode, WireError, close_error
from skyloom_gateway.wire.fields import plain
from skyloom_gateway.wire.frame import Ack, ClientFrame, Hello, Notify, Ping, Request, Resume
from skyloom_gateway.wire.malformed import Malformed

_NOTHING = Nothing()


class State(Enum):
    """Where a session is in its life; the module has the table."""

    GREETED = "greeted"
    SUSPENDED = "suspended"
    CLOSED = "closed"


class Admission(Enum):
    """What to do with a client that asks for a session."""

    WELCOME = "welcome"
    """Let it go on: call `resume`."""
    STRANGER = "stranger"
    """It has no key: the session is none of its business."""
    START_OVER = "start over"
    """It has the key, but something that it lacks is gone: close the session."""
    USED_TWICE = "used twice"
    """Its key was used before, so two have it: close the session, for both."""


_GREETED = State.GREETED  # looked up for every frame, and an enum's members are slow to find


class Session:
    """One client's session: what its frames mean, and what is kept for its return. The module has the table.

    It does no I/O and reads no clock: the gate hands it each frame with the time, acts on the one event that
    comes back, and sends what the other methods return, in the order of the calls.

    Args:
        id: the session's id.
        user: whom the authenticator takes the client for.
        codec: the encoding, of each connection.
        limits: what the client may do.
        now: seconds on a clock that never goes back.
        secret: what its keys are made from, at most 64 bytes.

    Attributes:
        id, user, codec: as given.
        refusals_total: frames refused for coming too fast.
        crowded_total: requests refused since too many were in flight.
    """

    __slots__ = (
        "_answers",
        "_controls",
        "_deadline",
        "_frame_bytes_max",
        "_heard",
        "_highest_id",
        "_in_flight",
        "_keys",
        "_limits",
        "_messages",
        "_notice_at",
        "_own_messages",
        "_refusals",
        "_repeats",
        "_replay",
        "_requests_max",
        "_seq_lost",
        "_state",
        "codec",
        "crowded_total",
        "id",
        "refusals_total",
        "user",
    )

    def __init__(self, id: str, user: str, codec: Codec, limits: SessionLimits, now: float, secret: str) -> None:
        self.id = id
        self.user = user
        self.codec = codec
        self.refusals_total = self.crowded_total = 0
        self._limits = limits
        self._frame_bytes_max = limits.frame_bytes_max
        self._requests_max = limits.requests_in_flight_max
        self._state = State.GREETED
        self._deadline = now
        self._own_messages = Bucket(limits.messages_per_second, limits.messages_burst)
        self._messages: Bucket | Allowance = self._own_messages
        self._controls = Bucket(limits.controls_per_second, limits.controls_burst)
        self._repeats = Bucket(limits.repeats_per_second, limits.repeats_burst)
        self._refusals = 0
        self._notice_at = now
        self._in_flight: set[int] = set()
        self._highest_id = 0
        self._answers = Answers(limits.answers_max, limits.answers_bytes_max)
        self._replay = Replay(limits.replay_pushes_max, limits.replay_bytes_max)
        self._keys = Keys(secret)
        # Whether anything came on this connection.
        self._heard = False
        # The last push that went out before the connection was lost: the client may have it.
        self._seq_lost = 0

    @property
    def state(self) -> State:
        """Where the session is in its life."""
        return self._state

    @property
    def seq(self) -> int:
        """The number of the last push, 0 before the first."""
        return self._replay.seq

    @property
    def in_flight(self) -> int:
        """How many requests wait for an answer."""
        return len(self._in_flight)

    @property
    def kept_bytes(self) -> int:
        """Bytes of pushes and answers kept for the client's return."""
        return self._replay.size + self._answers.size

    @property
    def hits(self) -> dict[str, int]:
        """How often its limits bit that no close code tells of, by the names of their settings."""
        return {"messages_per_second": self.refusals_total, "requests_in_flight": self.crowded_total}

    def share(self, buckets: Sequence[Bucket]) -> None:
        """Take the client's messages from these buckets too, which it shares, and no longer from those of before."""
        self._messages = Allowance(self._own_messages, buckets) if buckets else self._own_messages

    def awaits(self, id: int) -> bool:
        """Whether the request of this id waits for an answer, so that `respond` or `fail` would take it."""
        return id in self._in_flight

    # -- connections come and go -----------------------------------------------------------------------------

    def welcome(self, recovered: bool, fields: Mapping[str, object]) -> bytes:
        """The welcome of a connection that begins to carry the session, with a new key.

        Args:
            recovered: whether the session goes on.
            fields: further fields, such as `heartbeat`; they win over the session's own.
        """
        self._heard = False
        return self.codec.welcome(
            {
                "session": self.id,
                "key": self._keys.issue(),
                "user": self.user,
                "recovered": recovered,
                "limits": {
                    "frame_bytes": self._limits.frame_bytes_max,
                    "messages_per_second": plain(self._limits.messages_per_second),
                },
                **fields,
            }
        )

    def suspend(self, now: float) -> None:
        """The connection is lost, or a newer one comes: keep everything for a while."""
        self._require(State.GREETED, "suspend()")
        self._state = State.SUSPENDED
        self._deadline = now + self._limits.resume_seconds
        self._seq_lost = self._replay.seq

    def admit(self, resume: Resume) -> Admission:
        """Judge a client that asks for this session; the gate has seen already that it is the same user.

        Only a client with the right key learns, or changes, anything.
        """
        arrived = self._heard or self._state is State.GREETED
        verdict = self._keys.use(resume.key, arrived=arrived)
        if verdict is Verdict.WRONG:
            return Admission.STRANGER
        if verdict is Verdict.USED_TWICE:
            return Admission.USED_TWICE
        return Admission.WELCOME if self._replay.reaches(resume.seq) else Admission.START_OVER

    def resume(self, seq: int) -> None:
        """Go on, on a new connection. Send `welcome`, then the frames of `replay`.

        Args:
            seq: the last push that the client has.
        """
        self._require(State.SUSPENDED, "resume()")
        self._state = State.GREETED
        self._replay.trim(seq)

    def replay(self) -> Iterator[bytes]:
        """The frames of all pushes that are kept: after `resume`, those that the client lacks."""
        push = self.codec.push
        for seq, tail in self._replay:
            yield push(seq, tail)

    def close(self, code: CloseCode, reason: str, error: WireError | None = None) -> Close:
        """Close from the server's side; what was kept, and requests in flight, are forgotten.

        Args:
            code: the close code.
            reason: one sentence for the client, at most 123 bytes.
            error: what the error frame says; by default the close code's own error, with `reason` as message.
        """
        self.end()
        error = error or close_error(code, reason)
        return Close(code, reason, None if error is None else self.codec.error(0, error))

    def end(self) -> None:
        """The session is over, and nobody is there to be told."""
        self._state = State.CLOSED
        self._in_flight.clear()
        self._answers.clear()
        self._replay.clear()

    def deadline(self, now: float) -> float | None:
        """When to call `expire`, in seconds on the caller's clock and never before `now`; None for never."""
        return max(self._deadline, now) if self._state is State.SUSPENDED else None

    def expire(self, now: float) -> bool:
        """Whether the client has not come back in time, so that the session is to be closed."""
        deadline = self.deadline(now)
        return deadline is not None and now >= deadline

    # -- from the client -------------------------------------------------------------------------------------

    def receive(self, data: bytes, now: float) -> Event:
        """Take one frame from the client.

        Args:
            data: one whole frame.
            now: seconds.

        Returns:
            The one event that it amounts to.
        """
        if self._state is not _GREETED:
            return _NOTHING
        self._heard = True
        if len(data) > self._frame_bytes_max:
            return self.close(CloseCode.TOO_BIG, f"a frame has at most {self._limits.frame_bytes_max} bytes")
        try:
            frame = self.codec.decode(data)
        except Malformed as malformed:
            return self.close(malformed.close_code, malformed.reason)
        if type(frame) is Request:
            id = frame.id
            # A higher id is surely new: most clients count. One that came before has a rate of its own; were it refused
            # as new ones are, its client would think that it did not run.
            if id <= self._highest_id and (event := self._repeated(id)) is not None:
                wait = self._repeats.take(now)
                return self._refuse(None, wait, now) if wait else event
            wait = self._messages.take(now)
            if wait:
                return self._refuse(id, wait, now)
            if self._refusals:
                self._refusals -= 1
            if id > self._highest_id:
                self._highest_id = id
            in_flight = self._in_flight
            if len(in_flight) >= self._requests_max:
                self.crowded_total += 1
                return self._error(id, too_many_requests(self._requests_max))
            in_flight.add(id)
            return frame
        return self._receive_other(frame, now)

    def _receive_other(self, frame: ClientFrame, now: float) -> Event:
        """Take a frame that is no request."""
        if type(frame) is Hello:
            return self.close(CloseCode.MALFORMED, "hello: a session has only one")
        wait = (self._messages if type(frame) is Notify else self._controls).take(now)
        if wait:
            return self._refuse(None, wait, now)
        if self._refusals:
            self._refusals -= 1
        if type(frame) is Ack:
            self._replay.trim(frame.seq)
            return frame
        if type(frame) is Notify:
            return frame
        return Reply(self.codec.pong()) if type(frame) is Ping else _NOTHING

    def _repeated(self, id: int) -> Event | None:
        """What a request amounts to whose id may have come before; None if it did not."""
        if id in self._in_flight:
            return _NOTHING
        frame = self._answers.find(id)
        if frame is None:
            return None
        return Reply(frame) if frame else self._error(id, ANSWER_GONE)

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
        # Rounded up, so that a client that waits so long is never early.
        return self._error(id or 0, rate_limited(ceil(wait * 1000) / 1000))

    # -- to the client ---------------------------------------------------------------------------------------

    def respond(self, id: int, body: bytes) -> bytes:
        """Answer a request; the answer is kept for when it is repeated.

        Args:
            id: the request's.
            body: from the codec's `encode_body`.

        Raises:
            NotInFlight: no request of this id waits for an answer.
        """
        self._settle(id)
        frame = self.codec.response(id, body)
        self._answers.keep(id, frame)
        return frame

    def fail(self, id: int, error: WireError, *, ran: bool = True) -> bytes:
        """Answer a request with an error.

        Args:
            id: the request's.
            error: what went wrong.
            ran: whether the request ran, or may have: then the error is kept as its answer. If it surely did not,
                the id is free, and when the request is repeated it runs.

        Raises:
            NotInFlight: no request of this id waits for an answer.
            ValueError: the error's details are not JSON-able; the request still waits.
        """
        frame = self.codec.error(id, error)
        self._settle(id)
        if ran:
            self._answers.keep(id, frame)
        return frame

    def push(self, tail: bytes) -> bytes:
        """Number a push, keep it and make the head of its frame; the tail follows it.

        Args:
            tail: from the codec's `push_tail`; one for all sessions of that codec.

        Raises:
            WrongState: no connection carries the session.
        """
        if self._state is not _GREETED:
            self._require(_GREETED, "push()")
        return self.codec.push_head(self._replay.add(tail))

    def keep(self, tail: bytes) -> bool:
        """Number a push and keep it for a client that is away.

        Returns:
            False when now a push is gone that the client cannot have: the session is lost, close it.

        Raises:
            WrongState: a connection carries the session, or it is closed.
        """
        self._require(State.SUSPENDED, "keep()")
        self._replay.add(tail)
        return self._replay.base <= self._seq_lost

    def _settle(self, id: int) -> None:
        try:
            self._in_flight.remove(id)
        except KeyError:
            raise NotInFlight(f"no request {id} waits for an answer: it was answered, or the session is over") from None

    def _require(self, state: State, method: str) -> None:
        if self._state is not state:
            raise WrongState(f"{method} is for a session that is {state.value}, and this one is {self._state.value}")

    def _error(self, id: int, error: WireError) -> Reply:
        return Reply(self.codec.error(id, error))
