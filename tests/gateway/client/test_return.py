"""A client that loses its connection comes back: against a double that plays what a gateway may do."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from skyloom_gateway.client import (
    Client,
    ConnectFailed,
    ConnectionLost,
    HelloRefused,
    NotConnected,
    ProtocolViolation,
    Reconnect,
    RequestTimeout,
    Session,
    SessionLost,
    Status,
    connect,
)
from skyloom_gateway.client.reconnecting import Backoff
from skyloom_gateway.client.transport import Transport
from skyloom_gateway.wire.codes import CloseCode
from skyloom_gateway.wire.frame import Ack, Hello, Ping, Request, Resume
from skyloom_gateway.wire.json import JSON
from tests.gateway.client.double import KINDS, Handler, Peer, Served, obedient, scripted, serve, welcomed

GUEST = {"scheme": "guest", "name": "ada"}
QUICK = Reconnect(first_delay_seconds=1.0, delay_seconds_max=8.0, give_up_seconds=60.0, waiting_requests_max=4)

Between = Callable[[Peer], Awaitable[None]]


def first(between: Between) -> Handler:
    """The first connection: welcomed, one push, then `between`, then cut."""

    async def handle(peer: Peer) -> None:
        await welcomed(peer)
        await peer.push("test.tick", {"n": 1})
        await between(peer)
        peer.cut()

    return handle


def second(*, recovered: bool, pushes: tuple[int, ...] = ()) -> Handler:
    """The connection after it: welcomed, these pushes, then every request is answered by its own body."""

    async def handle(peer: Peer) -> None:
        await welcomed(peer, key="k-2", recovered=recovered, session="s-1" if recovered else "s-2")
        for seq in pushes:
            peer.seq = seq - 1
            await peer.push("test.tick", {"n": seq})
        await answering(peer)

    return handle


async def answering(peer: Peer) -> None:
    while True:
        frame = await peer.receive()
        if isinstance(frame, Request):
            await peer.respond(frame, peer.codec.decode_body(frame.body))


async def one_request(peer: Peer) -> None:
    """Let one request come, and answer nothing."""
    await peer.receive()


async def nothing(peer: Peer) -> None:
    """Cut at once."""


@asynccontextmanager
async def running(kind: str, *handlers: Handler, **options: Any) -> AsyncIterator[tuple[Served, Client]]:
    async with (
        serve(kind, scripted(*handlers)) as served,
        connect(
            served.url,
            auth=options.pop("auth", GUEST),
            encoding=served.encoding,
            reconnect=options.pop("reconnect", QUICK),
            rng=random.Random(1),
            **options,
        ) as client,
    ):
        yield served, client


async def until(client: Client, state: str) -> None:
    reached = asyncio.Event()
    client.on_status(lambda status: reached.set() if status.state == state else None)
    async with asyncio.timeout(100):
        if client.status.state != state:
            await reached.wait()


def requests(peer: Peer) -> list[int]:
    return [frame.id for frame in peer.received if isinstance(frame, Request)]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_short_cut_goes_unnoticed(kind: str) -> None:
    async with running(kind, first(one_request), second(recovered=True, pushes=(2, 3))) as (served, client):
        ticks = client.pushes("test.tick")
        sessions: list[Session] = []
        client.on_session(sessions.append)
        assert await client.request("test.echo", {"n": 7}) == {"n": 7}
        assert [(await anext(ticks)).seq for _ in range(3)] == [1, 2, 3]
        hello = served.peers[1].received[0]
        assert isinstance(hello, Hello)
        assert hello.resume == Resume("s-1", "k-1", 1)
        assert requests(served.peers[0]) == requests(served.peers[1]) == [1]
        await asyncio.sleep(0)
        assert sessions == [Session("s-1", "ada", recovered=True)]
        assert client.recovered is True
        assert await client.request("test.echo", {"n": 8}) == {"n": 8}


@pytest.mark.parametrize("kind", KINDS)
async def test_a_new_session_is_told_to_everybody_in_its_place(kind: str) -> None:
    async with running(kind, first(one_request), second(recovered=False, pushes=(1,))) as (served, client):
        ticks = client.pushes("test.tick")
        called: list[int] = []
        client.on("test.tick", lambda push: called.append(push.seq))
        sessions: list[Session] = []
        client.on_session(sessions.append)
        asking = asyncio.ensure_future(client.request("test.echo"))
        await until(client, "suspended")
        waiting = asyncio.ensure_future(client.request("test.echo", timeout=30))
        with pytest.raises(SessionLost) as caught:
            await asking
        assert caught.value.sent
        with pytest.raises(SessionLost) as caught:
            await waiting
        assert not caught.value.sent
        assert (await anext(ticks)).seq == 1
        with pytest.raises(SessionLost):
            await anext(ticks)
        assert (await anext(ticks)).seq == 1
        assert sessions == [Session("s-2", "ada", recovered=False)]
        assert client.recovered is False
        assert called == [1, 1]
        assert await client.request("test.echo", {"n": 1}) == {"n": 1}
        assert requests(served.peers[1]) == [1]


async def test_requests_made_meanwhile_wait_and_come_after_those_repeated() -> None:
    async with running("tcp", first(one_request), second(recovered=True)) as (served, client):
        early = asyncio.ensure_future(client.request("test.echo", {"n": 0}))
        await until(client, "suspended")
        later = [asyncio.ensure_future(client.request("test.echo", {"n": n})) for n in (1, 2)]
        assert await asyncio.gather(early, *later) == [{"n": 0}, {"n": 1}, {"n": 2}]
        assert requests(served.peers[1]) == [1, 2, 3]


async def test_few_requests_may_wait_and_none_for_longer_than_its_timeout() -> None:
    async with running("tcp", first(nothing), second(recovered=True)) as (served, client):
        await until(client, "suspended")
        started = asyncio.get_running_loop().time()
        waiting = [asyncio.ensure_future(client.request("test.echo", timeout=0.25)) for _ in range(4)]
        await asyncio.sleep(0)
        with pytest.raises(NotConnected, match="4 requests wait"):
            await client.request("test.echo")
        for request in waiting:
            with pytest.raises(RequestTimeout, match="was not sent") as caught:
                await request
            assert not caught.value.sent
        assert asyncio.get_running_loop().time() - started == pytest.approx(0.25, abs=0.01)
        assert await client.request("test.echo") == {}
        assert requests(served.peers[1]) == [1]


async def test_a_notify_does_not_wait() -> None:
    async with running("tcp", first(nothing), second(recovered=True)) as (_, client):
        await until(client, "suspended")
        with pytest.raises(NotConnected, match="suspended"):
            await client.notify("test.note")
        await until(client, "connected")
        await client.notify("test.note")


async def test_the_status_tells_what_happens() -> None:
    async def restarting(peer: Peer) -> None:
        await peer.close(CloseCode.RESTART, "back soon")

    async def refusing(peer: Peer) -> None:
        await peer.receive()
        await restarting(peer)

    async with running("websocket-json", first(restarting), refusing, second(recovered=True)) as (_, client):
        seen: list[Status] = []
        client.on_status(seen.append)
        assert client.status == Status("connected")
        await client.request("test.echo")
        refused = "the gateway refused the hello (gateway.restart): back soon"
        delays = [status.retry_in for status in seen if status.retry_in is not None]
        assert seen == [
            Status("suspended", "back soon", 1012, delays[0]),
            Status("suspended", "back soon", 1012),
            Status("suspended", refused, 1012, delays[1]),
            Status("suspended", refused, 1012),
            Status("connected"),
        ]
        assert 0.5 <= delays[0] <= 1.0 <= delays[1] <= 2.0
        await client.close()
        assert client.status == Status("closed", "closed by this client", 1000)


@pytest.mark.parametrize("kind", ["websocket-json", "tcp"])
@pytest.mark.parametrize(
    "code",
    [CloseCode.REPLACED, CloseCode.UNAUTHENTICATED, CloseCode.FORBIDDEN, CloseCode.MALFORMED, CloseCode.TOO_BIG],
)
async def test_some_close_codes_are_final(kind: str, code: CloseCode) -> None:
    async def closing(peer: Peer) -> None:
        await peer.close(code, "enough")

    async with running(kind, first(closing), second(recovered=True)) as (served, client):
        await until(client, "closed")
        assert client.status == Status("closed", "enough" if kind != "tcp" else client.status.reason, int(code))
        assert client.lost is not None
        assert client.lost.error is not None
        await asyncio.sleep(100)
        assert len(served.peers) == 1


@pytest.mark.parametrize(
    "code", [CloseCode.GOING_AWAY, CloseCode.RESTART, CloseCode.OVERLOADED, CloseCode.RATE, CloseCode.HELLO_TIMEOUT]
)
async def test_after_others_it_comes_back(code: CloseCode) -> None:
    async def closing(peer: Peer) -> None:
        await peer.close(code, "for now")

    async with running("websocket-json", first(closing), second(recovered=True)) as (_, client):
        assert await client.request("test.echo", {"n": 1}) == {"n": 1}


async def test_a_refusal_to_let_it_in_again_is_final() -> None:
    async def refusing(peer: Peer) -> None:
        await peer.receive()
        await peer.close(CloseCode.UNAUTHENTICATED, "the ticket was used")

    async with running("tcp", first(nothing), refusing) as (served, client):
        with pytest.raises(ConnectionLost, match="the ticket was used") as caught:
            await client.request("test.echo")
        assert not caught.value.sent
        assert client.status == Status("closed", "the ticket was used", 4401)
        assert len(served.peers) == 2


async def test_each_connection_gets_its_own_auth_from_a_function() -> None:
    tickets = iter(range(3))

    async def auth() -> dict[str, object]:
        return {"scheme": "ticket", "ticket": f"t{next(tickets)}"}

    async with running("tcp", first(nothing), second(recovered=True), auth=auth) as (served, client):
        await client.request("test.echo")
        hellos = [peer.received[0] for peer in served.peers]
        assert [hello.auth["ticket"] for hello in hellos if isinstance(hello, Hello)] == ["t0", "t1"]


async def test_a_function_that_finds_no_auth_is_asked_again() -> None:
    times = iter(range(3))

    async def auth() -> dict[str, str]:
        if next(times) == 1:
            raise KeyError("ticket")
        return GUEST

    async with running("tcp", first(nothing), second(recovered=True), auth=auth) as (_, client):
        errors: list[Exception] = []
        client.on_error(errors.append)
        assert await client.request("test.echo", {"n": 1}) == {"n": 1}
        assert [repr(error) for error in errors] == ["KeyError('ticket')"]


async def test_a_drain_names_the_delay() -> None:
    async def draining(peer: Peer) -> None:
        await peer.send(peer.codec.drain("restart", 7.5))
        await peer.close(CloseCode.RESTART, "the server restarts")

    async with running("tcp", first(draining), second(recovered=False)) as (_, client):
        await until(client, "suspended")
        started = asyncio.get_running_loop().time()
        assert client.status.retry_in == 7.5
        await until(client, "connected")
        assert asyncio.get_running_loop().time() - started == pytest.approx(7.5, abs=0.1)
        assert client.drain is None


@pytest.mark.parametrize("kind", KINDS)
async def test_a_connection_that_hangs_half_open_is_noticed_and_left(kind: str) -> None:
    async def hanging(peer: Peer) -> None:
        while True:
            await peer.receive()

    async with running(kind, first(hanging), second(recovered=True)) as (served, client):
        started = asyncio.get_running_loop().time()
        assert await client.request("test.echo", {"n": 1}, timeout=100) == {"n": 1}
        # 20 s of silence, 10 s for a pong, and the first delay.
        assert asyncio.get_running_loop().time() - started == pytest.approx(30.75, abs=0.3)
        assert [type(frame) for frame in served.peers[0].received] == [Hello, Request, Ack, Ping]
        async with asyncio.timeout(1):
            await served.peers[0].gone.wait()


async def test_acks_are_few() -> None:
    async with running("tcp", obedient) as (served, client):
        await client.request("test.push", {"count": 100})
        await asyncio.sleep(3)
        assert [frame.seq for frame in served.peers[0].received if isinstance(frame, Ack)][-1] == 100
        acks = sum(isinstance(frame, Ack) for frame in served.peers[0].received)
        assert 1 <= acks <= 4
        await client.request("test.push", {"count": 1})
        await asyncio.sleep(0.9)
        assert sum(isinstance(frame, Ack) for frame in served.peers[0].received) == acks
        await asyncio.sleep(0.2)
        assert served.peers[0].received[-1] == Ack(101)


async def test_close_while_suspended_is_for_good() -> None:
    async with running("tcp", first(nothing), second(recovered=True)) as (served, client):
        await until(client, "suspended")
        waiting = asyncio.ensure_future(client.request("test.echo"))
        await asyncio.sleep(0)
        await client.close()
        with pytest.raises(ConnectionLost, match="closed by this client"):
            await waiting
        await asyncio.sleep(100)
        assert len(served.peers) == 1


async def test_close_says_goodbye() -> None:
    codes: list[object] = []

    async def listening(peer: Peer) -> None:
        await welcomed(peer)
        try:
            await peer.receive()
        except Exception as error:
            codes.append(getattr(error, "rcvd", None))
            raise

    async with running("websocket-json", listening) as (served, client):
        await client.close()
        await served.peers[0].gone.wait()
    assert [getattr(code, "code", None) for code in codes] == [1000]


async def test_a_violation_of_the_protocol_is_final() -> None:
    async def odd(peer: Peer) -> None:
        peer.seq = 5
        await peer.push("test.tick", {})
        await peer.receive()

    async with running("tcp", first(odd), second(recovered=True)) as (served, client):
        errors: list[Exception] = []
        client.on_error(errors.append)
        await until(client, "closed")
        assert isinstance(errors[0], ProtocolViolation)
        assert len(served.peers) == 1


# Delays, without a network


def nobody_there(dials: list[float]) -> Callable[[], Awaitable[Transport]]:
    async def dial() -> Transport:
        dials.append(asyncio.get_running_loop().time())
        raise ConnectFailed("nobody listens")

    return dial


async def lost(reconnect: Reconnect, seed: int = 0) -> tuple[Client, list[float], Served]:
    """A client whose first connection was cut, and the times of its attempts to come back; nobody listens."""
    dials: list[float] = []
    async with serve("tcp", scripted(first(nothing))) as served:
        client = await connect(served.url, auth=GUEST, reconnect=reconnect, rng=random.Random(seed))
        client._lifeline._dial = nobody_there(dials)
        await until(client, "suspended")
        dials.append(asyncio.get_running_loop().time())
        return client, dials, served


async def test_it_tries_ever_more_rarely_and_gives_up_in_the_end() -> None:
    client, dials, _ = await lost(QUICK)
    with pytest.raises(ConnectionLost, match="gave up coming back: nobody listens"):
        await client.request("test.echo", timeout=1000)
    assert client.status.state == "closed"
    gaps = [later - sooner for sooner, later in zip(dials, dials[1:], strict=False)]
    for gap, ceiling in zip(gaps, [1, 2, 4, *[8] * 20], strict=False):
        assert ceiling / 2 - 0.02 <= gap <= ceiling + 0.02
    assert 50 <= dials[-1] - dials[0] <= 60
    assert client.lost is not None
    with pytest.raises(NotConnected, match="gave up"):
        await client.request("test.echo")


async def test_clients_do_not_come_back_together() -> None:
    firsts = {round(Backoff(QUICK, random.Random(seed)).next(), 3) for seed in range(20)}
    assert len(firsts) > 15


async def test_the_same_seed_gives_the_same_delays() -> None:
    one, other = (Backoff(QUICK, random.Random(7)) for _ in range(2))
    assert [one.next() for _ in range(5)] == [other.next() for _ in range(5)]


async def test_it_can_be_told_to_try_now() -> None:
    client, dials, _ = await lost(Reconnect(first_delay_seconds=100.0, delay_seconds_max=100.0))
    client.retry()
    await asyncio.sleep(0.1)
    assert len(dials) == 2
    assert dials[1] - dials[0] < 0.1
    await client.close()


async def test_a_connection_that_lasted_starts_the_back_off_anew() -> None:
    async def brief(peer: Peer) -> None:
        await welcomed(peer, recovered=True, key="k")
        await asyncio.sleep(1)
        peer.cut()

    async def long(peer: Peer) -> None:
        await welcomed(peer, recovered=True, key="k")
        await asyncio.sleep(11)
        peer.cut()

    async with running("tcp", first(nothing), brief, brief, long, brief) as (_, client):
        delays: list[float] = []
        client.on_status(lambda status: None if status.retry_in is None else delays.append(status.retry_in))
        await asyncio.sleep(30)
        assert len(delays) >= 4
        for delay, ceiling in zip(delays, [1, 2, 4, 1], strict=False):
            assert ceiling / 2 <= delay <= ceiling


async def test_without_reconnect_the_first_loss_is_the_end() -> None:
    async with running("tcp", first(one_request), second(recovered=True), reconnect=None) as (served, client):
        with pytest.raises(ConnectionLost) as caught:
            await client.request("test.echo")
        assert type(caught.value) is ConnectionLost
        assert caught.value.sent
        assert client.closed
        await asyncio.sleep(100)
        assert len(served.peers) == 1


async def test_the_first_connection_is_tried_once() -> None:
    dials: list[float] = []
    with pytest.raises(ConnectFailed):
        await Client(nobody_there(dials), JSON, GUEST, reconnect=QUICK).open()
    assert len(dials) == 1
    assert not issubclass(ConnectFailed, HelloRefused)


@pytest.mark.parametrize(
    "field", ["first_delay_seconds", "delay_seconds_max", "give_up_seconds", "waiting_requests_max"]
)
def test_a_limit_of_nothing_is_refused(field: str) -> None:
    with pytest.raises(ValueError, match=f"{field} is 0"):
        Reconnect(**{field: 0})
