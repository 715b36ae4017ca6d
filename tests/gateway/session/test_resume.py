"""The session's table, row by row: leaving, coming back, and what is kept meanwhile."""

from dataclasses import replace

import pytest

from skyloom_gateway.session import (
    Admission,
    Close,
    Nothing,
    NotInFlight,
    Reply,
    RequestEvent,
    Session,
    SessionLimits,
    State,
    WrongState,
)
from skyloom_gateway.session.answers import OUT_OF_ORDER_MAX
from skyloom_gateway.wire import CloseCode, Codec, ErrorFrame, ErrorKind, Push, Response, Resume, WireError
from tests.gateway.session.talk import LIMITS, START, frame, greeted, welcomed

ABORTED = WireError("a.b", ErrorKind.ABORTED, "no")


def push(session: Session, *bodies: object) -> list[int]:
    """Push to the client, or keep it for the client; the numbers."""
    numbers = []
    for body in bodies:
        tail = session.codec.push_tail("a", session.codec.encode_body(body))
        if session.state is State.GREETED:
            session.push(tail)
        else:
            assert session.keep(tail)
        numbers.append(session.seq)
    return numbers


def replayed(session: Session) -> list[int]:
    frames = [session.codec.decode_server(data) for data in session.replay()]
    return [each.seq for each in frames if isinstance(each, Push)]


def ask(session: Session, id: int) -> object:
    """Repeat a request, or make it: what the client gets for it, or the event."""
    event = session.receive(frame(session.codec, "request", id), START)
    return session.codec.decode_server(event.frame) if isinstance(event, Reply) else event


def answered(session: Session, *ids: int, body: object = None) -> None:
    for id in ids:
        assert isinstance(ask(session, id), RequestEvent)
        session.respond(id, session.codec.encode_body(body))


def code(answer: object) -> str:
    assert isinstance(answer, ErrorFrame)
    return answer.error.code


def test_a_client_that_comes_back_gets_what_it_lacks(codec: Codec) -> None:
    session = greeted(codec)
    key = welcomed(session).key
    push(session, "a", "b")
    session.suspend(START)
    assert session.state is State.SUSPENDED
    assert push(session, "c", "d") == [3, 4]
    assert session.admit(Resume("s1", key, 1)) is Admission.WELCOME
    session.resume(1)
    assert welcomed(session, recovered=True).recovered
    frames = [codec.decode_server(data) for data in session.replay()]
    assert frames == [Push(2, "a", "b"), Push(3, "a", "c"), Push(4, "a", "d")]
    tail = codec.push_tail("a", codec.encode_body("e"))
    assert codec.decode_server(session.push(tail) + tail) == Push(5, "a", "e")


def test_acknowledged_pushes_are_forgotten(codec: Codec) -> None:
    session = greeted(codec)
    push(session, *range(5))
    session.receive(codec.ack(3), START)
    assert replayed(session) == [4, 5]
    session.receive(codec.ack(2), START)
    assert replayed(session) == [4, 5]
    session.receive(codec.ack(1_000_000), START)
    assert replayed(session) == []
    assert session.kept_bytes == 0
    assert push(session, "x") == [6]
    assert replayed(session) == [6]


@pytest.mark.parametrize("seq", [0, 1, 2, 3, 4, 5, 6, 2**53 - 1])
def test_a_session_is_not_recovered_when_something_is_missing(codec: Codec, seq: int) -> None:
    session = greeted(codec, replace(LIMITS, replay_pushes_max=3))
    key = welcomed(session).key
    push(session, *range(5))
    session.suspend(START)
    expected = Admission.WELCOME if 2 <= seq <= 5 else Admission.START_OVER
    assert session.admit(Resume("s1", key, seq)) is expected


def test_the_buffer_is_bounded_by_bytes(codec: Codec) -> None:
    tail = codec.push_tail("a", codec.encode_body("x" * 80))
    session = greeted(codec, replace(LIMITS, replay_bytes_max=3 * len(tail)))
    for _ in range(10):
        session.push(tail)
    assert replayed(session) == [8, 9, 10]
    assert session.kept_bytes == 3 * len(tail)
    session.push(tail * 4)
    assert replayed(session) == []
    assert session.kept_bytes == 0


def test_the_buffer_keeps_the_shared_tail_and_no_copy(codec: Codec) -> None:
    tail = codec.push_tail("a", codec.encode_body("x"))
    sessions = [greeted(codec), greeted(codec)]
    for session in sessions:
        session.push(tail)
        assert [kept for _, kept in session._replay][0] is tail


