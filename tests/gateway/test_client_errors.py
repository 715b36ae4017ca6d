"""What clients are told when something fails: an app's own errors, and of all others nothing but the kind."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from skyloom import CallError, Expired, Failed, NotExecuted, Unknown, UnknownName
from skyloom.message.errors import KINDS
from skyloom_gateway.client_error import client_error
from skyloom_gateway.wire import ErrorKind
from tests.gateway.cast import SECRET, EchoAgent
from tests.gateway.players import TRANSPORTS, Player, World


@pytest.fixture(params=TRANSPORTS)
async def ada(request: pytest.FixtureRequest, world: World) -> Player:
    return await world.guest("ada", request.param)


async def test_an_apps_own_error_arrives_whole(ada: Player) -> None:
    error = await ada.error("echo.fail", text="bread")
    assert (error.code, error.kind, error.message) == ("echo.no_such_thing", ErrorKind.NOT_FOUND, "no bread here")
    assert (error.details, error.retryable) == ({"near": ["here"]}, True)


async def test_a_fault_of_the_agents_stays_in_the_log(ada: Player) -> None:
    with capture_logs() as logs:
        error = await ada.error("echo.crash")
    assert (error.code, error.kind, error.details) == ("gateway.internal", ErrorKind.INTERNAL, {})
    _nothing_leaked(ada)
    assert any(SECRET in repr(line.get("exc_info")) for line in logs)


@pytest.mark.parametrize(
    ("what", "code"),
    [
        ("hub", "gateway.internal"),
        ("plain", "gateway.internal"),
        ("late", "gateway.deadline_exceeded"),
        ("nobody", "gateway.internal"),
    ],
)
async def test_errors_from_behind_the_agent(ada: Player, what: str, code: str) -> None:
    error = await ada.error("echo.crash_beyond", 1.0, text=what)
    assert (error.code, error.details) == (code, {})
    _nothing_leaked(ada)


@pytest.mark.parametrize(
    ("what", "code", "retryable"),
    [("nobody", "gateway.unavailable", True), ("hub", "gateway.internal", False)],
)
async def test_where_agents_call_first_a_call_that_did_not_start_may_be_repeated(
    ada: Player, monkeypatch: pytest.MonkeyPatch, what: str, code: str, retryable: bool
) -> None:
    monkeypatch.setattr(EchoAgent, "calls_first", True)
    error = await ada.error("echo.crash_beyond", 1.0, text=what)
    assert (error.code, error.retryable, error.details) == (code, retryable, {})
    _nothing_leaked(ada)


def _nothing_leaked(player: Player) -> None:
    sent = b"".join(player.link.sent)
    for word in (SECRET, "ZeroDivision", "Traceback", "File ", ".py", "EchoAgent", "ECHO_HUB", ":0000"):
        assert word.encode() not in sent


@pytest.mark.parametrize(
    ("error", "code", "kind", "retryable"),
    [
        (Expired("x"), "gateway.deadline_exceeded", "deadline_exceeded", False),
        (Unknown("x"), "gateway.outcome_unknown", "unavailable", False),
        (Unknown("x", code="skyloom.bad_answer", kind="internal"), "gateway.outcome_unknown", "unavailable", False),
        (Failed("x", code="skyloom.not_executed", kind="unavailable"), "gateway.outcome_unknown", "unavailable", False),
        (Failed("x", code="skyloom.overloaded", kind="resource_exhausted"), "gateway.outcome_unknown",
         "unavailable", False),
        (NotExecuted("x"), "gateway.unavailable", "unavailable", True),
        (UnknownName("x"), "gateway.unavailable", "unavailable", True),
        (NotExecuted("x", code="skyloom.overloaded", kind="resource_exhausted"), "gateway.overloaded",
         "resource_exhausted", True),
        (Failed("x"), "gateway.internal", "internal", False),
        (Failed("x", code="skyloom.cancelled", kind="aborted"), "gateway.internal", "internal", False),
        (Failed("x", code="shop.sold_out", kind="failed_precondition"), "shop.sold_out", "failed_precondition", False),
    ],
)  # fmt: skip
def test_kinds(error: CallError, code: str, kind: str, retryable: bool) -> None:
    told = client_error(error)
    assert (told.code, told.kind, told.retryable) == (code, kind, retryable)
    assert (told.message == "x") == (not code.startswith("gateway."))


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_only_what_surely_did_not_run_is_worth_trying_again(kind: str) -> None:
    for error in (Unknown, Expired, Failed):
        told = client_error(error("x", code="skyloom.x", kind=kind, retryable=True))
        assert not told.retryable
        assert "try again" not in told.message.replace("before you try again", "")


async def test_details_that_have_no_form_in_a_frame(ada: Player) -> None:
    with capture_logs() as logs:
        error = await ada.error("echo.fail_oddly", text="bytes")
    assert error.code == "gateway.internal"
    assert [line["code"] for line in logs if line["log_level"] == "error"] == ["echo.no_such_thing"]
    assert await ada.ask("echo.nothing") == {}


async def test_what_does_not_fit_a_tcp_frame(ada: Player) -> None:
    for route in ("echo.long", "echo.fail_oddly"):
        id = ada.request(route, **({} if route == "echo.long" else {"text": "long"}))
        await ada.frames()
        answer = ada.codec.decode_server(ada.link.sent[-1])
        assert getattr(answer, "id", None) == id
        assert (len(ada.link.sent[-1]) > 70_000) == (ada.link.kind != "tcp")
        assert (b"gateway.answer_too_big" in ada.link.sent[-1]) == (ada.link.kind == "tcp")
    assert ada.close_code is None
    assert EchoAgent.born == ["ada"]
