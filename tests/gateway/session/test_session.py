"""The session's table, row by row, in both encodings."""

from dataclasses import replace

import pytest

from skyloom_gateway.session import (
    AckEvent,
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
    WrongState,
)
from skyloom_gateway.wire import (
    JSON,
    MSGPACK,
    CloseCode,
    Codec,
    ErrorFrame,
    ErrorKind,
    Hello,
    Pong,
    Push,
    Response,
    Welcome,
    WireError,
)

START = 1000.0
LIMITS = SessionLimits()


@pytest.fixture(params=[JSON, MSGPACK], ids=["json", "msgpack"])
def codec(request: pytest.FixtureRequest) -> Codec:
    chosen: Codec = request.param
    return chosen


def frame(codec: Codec, name: str, number: int = 1) -> bytes:
    body = codec.encode_body({"x": 1})
    return {
        "hello": codec.hello({"auth": {"scheme": "guest"}}),
        "request": codec.request(number, "a.b", body),
        "notify": codec.notify("a.b", body),
        "ack": codec.ack(number),
        "ping": codec.ping(),
        "pong": codec.pong(),
        "garbage": b"garbage",
        "push": codec.push(1, codec.push_tail("a", body)),
        "not utf-8": b'{"type":"\xff"}' if codec is JSON else b"\xc1",
        "4 KiB": codec.hello({"auth": {"x": "x" * 4096}}),
        "64 KiB": codec.notify("a", codec.encode_body("x" * 65536)),
    }[name]


def greeted(codec: Codec, limits: SessionLimits = LIMITS) -> Session:
    session = Session(codec, limits, START)
    session.receive(frame(codec, "hello"), START)
    session.greet("s1", "k1", "ada", {"heartbeat": 20})
    return session


def told(codec: Codec, event: Event) -> WireError:
    """The error in a Reply or a Close; its id must be 0 unless the test looks itself."""
    assert isinstance(event, Reply | Close)
    assert event.frame is not None
    decoded = codec.decode_server(event.frame)
    assert isinstance(decoded, ErrorFrame)
    return decoded.error


FIRST = {
    "hello": HelloEvent(Hello({"scheme": "guest"})),
    "request": 4400,
    "notify": 4400,
    "ack": 4400,
    "ping": 4400,
    "pong": 4400,
    "garbage": 4400,
    "push": 4400,
    "4 KiB": 1009,
}
LATER = {
    "hello": 4400,
    "request": RequestEvent,
    "notify": NotifyEvent,
    "ack": AckEvent(1),
    "ping": Reply,
    "pong": Nothing(),
    "garbage": 4400,
    "push": 4400,
    "64 KiB": 1009,
}


def check(codec: Codec, session: Session, event: Event, expected: object) -> None:
    if isinstance(expected, int):
        assert isinstance(event, Close)
        assert event.code == expected
        assert len(event.reason.encode()) <= 123
        assert told(codec, event).message == event.reason
        assert session.state is State.CLOSED
    elif isinstance(expected, type):
        assert type(event) is expected
    else:
        assert event == expected


@pytest.mark.parametrize(("name", "expected"), FIRST.items(), ids=FIRST)
def test_connected(codec: Codec, name: str, expected: object) -> None:
    session = Session(codec, LIMITS, START)
    check(codec, session, session.receive(frame(codec, name), START), expected)


@pytest.mark.parametrize(("name", "expected"), LATER.items(), ids=LATER)
def test_greeted(codec: Codec, name: str, expected: object) -> None:
    session = greeted(codec)
    check(codec, session, session.receive(frame(codec, name), START), expected)


@pytest.mark.parametrize("name", [*LATER, "not utf-8"])
def test_closed(codec: Codec, name: str) -> None:
    session = greeted(codec)
    session.lost()
    assert session.receive(frame(codec, name), START) == Nothing()


@pytest.mark.parametrize("come_in", [False, True])
def test_text_that_is_not_utf8_closes_1007(come_in: bool) -> None:
    session = greeted(JSON) if come_in else Session(JSON, LIMITS, START)
    event = session.receive(frame(JSON, "not utf-8"), START)
    check(JSON, session, event, 1007)
    assert told(JSON, event).code == "gateway.invalid_utf8"


def test_the_welcome_tells_the_limits(codec: Codec) -> None:
    session = Session(codec, LIMITS, START)
    session.receive(frame(codec, "hello"), START)
    welcome = codec.decode_server(session.greet("s1", "k1", "ada", {"heartbeat": 20}))
    assert isinstance(welcome, Welcome)
    assert (welcome.session, welcome.key, welcome.user, welcome.recovered) == ("s1", "k1", "ada", False)
    assert welcome.limits == {"frame_bytes": 65536, "messages_per_second": 50}
    assert welcome.heartbeat == 20
    assert (session.state, session.id, session.user) == (State.GREETED, "s1", "ada")


