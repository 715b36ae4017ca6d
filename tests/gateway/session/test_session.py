"""The session's table, row by row: what a client may send, and how much."""

from dataclasses import replace

import pytest

from skyloom_gateway.session import (
    AckEvent,
    Close,
    Nothing,
    NotifyEvent,
    Reply,
    RequestEvent,
    SessionLimits,
)
from skyloom_gateway.wire import JSON, CloseCode, Codec, ErrorFrame, ErrorKind, Pong, Push, WireError
from tests.gateway.session.talk import LIMITS, START, check, frame, greeted, told, welcomed

LATER = {
    "hello": 4400,
    "request": RequestEvent,
    "notify": NotifyEvent,
    "ack": AckEvent(1),
    "ping": Reply,
    "pong": Nothing(),
    "garbage": 4400,
    "push": 4400,
    "nothing": 4400,
    "64 KiB": 1009,
}


@pytest.mark.parametrize(("name", "expected"), LATER.items(), ids=LATER)
def test_greeted(codec: Codec, name: str, expected: object) -> None:
    session = greeted(codec)
    check(codec, session, session.receive(frame(codec, name), START), expected)


@pytest.mark.parametrize("name", [*LATER, "not utf-8"])
def test_closed(codec: Codec, name: str) -> None:
    session = greeted(codec)
    session.end()
    assert session.receive(frame(codec, name), START) == Nothing()


def test_text_that_is_not_utf8_closes_1007() -> None:
    session = greeted(JSON)
    event = session.receive(frame(JSON, "not utf-8"), START)
    check(JSON, session, event, 1007)
    assert told(JSON, event).code == "gateway.invalid_utf8"


def test_the_welcome_tells_the_limits(codec: Codec) -> None:
    session = greeted(codec)
    welcome = welcomed(session)
    assert (welcome.session, welcome.user, welcome.recovered) == ("s1", "ada", False)
    assert welcome.limits == {"frame_bytes": 65536, "messages_per_second": 50}
    assert welcome.heartbeat == 20


def test_ping_is_answered(codec: Codec) -> None:
    event = greeted(codec).receive(codec.ping(), START)
    assert isinstance(event, Reply)
    assert codec.decode_server(event.frame) == Pong()


def test_a_failure_that_cannot_be_encoded_leaves_the_request_waiting(codec: Codec) -> None:
    session = greeted(codec)
    session.receive(frame(codec, "request"), START)
    with pytest.raises(ValueError):
        session.fail(1, WireError("a.b", ErrorKind.INTERNAL, "no", details={"x": object()}))
    assert session.awaits(1)


def test_requests_in_flight_are_bounded(codec: Codec) -> None:
    session = greeted(codec, replace(LIMITS, requests_in_flight_max=64))
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
    assert [codec.decode_server(session.push(tail) + tail) for _ in range(3)] == [Push(n, "a", None) for n in (1, 2, 3)]
    assert session.seq == 3


def test_limits_are_above_0() -> None:
    with pytest.raises(ValueError, match="messages_burst is 0: it must be above 0"):
        SessionLimits(messages_burst=0)
