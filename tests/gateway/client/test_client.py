"""The Python client against a small gateway, the same tests on each transport and encoding."""

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError

from skyloom_gateway.client import (
    AnswerInvalid,
    Client,
    ConnectionLost,
    Drain,
    MessageTooLarge,
    ProtocolViolation,
    Push,
    PushOverflow,
    RequestFailed,
    RequestTimeout,
    connect,
)
from skyloom_gateway.wire.frame import Hello, Notify, Request
from tests.gateway.client.double import KINDS, Served, serve

GUEST = {"scheme": "guest", "name": "ada"}


class Room(BaseModel):
    room: str
    members: list[str] = []


class Tick(BaseModel):
    n: int


@pytest.fixture(params=KINDS)
async def served(request: pytest.FixtureRequest) -> AsyncIterator[Served]:
    async with serve(request.param) as served:
        yield served


@pytest.fixture
async def client(served: Served) -> AsyncIterator[Client]:
    async with connect(served.url, auth=GUEST, encoding=served.encoding, timeout=5.0) as client:
        yield client


async def test_the_welcome_is_told(served: Served, client: Client) -> None:
    assert (client.user, client.session) == ("ada", "s-1")
    assert client.limits.frame_bytes == 4096
    assert client.limits.messages_per_second == 50
    hello = served.peers[0].received[0]
    assert isinstance(hello, Hello)
    assert hello.auth == GUEST
    assert hello.resume is None
    assert not client.closed


async def test_a_request_carries_its_body_there_and_back(client: Client) -> None:
    body = {"room": "lobby", "n": 1, "x": [1.5, None, True], "text": "é中🎲"}
    assert await client.request("test.echo", body) == body
    assert await client.request("test.echo") == {}


async def test_an_answer_has_the_type_asked_for(client: Client) -> None:
    room = await client.request("test.echo", Room(room="lobby", members=["ada"]), returns=Room)
    assert room == Room(room="lobby", members=["ada"])
    members = await client.request("test.echo", {"a": 1, "b": 2}, returns=dict[str, int])
    assert members == {"a": 1, "b": 2}
    union = await client.request("test.echo", {"n": 3}, returns=TypeAdapter(Room | Tick))
    assert union == Tick(n=3)


async def test_an_answer_that_does_not_fit_says_so(client: Client) -> None:
    with pytest.raises(AnswerInvalid, match=r"test\.echo is not a valid Room") as caught:
        await client.request("test.echo", {"rum": 1}, returns=Room)
    assert isinstance(caught.value.__cause__, ValidationError)
    assert isinstance(caught.value, ValueError)


async def test_an_error_carries_everything(client: Client) -> None:
    with pytest.raises(RequestFailed) as caught:
        await client.request("test.fail")
    error = caught.value
    assert (error.code, error.kind, error.message) == ("test.no_room", "not_found", "no such room")
    assert error.retryable
    assert error.details == {"room": "attic"}
    assert error.route == "test.fail"
    assert str(error) == "test.fail: test.no_room (not_found): no such room"


async def test_concurrent_requests_get_their_own_answers(served: Served, client: Client) -> None:
    answers = await asyncio.gather(*(client.request("test.echo", {"n": n}) for n in range(50)))
    assert answers == [{"n": n} for n in range(50)]
    ids = [frame.id for frame in served.peers[0].received if isinstance(frame, Request)]
    assert len(set(ids)) == 50


async def test_a_timeout_is_a_timeout_error_and_the_client_goes_on(client: Client) -> None:
    started = asyncio.get_running_loop().time()
    with pytest.raises(RequestTimeout, match=r"no answer to test\.silent within 0\.25 s") as caught:
        await client.request("test.silent", timeout=0.25)
    assert asyncio.get_running_loop().time() - started == pytest.approx(0.25, abs=0.01)
    assert isinstance(caught.value, TimeoutError)
    assert await client.request("test.echo", {"n": 1}) == {"n": 1}


async def test_the_clients_timeout_is_the_default(client: Client) -> None:
    started = asyncio.get_running_loop().time()
    with pytest.raises(RequestTimeout):
        await client.request("test.silent")
    assert asyncio.get_running_loop().time() - started == pytest.approx(5.0, abs=0.01)


async def test_a_late_answer_is_counted_and_goes_to_nobody(client: Client) -> None:
    with pytest.raises(RequestTimeout):
        await client.request("test.late", {"seconds": 1}, timeout=0.5)
    assert await client.request("test.echo", {"n": 2}) == {"n": 2}
    assert client.late_answers == 1