def test_a_session_is_lost_with_the_first_push_that_its_client_cannot_have(codec: Codec) -> None:
    session = greeted(codec, replace(LIMITS, replay_pushes_max=3))
    tail = codec.push_tail("a", codec.encode_body("x"))
    for _ in range(3):
        session.push(tail)
    session.suspend(START)
    assert [session.keep(tail) for _ in range(4)] == [True, True, True, False]


def test_a_session_waits_60_seconds(codec: Codec) -> None:
    session = greeted(codec)
    assert session.deadline(START) is None
    assert not session.expire(START + 1000)
    session.suspend(START + 7)
    assert session.deadline(START + 8) == START + 67
    assert session.deadline(START + 90) == START + 90
    assert not session.expire(START + 66.999)
    assert session.expire(START + 67)


# -- keys ------------------------------------------------------------------------------------------------------


def suspended(codec: Codec) -> tuple[Session, str]:
    session = greeted(codec)
    key = welcomed(session).key
    session.suspend(START)
    return session, key


def test_each_welcome_brings_another_key(codec: Codec) -> None:
    session, first = suspended(codec)
    keys = {first}
    for _ in range(5):
        assert session.admit(Resume("s1", first, 0)) is Admission.WELCOME
        session.resume(0)
        first = welcomed(session).key
        assert len(first) > 40
        keys.add(first)
        session.suspend(START)
    assert len(keys) == 6
    assert welcomed(Session("s1", "ada", codec, LIMITS, START, "another")).key not in keys


@pytest.mark.parametrize(
    "forge",
    [
        lambda key: "",
        lambda key: "1-",
        lambda key: key[:-1],
        lambda key: key + "0",
        lambda key: key[:-1] + ("0" if key[-1] != "0" else "1"),
        lambda key: key.replace("1-", "2-", 1),
        lambda key: key.replace("1-", "01-", 1),
        lambda key: key.replace("1-", "0-", 1),
        lambda key: "-" + key,
        lambda key: key.replace("1-", "\u0661-", 1),
        lambda key: "\ud800",
        lambda key: "9" * 4000 + "-",
        lambda key: key.upper(),
    ],
)
def test_a_wrong_key_changes_nothing(codec: Codec, forge: object) -> None:
    session, key = suspended(codec)
    assert callable(forge)
    assert session.admit(Resume("s1", forge(key), 0)) is Admission.STRANGER
    assert session.admit(Resume("s1", key, 0)) is Admission.WELCOME


def test_a_key_that_is_not_given_out_yet_is_wrong(codec: Codec) -> None:
    session, _ = suspended(codec)
    other, _ = suspended(codec)
    future = welcomed(other).key
    assert session.admit(Resume("s1", future, 0)) is Admission.STRANGER


@pytest.mark.parametrize("spoke", [True, False])
def test_a_key_used_twice(codec: Codec, spoke: bool) -> None:
    session, key = suspended(codec)
    assert session.admit(Resume("s1", key, 0)) is Admission.WELCOME
    session.resume(0)
    newer = welcomed(session).key
    if spoke:
        session.receive(codec.ping(), START)
        session.suspend(START)
    # Else the connection that got the newer key is still there.
    assert session.admit(Resume("s1", key, 0)) is Admission.USED_TWICE
    assert session.admit(Resume("s1", newer, 0)) is Admission.WELCOME


def test_a_key_whose_welcome_was_lost_may_be_used_again(codec: Codec) -> None:
    session, key = suspended(codec)
    lost = []
    for _ in range(3):
        assert session.admit(Resume("s1", key, 0)) is Admission.WELCOME
        session.resume(0)
        lost.append(welcomed(session).key)
        session.suspend(START)
    # Who has one of the lost welcomes is not who said that it did not get them.
    assert session.admit(Resume("s1", lost[0], 0)) is Admission.USED_TWICE
    assert session.admit(Resume("s1", lost[2], 0)) is Admission.WELCOME
    session.resume(0)
    welcomed(session)
    session.suspend(START)
    assert session.admit(Resume("s1", key, 0)) is Admission.USED_TWICE


def test_a_client_may_take_over_from_a_connection_that_hangs(codec: Codec) -> None:
    session = greeted(codec)
    key = welcomed(session).key
    assert session.admit(Resume("s1", key, 0)) is Admission.WELCOME


# -- requests --------------------------------------------------------------------------------------------------


