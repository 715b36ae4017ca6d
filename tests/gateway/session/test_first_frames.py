"""The greeting's table, row by row."""

from dataclasses import replace

import pytest

from skyloom_gateway.session import Close, Greeting, HelloEvent, Nothing, Phase, WrongState
from skyloom_gateway.wire import JSON, CloseCode, Codec, Hello, WireError
from skyloom_gateway.wire.codes import ErrorKind
from tests.gateway.session.talk import LIMITS, START, check, frame, told

FIRST = {
    "hello": HelloEvent(Hello({"scheme": "guest"})),
    "request": 4400,
    "notify": 4400,
    "ack": 4400,
    "ping": 4400,
    "pong": 4400,
    "garbage": 4400,
    "nothing": 4400,
    "push": 4400,
    "4 KiB": 1009,
}


@pytest.mark.parametrize(("name", "expected"), FIRST.items(), ids=FIRST)
def test_connected(codec: Codec, name: str, expected: object) -> None:
    greeting = Greeting(codec, LIMITS, START)
    check(codec, greeting, greeting.receive(frame(codec, name)), expected)


def test_text_that_is_not_utf8_closes_1007() -> None:
    greeting = Greeting(JSON, LIMITS, START)
    event = greeting.receive(frame(JSON, "not utf-8"))
    check(JSON, greeting, event, 1007)
    assert told(JSON, event).code == "gateway.invalid_utf8"


def test_frames_before_the_welcome_wait_for_it_in_order(codec: Codec) -> None:
    greeting = Greeting(codec, LIMITS, START)
    greeting.receive(frame(codec, "hello"))
    early = [frame(codec, "request", number) for number in (1, 2)]
    assert [greeting.receive(data) for data in early] == [Nothing(), Nothing()]
    phases = [greeting.phase]
    assert greeting.release() == early
    assert [*phases, greeting.phase] == [Phase.GREETING, Phase.OVER]
    assert greeting.receive(frame(codec, "request", 3)) == Nothing()
    with pytest.raises(WrongState, match=r"release\(\) is for .* under way, .* over"):
        greeting.release()


def test_a_stranger_may_send_little_before_the_welcome(codec: Codec) -> None:
    for limits, frames in ((LIMITS, 70), (replace(LIMITS, early_frames_max=3), 4)):
        greeting = Greeting(codec, limits, START)
        greeting.receive(frame(codec, "hello"))
        events = [greeting.receive(codec.notify("a", codec.encode_body("x" * 90))) for _ in range(frames)]
        check(codec, greeting, next(event for event in events if isinstance(event, Close)), 1009)
    assert events[:3] == [Nothing()] * 3


@pytest.mark.parametrize(("said_hello", "word"), [(False, "hello"), (True, "authenticator")])
def test_a_client_has_5_seconds_to_the_welcome(codec: Codec, said_hello: bool, word: str) -> None:
    greeting = Greeting(codec, LIMITS, START)
    if said_hello:
        greeting.receive(frame(codec, "hello"))
    assert greeting.deadline(START + 1) == START + 5
    assert greeting.deadline(START + 9) == START + 9
    assert greeting.expire(START + 4.999) is None
    close = greeting.expire(START + 5)
    assert close is not None
    assert word in close.reason
    check(codec, greeting, close, 4408)
    assert greeting.expire(START + 6) is None
    assert greeting.deadline(START + 6) is None


def test_who_was_let_in_has_no_deadline(codec: Codec) -> None:
    greeting = Greeting(codec, LIMITS, START)
    greeting.receive(frame(codec, "hello"))
    greeting.release()
    assert greeting.deadline(START) is None
    assert greeting.expire(START + 100) is None


def test_close_can_carry_an_error_of_its_own(codec: Codec) -> None:
    greeting = Greeting(codec, LIMITS, START)
    greeting.receive(frame(codec, "hello"))
    error = WireError("gateway.bad_ticket", ErrorKind.UNAUTHENTICATED, "the ticket has expired")
    close = greeting.close(CloseCode.UNAUTHENTICATED, "the ticket has expired", error)
    assert told(codec, close) == error