async def test_a_cancelled_request_is_forgotten(client: Client) -> None:
    task = asyncio.ensure_future(client.request("test.late", {"seconds": 1}))
    await asyncio.sleep(0.5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await client.request("test.echo", {"n": 2}) == {"n": 2}
    assert client.late_answers == 1


async def test_the_callers_own_timeout_is_not_mistaken_for_ours(client: Client) -> None:
    with pytest.raises(TimeoutError) as caught:
        async with asyncio.timeout(0.5):
            await client.request("test.silent", timeout=3)
    assert not isinstance(caught.value, RequestTimeout)


async def test_a_notify_arrives(served: Served, client: Client) -> None:
    noted = client.pushes("test.noted", body=Tick)
    await client.notify("test.note", Tick(n=7))
    push = await anext(noted)
    assert push == Push(1, "test.noted", Tick(n=7))
    assert isinstance(served.peers[0].received[-1], Notify)


async def test_each_stream_gets_every_push_in_order(client: Client) -> None:
    ticks, everything = client.pushes("test.tick", body=Tick), client.pushes()
    other = client.pushes("test.other")
    await client.request("test.push", {"count": 3})
    assert [(await anext(ticks)).body.n for _ in range(3)] == [0, 1, 2]
    assert [(await anext(everything)).seq for _ in range(3)] == [1, 2, 3]
    assert client.unheard_pushes == 0
    await client.close()
    assert [push async for push in other] == []


async def test_pushes_that_nobody_hears_are_counted(client: Client) -> None:
    await client.request("test.push", {"count": 3})
    assert client.unheard_pushes == 3


async def test_a_stream_waits_for_what_comes_later(client: Client) -> None:
    ticks = client.pushes("test.tick")
    waiting = asyncio.ensure_future(anext(ticks))
    await asyncio.sleep(1)
    assert not waiting.done()
    await client.request("test.push", {"count": 1})
    assert (await waiting).body == {"n": 0}


async def test_a_slow_consumer_is_told_in_the_place_of_the_gap_and_goes_on(client: Client) -> None:
    ticks = client.pushes("test.tick", buffer_max=3)
    await client.request("test.push", {"count": 10})
    assert [(await anext(ticks)).seq for _ in range(3)] == [1, 2, 3]
    with pytest.raises(PushOverflow) as caught:
        await anext(ticks)
    assert caught.value.missed == 7
    await client.request("test.push", {"count": 2})
    assert [(await anext(ticks)).seq for _ in range(2)] == [11, 12]


async def test_a_closed_stream_hears_no_more(client: Client) -> None:
    ticks = client.pushes("test.tick")
    ticks.close()
    await client.request("test.push", {"count": 2})
    assert [push async for push in ticks] == []
    assert client.unheard_pushes == 2


async def test_a_stream_has_one_consumer(client: Client) -> None:
    ticks = client.pushes("test.tick")
    first = asyncio.ensure_future(anext(ticks))
    await asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="already has a consumer"):
        await anext(ticks)
    first.cancel()


async def test_a_push_body_that_does_not_fit_is_told_to_its_consumer(client: Client) -> None:
    ticks = client.pushes("test.tick", body=Room)
    await client.request("test.push", {"count": 1})
    with pytest.raises(AnswerInvalid, match=r"test\.tick is not a valid Room"):
        await anext(ticks)


async def test_callbacks_run_in_order_one_at_a_time(client: Client) -> None:
    plain: list[int] = []
    slow: list[str] = []

    async def slowly(push: Push[Tick]) -> None:
        slow.append(f"begin {push.body.n}")
        await asyncio.sleep(1)
        slow.append(f"end {push.body.n}")

    cancel = client.on("test.tick", lambda push: plain.append(push.body["n"]))
    client.on("test.tick", slowly, body=Tick)
    await client.request("test.push", {"count": 2})
    await asyncio.sleep(3)
    assert plain == [0, 1]
    assert slow == ["begin 0", "end 0", "begin 1", "end 1"]
    cancel()
    await client.request("test.push", {"count": 1})
    await asyncio.sleep(3)
    assert plain == [0, 1]
    assert len(slow) == 6


async def test_what_a_callback_raises_goes_to_on_error_and_the_pushes_go_on(client: Client) -> None:
    errors: list[Exception] = []
    seen: list[int] = []

    def picky(push: Push[Any]) -> None:
        seen.append(push.body["n"])
        if push.body["n"] == 0:
            raise KeyError("zero")

    client.on_error(errors.append)
    client.on("test.tick", picky)
    await client.request("test.push", {"count": 2})
    await asyncio.sleep(0.1)
    assert seen == [0, 1]
    assert [repr(error) for error in errors] == ["KeyError('zero')"]