def test_each_request_has_one_answer(codec: Codec) -> None:
    session = greeted(codec)
    for number in (1, 2):
        session.receive(frame(codec, "request", number), START)
    assert session.in_flight == 2
    assert codec.decode_server(session.respond(1, codec.encode_body([]))) == Response(1, [])
    assert codec.decode_server(session.fail(2, ABORTED)) == ErrorFrame(2, ABORTED)
    for number in (1, 2, 3):
        assert not session.awaits(number)
        with pytest.raises(NotInFlight, match=str(number)):
            session.respond(number, codec.encode_body([]))
        with pytest.raises(NotInFlight):
            session.fail(number, ABORTED)


def test_a_repeated_request_is_answered_and_not_run(codec: Codec) -> None:
    session = greeted(codec)
    answered(session, 7, body="x")
    for _ in range(2):
        assert ask(session, 7) == Response(7, "x")
    other = session.receive(codec.request(7, "other.route", codec.encode_body("other")), START)
    assert isinstance(other, Reply)  # the id alone decides
    assert isinstance(ask(session, 8), RequestEvent)
    session.fail(8, ABORTED)
    assert ask(session, 8) == ErrorFrame(8, ABORTED)


def test_a_repeat_of_a_request_in_flight_waits_for_the_one_answer(codec: Codec) -> None:
    session = greeted(codec)
    assert isinstance(ask(session, 7), RequestEvent)
    assert ask(session, 7) == Nothing()
    session.suspend(START)
    session.resume(0)
    assert ask(session, 7) == Nothing()
    assert session.in_flight == 1
    assert codec.decode_server(session.respond(7, codec.encode_body("x"))) == Response(7, "x")


def test_a_request_that_surely_did_not_run_may_run_when_it_is_repeated(codec: Codec) -> None:
    session = greeted(codec)
    assert isinstance(ask(session, 7), RequestEvent)
    assert codec.decode_server(session.fail(7, ABORTED, ran=False)) == ErrorFrame(7, ABORTED)
    answered(session, 7, body="x")
    assert ask(session, 7) == Response(7, "x")


def test_an_answer_that_comes_while_the_client_is_away_waits(codec: Codec) -> None:
    session = greeted(codec)
    assert isinstance(ask(session, 7), RequestEvent)
    session.suspend(START)
    session.respond(7, codec.encode_body("x"))
    session.resume(0)
    assert ask(session, 7) == Response(7, "x")


def busy(codec: Codec, **limits: int) -> Session:
    """A session whose client may send as much as it likes."""
    return greeted(codec, SessionLimits(messages_burst=10**6, messages_per_second=10**6, **limits))


def test_the_last_256_answers_are_kept_and_older_ids_of_a_client_that_counts_known(codec: Codec) -> None:
    session = busy(codec)
    answered(session, *range(1, 301), body="x")
    assert ask(session, 45) == Response(45, "x")
    assert ask(session, 300) == Response(300, "x")
    for old in (1, 44):
        answer = ask(session, old)
        assert code(answer) == "gateway.answer_gone"
        assert isinstance(answer, ErrorFrame)
        assert (answer.id, answer.error.kind, answer.error.retryable) == (old, ErrorKind.FAILED_PRECONDITION, False)
    sizes = [len(codec.response(id, codec.encode_body("x"))) for id in range(45, 301)]
    assert session.kept_bytes == sum(sizes)


def test_answers_out_of_order_do_not_hide_that_a_client_counts(codec: Codec) -> None:
    session = busy(codec, answers_max=4)
    for id in (3, 1, 2, 6, 5, 4, 10, 9, 8, 7):
        answered(session, id)
    for id in (1, 2, 3, 4, 5, 6):
        assert code(ask(session, id)) == "gateway.answer_gone"
    assert all(isinstance(ask(session, id), Response) for id in (7, 8, 9, 10))


def test_a_client_that_draws_its_ids_may_draw_any(codec: Codec) -> None:
    session = busy(codec, answers_max=2)
    ids = [2**32 - 1 - 3 * number for number in range(OUT_OF_ORDER_MAX + 10)]
    answered(session, *ids)
    assert session._answers._out_of_order is None
    assert isinstance(ask(session, ids[-1]), Response)
    answered(session, ids[0], 1, 2, 3)