def test_frames_before_the_welcome_wait_for_it_in_order(codec: Codec) -> None:
    session = Session(codec, LIMITS, START)
    session.receive(frame(codec, "hello"), START)
    for number in (1, 2):
        assert session.receive(frame(codec, "request", number), START) == Nothing()
    assert session.state is State.GREETING
    session.greet("s", "k", "u", {})
    with pytest.raises(WrongState, match="release"):
        session.receive(frame(codec, "request", 3), START)
    events = list(session.release(START))
    assert [event.id for event in events if isinstance(event, RequestEvent)] == [1, 2]
    assert isinstance(session.receive(frame(codec, "request", 3), START), RequestEvent)


def test_a_stranger_may_send_little_before_the_welcome(codec: Codec) -> None:
    for limits, frames in ((LIMITS, 70), (replace(LIMITS, early_frames_max=3), 4)):
        session = Session(codec, limits, START)
        session.receive(frame(codec, "hello"), START)
        events = [session.receive(codec.notify("a", codec.encode_body("x" * 90)), START) for _ in range(frames)]
        check(codec, session, next(event for event in events if isinstance(event, Close)), 1009)
    assert events[:3] == [Nothing()] * 3


def test_a_bad_early_frame_ends_the_release(codec: Codec) -> None:
    session = Session(codec, LIMITS, START)
    session.receive(frame(codec, "hello"), START)
    for name in ("ping", "garbage", "ping"):
        session.receive(frame(codec, name), START)
    session.greet("s", "k", "u", {})
    assert [type(event) for event in session.release(START)] == [Reply, Close]


@pytest.mark.parametrize(("said_hello", "word"), [(False, "hello"), (True, "authenticator")])
def test_a_client_has_5_seconds_to_the_welcome(codec: Codec, said_hello: bool, word: str) -> None:
    session = Session(codec, LIMITS, START)
    if said_hello:
        session.receive(frame(codec, "hello"), START + 1)
    assert session.deadline(START + 1) == START + 5
    assert session.deadline(START + 9) == START + 9
    assert session.expire(START + 4.999) is None
    close = session.expire(START + 5)
    assert close is not None
    assert word in close.reason
    check(codec, session, close, 4408)
    assert session.expire(START + 6) is None
    assert session.deadline(START + 6) is None


def test_a_greeted_session_has_no_deadline(codec: Codec) -> None:
    session = greeted(codec)
    assert session.deadline(START) is None
    assert session.expire(START + 100) is None


def test_ping_is_answered(codec: Codec) -> None:
    event = greeted(codec).receive(codec.ping(), START)
    assert isinstance(event, Reply)
    assert codec.decode_server(event.frame) == Pong()


def test_each_request_has_one_answer(codec: Codec) -> None:
    session = greeted(codec)
    error = WireError("a.b", ErrorKind.ABORTED, "no")
    for number in (1, 2):
        session.receive(frame(codec, "request", number), START)
    assert session.in_flight == 2
    assert codec.decode_server(session.respond(1, codec.encode_body([]))) == Response(1, [])
    assert codec.decode_server(session.fail(2, error)) == ErrorFrame(2, error)
    for number in (1, 2, 3):
        assert not session.awaits(number)
        with pytest.raises(NotInFlight, match=str(number)):
            session.respond(number, codec.encode_body([]))
        with pytest.raises(NotInFlight):
            session.fail(number, error)
    assert isinstance(session.receive(frame(codec, "request", 1), START), RequestEvent)


def test_a_failure_that_cannot_be_encoded_leaves_the_request_waiting(codec: Codec) -> None:
    session = greeted(codec)
    session.receive(frame(codec, "request"), START)
    with pytest.raises(ValueError):
        session.fail(1, WireError("a.b", ErrorKind.INTERNAL, "no", details={"x": object()}))
    assert session.awaits(1)


def test_an_id_in_flight_is_refused_and_the_first_still_waits(codec: Codec) -> None:
    session = greeted(codec)
    session.receive(frame(codec, "request"), START)
    event = session.receive(frame(codec, "request"), START)
    error = told(codec, event)
    assert (error.code, error.kind) == ("gateway.duplicate_id", ErrorKind.FAILED_PRECONDITION)
    assert session.in_flight == 1


def test_requests_in_flight_are_bounded(codec: Codec) -> None:
    session = greeted(codec)
    for number in range(64):
        assert isinstance(session.receive(frame(codec, "request", number), START), RequestEvent)
    event = session.receive(frame(codec, "request", 64), START)
    error = told(codec, event)
    assert (error.code, error.retryable) == ("gateway.too_many_requests", True)
    assert isinstance(event, Reply)
    assert codec.decode_server(event.frame) == ErrorFrame(64, error)
    session.respond(0, b"\x80")
    assert isinstance(session.receive(frame(codec, "request", 64), START), RequestEvent)