async def test_an_error_about_no_request_goes_to_on_error(client: Client) -> None:
    errors: list[Exception] = []
    client.on_error(errors.append)
    await client.request("test.complain")
    assert [error.code for error in errors if isinstance(error, RequestFailed)] == ["gateway.rate_limited"]


async def test_an_error_that_nobody_handles_is_logged(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "skyloom.client"):
        await client.request("test.complain")
    assert "nobody handles" in caplog.text
    assert "gateway.rate_limited" in caplog.text


async def test_a_drain_is_told_also_to_those_who_ask_later(client: Client) -> None:
    told: list[Drain] = []

    async def later(drain: Drain) -> None:
        told.append(drain)

    client.on_drain(told.append)
    await client.request("test.drain")
    client.on_drain(later)
    await asyncio.sleep(0.1)
    assert told == [Drain("restart", 3.5)] * 2
    assert client.drain == Drain("restart", 3.5)


async def test_a_message_over_the_gateways_limit_is_not_sent(served: Served, client: Client) -> None:
    with pytest.raises(MessageTooLarge, match="over the gateway's 4096") as caught:
        await client.request("test.echo", {"text": "x" * 5000})
    assert caught.value.limit_bytes == 4096
    with pytest.raises(MessageTooLarge):
        await client.notify("test.note", {"text": "x" * 5000})
    assert await client.request("test.echo", {"n": 1}) == {"n": 1}
    assert len(served.peers[0].received) == 2


async def test_a_lost_connection_fails_what_waits_and_what_follows(client: Client) -> None:
    ticks = client.pushes("test.tick")
    await client.request("test.push", {"count": 1})
    waiting = asyncio.ensure_future(client.request("test.silent"))
    await asyncio.sleep(0)
    with pytest.raises(ConnectionLost) as caught:
        await client.request("test.close", {"code": 4409})
    assert caught.value.code == 4409
    assert caught.value.sent
    assert caught.value.error is not None
    assert caught.value.error.code == "gateway.replaced"
    with pytest.raises(ConnectionLost):
        await waiting
    with pytest.raises(ConnectionLost) as later:
        await client.request("test.echo")
    assert not later.value.sent
    assert (await anext(ticks)).seq == 1
    with pytest.raises(ConnectionLost, match="as you asked"):
        await anext(ticks)
    with pytest.raises(ConnectionLost):
        await anext(client.pushes("test.tick"))
    assert client.closed
    assert client.lost is not None
    await client.wait_closed()


async def test_an_old_complaint_is_not_taken_for_the_reason_of_the_end(client: Client) -> None:
    await client.request("test.complain")
    with pytest.raises(ConnectionLost) as caught:
        await client.request("test.close", {"code": 1001})
    assert caught.value.error is None


async def test_close_ends_streams_quietly_and_fails_what_waits(client: Client) -> None:
    ticks = client.pushes("test.tick")
    waiting = asyncio.ensure_future(client.request("test.silent"))
    await client.request("test.push", {"count": 1})
    await client.close()
    with pytest.raises(ConnectionLost, match="closed by this client"):
        await waiting
    assert [push.seq async for push in ticks] == [1]
    assert client.closed
    assert client.lost is None
    await client.close()


async def test_a_callback_may_close_the_client(client: Client) -> None:
    async def enough(push: Push[Any]) -> None:
        await client.close()

    client.on("test.tick", enough)
    await client.notify("test.note", {})
    await client.request("test.push", {"count": 1})
    async with asyncio.timeout(5):
        await client.wait_closed()


async def test_a_silent_gateway_is_pinged_and_a_live_one_kept(served: Served, client: Client) -> None:
    await asyncio.sleep(70)
    assert [type(frame).__name__ for frame in served.peers[0].received] == ["Hello", "Ping", "Ping", "Ping"]
    assert await client.request("test.echo", {"n": 1}) == {"n": 1}


async def test_garbage_ends_the_connection_and_is_named(served: Served, client: Client) -> None:
    errors: list[Exception] = []
    client.on_error(errors.append)
    with pytest.raises(ConnectionLost, match="is not valid"):
        await client.request("test.raw", {"frame": "{]"})
    assert isinstance(errors[0], ProtocolViolation)
    async with asyncio.timeout(1):
        await served.peers[0].gone.wait()
