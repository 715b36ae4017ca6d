"""How a session begins, or does not."""

import asyncio
import socket

import pytest
from websockets.asyncio.server import ServerConnection
from websockets.asyncio.server import serve as serve_websocket

from skyloom_gateway.client import ConnectFailed, ConnectionLost, HelloRefused, connect
from skyloom_gateway.wire.codes import CloseCode
from tests.gateway.client.double import KINDS, Peer, obedient, serve, welcomed

GUEST = {"scheme": "guest", "name": "ada"}


async def mute(peer: Peer) -> None:
    """Welcome, then never a word."""
    await welcomed(peer)
    while True:
        await peer.receive()


@pytest.mark.parametrize("kind", KINDS)
async def test_a_refused_hello_says_why(kind: str) -> None:
    async def refuse(peer: Peer) -> None:
        await peer.receive()
        await peer.close(CloseCode.UNAUTHENTICATED, "guests are not allowed")

    async with serve(kind, refuse) as served:
        with pytest.raises(HelloRefused, match="guests are not allowed") as caught:
            await connect(served.url, auth=GUEST, encoding=served.encoding)
    assert caught.value.code == "gateway.unauthenticated"
    assert caught.value.kind == "unauthenticated"
    assert caught.value.close_code == 4401
    assert isinstance(caught.value, ConnectionError)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_close_without_a_word_is_a_refusal(kind: str) -> None:
    async def shut(peer: Peer) -> None:
        await peer.receive()
        await peer.hang_up(1013, "server full")

    async with serve(kind, shut) as served:
        with pytest.raises(HelloRefused) as caught:
            await connect(served.url, auth=GUEST, encoding=served.encoding)
    assert caught.value.close_code == (None if kind == "tcp" else 1013)
    assert caught.value.code is None


@pytest.mark.parametrize("kind", KINDS)
async def test_no_welcome_in_time_is_a_failure(kind: str) -> None:
    async def dumb(peer: Peer) -> None:
        while True:
            await peer.receive()

    async with serve(kind, dumb) as served:
        with pytest.raises(ConnectFailed, match="no welcome from .* within 2 s"):
            await connect(served.url, auth=GUEST, encoding=served.encoding, connect_timeout=2)


@pytest.mark.parametrize("kind", KINDS)
async def test_another_protocols_answer_is_a_failure(kind: str) -> None:
    async def rude(peer: Peer) -> None:
        await peer.receive()
        await peer.send(b"HTTP/1.1 200 OK")
        await asyncio.sleep(60)

    async with serve(kind, rude) as served:
        with pytest.raises(ConnectFailed, match="does not speak the protocol"):
            await connect(served.url, auth=GUEST, encoding=served.encoding)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_ping_before_the_welcome_is_answered(kind: str) -> None:
    async def curious(peer: Peer) -> None:
        await peer.send(peer.codec.ping())
        await obedient(peer)

    async with (
        serve(kind, curious) as served,
        connect(served.url, auth=GUEST, encoding=served.encoding) as client,
    ):
        noted = client.pushes("test.noted")
        await client.notify("test.note", {"n": 1})
        assert (await anext(noted)).body == {"n": 1}


@pytest.mark.parametrize("kind", KINDS)
async def test_a_connection_that_falls_silent_is_given_up(kind: str) -> None:
    async with serve(kind, mute) as served:
        client = await connect(served.url, auth=GUEST, encoding=served.encoding, reconnect=None)
        started = asyncio.get_running_loop().time()
        with pytest.raises(ConnectionLost, match="sent nothing for 30 s"):
            await client.request("test.echo", timeout=300)
        assert asyncio.get_running_loop().time() - started == pytest.approx(30, abs=0.1)
        assert client.closed
        async with asyncio.timeout(1):
            await served.peers[0].gone.wait()
        await client.close()


@pytest.mark.parametrize("scheme", ["ws", "tcp"])
async def test_nobody_listening_is_a_failure_that_names_the_address(scheme: str) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        with pytest.raises(ConnectFailed, match=f"cannot connect to .*127.0.0.1:{port}"):
            await connect(f"{scheme}://127.0.0.1:{port}", auth=GUEST)


async def test_a_gateway_without_our_encoding_is_a_failure() -> None:
    async with serve("websocket-msgpack") as served:
        with pytest.raises(ConnectFailed, match="HTTP 400"):
            await connect(served.url, auth=GUEST, encoding="json")


async def test_an_address_without_its_path_is_told_so() -> None:
    async with serve_websocket(
        ServerConnection.wait_closed, "127.0.0.1", 0, process_request=lambda connection, _: connection.respond(404, "")
    ) as other:
        port = other.sockets[0].getsockname()[1]
        with pytest.raises(ConnectFailed, match="HTTP 404; the path is missing: a gateway's is /ws"):
            await connect(f"ws://127.0.0.1:{port}", auth=GUEST)
        with pytest.raises(ConnectFailed, match=r"HTTP 404\Z"):
            await connect(f"ws://127.0.0.1:{port}/wss", auth=GUEST)


async def test_a_websocket_server_of_another_kind_is_refused() -> None:
    async with serve_websocket(ServerConnection.wait_closed, "127.0.0.1", 0) as other:
        port = other.sockets[0].getsockname()[1]
        with pytest.raises(ConnectFailed, match=r"does not speak skyloom\.v1\.json"):
            await connect(f"ws://127.0.0.1:{port}/ws", auth=GUEST)


@pytest.mark.parametrize(
    ("url", "remedy"),
    [
        ("http://127.0.0.1:8000", "use ws://"),
        ("127.0.0.1:8000", "use ws://"),
        ("tcp://127.0.0.1", "names no port"),
        ("ws:///ws", "use ws://"),
    ],
)
def test_an_address_that_cannot_work_names_what_does(url: str, remedy: str) -> None:
    with pytest.raises(ValueError, match=remedy):
        connect(url, auth=GUEST)


def test_json_over_tcp_is_refused() -> None:
    with pytest.raises(ValueError, match="TCP carries msgpack only"):
        connect("tcp://127.0.0.1:8001", auth=GUEST, encoding="json")