def test_a_request_over_the_rate_is_told_when_to_come_back(codec: Codec) -> None:
    session = greeted(codec)
    for _ in range(100):
        session.receive(frame(codec, "notify"), START)
    event = session.receive(frame(codec, "request", 7), START)
    error = told(codec, event)
    assert (error.code, error.kind, error.retryable, error.details) == (
        "gateway.rate_limited",
        ErrorKind.RESOURCE_EXHAUSTED,
        True,
        {"retry_after": 0.02},
    )
    assert isinstance(event, Reply)
    assert codec.decode_server(event.frame) == ErrorFrame(7, error)
    assert not session.awaits(7)
    assert isinstance(session.receive(frame(codec, "request", 7), START + 0.02), RequestEvent)
    assert session.refusals_total == 1


def test_dropped_notifies_are_told_once_a_second(codec: Codec) -> None:
    session = greeted(codec, replace(LIMITS, messages_per_second=0.1, messages_burst=1))
    session.receive(frame(codec, "notify"), START)
    events = [session.receive(frame(codec, "notify"), START + tenth / 10) for tenth in range(25)]
    told_at = [tenth for tenth, event in enumerate(events) if isinstance(event, Reply)]
    assert told_at == [0, 10, 20]
    assert all(type(event) in (Reply, Nothing) for event in events)
    assert session.refusals_total == 25
    first = events[0]
    assert isinstance(first, Reply)
    decoded = codec.decode_server(first.frame)
    assert isinstance(decoded, ErrorFrame)
    assert decoded.id == 0


@pytest.mark.parametrize(("name", "burst"), [("request", 100), ("notify", 100), ("ack", 2000), ("ping", 2000)])
def test_a_flood_ends_the_session_after_100_refusals(codec: Codec, name: str, burst: int) -> None:
    session = greeted(codec, replace(LIMITS, requests_in_flight_max=1000))
    events = [session.receive(frame(codec, name, number), START) for number in range(burst + 101)]
    assert not any(isinstance(event, Close) for event in events[: burst + 99])
    check(codec, session, events[burst + 99], 4429)
    assert events[burst + 100] == Nothing()


def test_a_flood_that_trickles_through_ends_too(codec: Codec) -> None:
    session = greeted(codec)
    events = [session.receive(frame(codec, "notify"), START + ms / 1000) for ms in range(400)]
    assert any(isinstance(event, Close) and event.code == CloseCode.RATE for event in events)


def test_a_client_that_waits_as_told_is_never_closed(codec: Codec) -> None:
    session = greeted(codec)
    now = START
    for number in range(2000):
        event = session.receive(frame(codec, "request", number), now)
        if isinstance(event, Reply):
            wait = told(codec, event).details["retry_after"]
            assert isinstance(wait, float)
            now += wait
            event = session.receive(frame(codec, "request", number), now)
        assert isinstance(event, RequestEvent)
        session.respond(number, b"\x80")
    assert session.refusals_total > 1000


def test_pushes_count_from_1_whatever_their_tail(codec: Codec) -> None:
    session = greeted(codec)
    tail = codec.push_tail("a", codec.encode_body(None))
    assert [codec.decode_server(session.push(tail)) for _ in range(3)] == [Push(n, "a", None) for n in (1, 2, 3)]
    assert session.seq == 3


def test_methods_in_the_wrong_state_say_so(codec: Codec) -> None:
    session = Session(codec, LIMITS, START)
    with pytest.raises(WrongState, match=r"greet\(\) is for .* greeting, .* connected"):
        session.greet("s", "k", "u", {})
    with pytest.raises(WrongState, match="push"):
        session.push(b"")
    session = greeted(codec)
    with pytest.raises(WrongState, match="greet"):
        session.greet("s", "k", "u", {})
    session.receive(frame(codec, "request"), START)
    close = session.close(CloseCode.GOING_AWAY, "bye")
    assert close == Close(CloseCode.GOING_AWAY, "bye", None)
    with pytest.raises(WrongState, match="push"):
        session.push(b"")
    with pytest.raises(NotInFlight):
        session.respond(1, b"\x80")


def test_close_can_carry_an_error_of_its_own(codec: Codec) -> None:
    session = Session(codec, LIMITS, START)
    session.receive(frame(codec, "hello"), START)
    error = WireError("gateway.bad_ticket", ErrorKind.UNAUTHENTICATED, "the ticket has expired")
    close = session.close(CloseCode.UNAUTHENTICATED, "the ticket has expired", error)
    assert told(codec, close) == error


def test_limits_are_above_0() -> None:
    with pytest.raises(ValueError, match="messages_burst is 0: it must be above 0"):
        SessionLimits(messages_burst=0)