def test_answers_are_bounded_by_bytes_and_their_ids_are_still_known(codec: Codec) -> None:
    size = len(codec.response(90, codec.encode_body("x" * 100)))
    session = busy(codec, answers_max=8, answers_bytes_max=3 * size)
    answered(session, 90, 80, 70, 60, 50, body="x" * 100)
    assert session.kept_bytes == 3 * size
    assert [code(ask(session, id)) for id in (90, 80)] == ["gateway.answer_gone"] * 2
    assert all(isinstance(ask(session, id), Response) for id in (70, 60, 50))
    answered(session, 40, body="x" * 1000)
    assert session.kept_bytes == 0
    assert code(ask(session, 40)) == "gateway.answer_gone"
    answered(session, 30, 20, 10, 9, body="x")
    assert isinstance(ask(session, 90), RequestEvent)  # the 9th of the last 8


def test_a_repeat_takes_no_place_of_those_in_flight(codec: Codec) -> None:
    session = greeted(codec, replace(LIMITS, requests_in_flight_max=2))
    answered(session, 1)
    assert all(isinstance(ask(session, id), RequestEvent) for id in (2, 3))
    assert isinstance(ask(session, 1), Response)
    assert ask(session, 2) == Nothing()
    assert code(ask(session, 4)) == "gateway.too_many_requests"
    session.respond(2, codec.encode_body(None))
    assert isinstance(ask(session, 4), RequestEvent)  # a refusal is no answer


def test_a_repeated_request_is_not_refused_for_its_rate(codec: Codec) -> None:
    session = greeted(codec, replace(LIMITS, messages_burst=2, repeats_burst=3))
    answered(session, 1)
    assert isinstance(ask(session, 2), RequestEvent)
    assert code(ask(session, 3)) == "gateway.rate_limited"
    assert ask(session, 1) == Response(1, None)
    assert ask(session, 2) == Nothing()
    assert code(ask(session, 3)) == "gateway.rate_limited"
    # But it is not for nothing: it has a rate of its own.
    assert ask(session, 1) == Response(1, None)
    flooded = ask(session, 1)
    assert isinstance(flooded, ErrorFrame)
    assert (flooded.id, flooded.error.code) == (0, "gateway.rate_limited")


def test_a_client_may_repeat_all_that_it_may_lack_and_not_for_ever(codec: Codec) -> None:
    """A short request for a long answer must not be free: it would be repeated a thousand times a second."""
    session = greeted(codec)
    answered(session, 1, body="x" * 10_000)
    lacked = LIMITS.answers_max + LIMITS.requests_in_flight_max
    assert {type(ask(session, 1)) for _ in range(lacked)} == {Response}
    ends = [isinstance(ask(session, 1), Close) for _ in range(2 * LIMITS.refusals_max + lacked)]
    assert any(ends)
    assert session.state is State.CLOSED


def test_a_rate_is_the_sessions_and_not_the_connections(codec: Codec) -> None:
    session = greeted(codec, replace(LIMITS, messages_burst=2))
    assert all(isinstance(ask(session, id), RequestEvent) for id in (1, 2))
    session.suspend(START)
    session.resume(0)
    assert code(ask(session, 3)) == "gateway.rate_limited"
    assert isinstance(session.receive(frame(codec, "request", 3), START + 1), RequestEvent)


# -- the end ---------------------------------------------------------------------------------------------------


def test_methods_in_the_wrong_state_say_so(codec: Codec) -> None:
    session = greeted(codec)
    with pytest.raises(WrongState, match=r"keep\(\) is for a session that is suspended, .* greeted"):
        session.keep(b"")
    with pytest.raises(WrongState, match=r"resume\(\)"):
        session.resume(0)
    session.suspend(START)
    with pytest.raises(WrongState, match=r"push\(\)"):
        session.push(b"")
    with pytest.raises(WrongState, match=r"suspend\(\)"):
        session.suspend(START)
    assert session.receive(frame(codec, "request"), START) == Nothing()


def test_a_closed_session_keeps_nothing(codec: Codec) -> None:
    session = greeted(codec)
    answered(session, 1, body="x")
    assert isinstance(ask(session, 2), RequestEvent)
    push(session, "x")
    assert session.kept_bytes > 0
    assert session.close(CloseCode.GOING_AWAY, "bye") == Close(CloseCode.GOING_AWAY, "bye", None)
    assert (session.state, session.kept_bytes, session.in_flight) == (State.CLOSED, 0, 0)
    assert replayed(session) == []
    assert session.deadline(START) is None
    with pytest.raises(NotInFlight):
        session.respond(2, b"\x80")
    with pytest.raises(WrongState, match="push"):
        session.push(b"")
