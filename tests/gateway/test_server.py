"""A whole server in this process: real sockets, virtual time, and the same tests on each transport."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator

import pytest
from structlog.testing import capture_logs

from skyloom_gateway import Server, Settings
from skyloom_gateway.contract import contract_of, document_bytes
from skyloom_gateway.settings import GatewaySettings
from skyloom_gateway.wire.frame import Drain, ErrorFrame, Response, Welcome
from tests.gateway.cast import Dog, EchoAgent, echo, other
from tests.gateway.listener.fakes import upgrade
from tests.gateway.sockets import KINDS, Wire


def settings(**gateway: object) -> Settings:
    return Settings(gateway=GatewaySettings.model_validate({"port": 0, "tcp_port": 0, **gateway}))


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    EchoAgent.reset()
    Dog.events.clear()
    async with Server([echo, other], settings()) as server:
        yield server


def ports(server: Server) -> tuple[int, int]:
    assert server.tcp_port is not None
    return server.port, server.tcp_port


@pytest.fixture(params=KINDS)
async def ada(request: pytest.FixtureRequest, server: Server) -> AsyncIterator[Wire]:
    async with await Wire.guest(request.param, ports(server)) as wire:
        yield wire


async def get(port: int, path: str) -> tuple[str, bytes]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    writer.write_eof()
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    return head.decode().splitlines()[0], body


async def test_requests_and_errors(ada: Wire) -> None:
    assert await ada.ask("echo.say", text="hällo") == {"text": "hällo"}
    assert await ada.ask("other.who") == "other ada"
    ada.request("echo.sing")
    told = await ada.read()
    assert isinstance(told, ErrorFrame)
    assert told.error.code == "gateway.unknown_route"


async def test_frames_in_one_write_with_the_hello(server: Server) -> None:
    for kind in KINDS:
        async with await Wire.open(kind, ports(server)) as wire:
            codec = wire.codec
            body = codec.encode_body({"text": "x"})
            wire.send(codec.hello({"auth": {"scheme": "guest"}}), *(codec.request(n, "echo.say", body) for n in (5, 6)))
            assert isinstance(await wire.read(), Welcome)
            for id in (5, 6):
                answer = await wire.read()
                assert isinstance(answer, Response)
                assert answer.id == id


async def test_fan_out_reaches_every_kind_of_client(server: Server) -> None:
    wires = [await Wire.guest(kind, ports(server), kind) for kind in KINDS]
    for wire in wires:
        await wire.ask("echo.join")
    assert await wires[0].ask("echo.shout", text="hey") == 3
    for wire in wires:
        await wire.ask("echo.nothing")
        assert [(push.seq, push.body) for push in wire.pushes] == [(1, {"text": "hey"})]
        await wire.close()


async def test_the_welcome_has_the_contract(server: Server) -> None:
    async with await Wire.open("tcp", ports(server)) as wire:
        wire.hello()
        welcome = await wire.read()
        assert isinstance(welcome, Welcome)
        assert welcome.contract == contract_of([echo, other]).hash


async def test_a_silent_stranger_is_closed(server: Server) -> None:
    for kind in KINDS:
        started = asyncio.get_running_loop().time()
        async with await Wire.open(kind, ports(server)) as wire:
            assert await wire.end() == 4408
        assert asyncio.get_running_loop().time() - started == pytest.approx(5, abs=0.1)


async def test_the_denied_are_closed(server: Server) -> None:
    for kind in KINDS:
        async with await Wire.open(kind, ports(server)) as wire:
            wire.hello(" ")
            assert await wire.end() == 4401


async def test_stop_drains(ada: Wire, server: Server) -> None:
    slow = ada.request("echo.wait", seconds=2)
    waiting_reader, waiting = await asyncio.open_connection("127.0.0.1", server.port)
    await asyncio.sleep(0.1)
    assert server.ready
    stopping = asyncio.create_task(server.stop())
    assert isinstance(await ada.read(), Drain)
    ada.request("echo.say", text="x")
    told = await ada.read()
    assert isinstance(told, ErrorFrame)
    assert told.error.code == "gateway.draining"
    waiting.write(b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n")  # from before: new connections find no one
    assert (await waiting_reader.read()).startswith(b"HTTP/1.1 503")
    waiting.close()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", server.port)
    answer = await ada.read()
    assert isinstance(answer, Response)
    assert answer.id == slow
    assert await ada.end() == 1012
    await ada.close()
    await stopping
    assert EchoAgent.stopped == ["ada"]


async def test_pages(server: Server) -> None:
    assert (await get(server.port, "/healthz")) == ("HTTP/1.1 200 OK", b"ok\n")
    assert (await get(server.port, "/readyz")) == ("HTTP/1.1 200 OK", b"ready\n")
    assert (await get(server.port, "/"))[0] == "HTTP/1.1 200 OK"
    assert (await get(server.port, "/skyloom.js"))[0] == "HTTP/1.1 200 OK"
    assert (await get(server.port, "/nobody"))[0] == "HTTP/1.1 404 Not Found"


async def test_the_index_page_says_where_clients_connect(server: Server) -> None:
    page = (await get(server.port, "/"))[1].decode()
    assert f"port {server.tcp_port}" in page
    linked = re.findall(r'href="(/[^"]*)"', page)
    assert {"/asyncapi.json", "/play/", "/healthz", "/skyloom/mark.svg"} <= set(linked)
    for path in linked:
        assert (await get(server.port, path))[0] == "HTTP/1.1 200 OK", path


async def test_the_index_page_names_nothing_that_is_off() -> None:
    async with Server([other], settings(tcp_port=None, playground=False)) as server:
        page = (await get(server.port, "/"))[1].decode()
        assert "TCP" not in page
        assert "/play/" not in page
        assert "<!--" not in page


async def test_a_port_in_use(server: Server) -> None:
    for taken in ({"port": server.port}, {"tcp_port": server.tcp_port}):
        second = Server([other], settings(**taken))
        with pytest.raises(OSError, match=f"127.0.0.1:{next(iter(taken.values()))} is already in use; stop"):
            await second.start()
        assert second.node.cells == {}
        assert not second.ready


async def test_tcp_can_be_off() -> None:
    async with Server([other], settings(tcp_port=None)) as server:
        assert server.tcp_port is None
        assert server.url == f"http://127.0.0.1:{server.port}"


async def test_strangers_welcome_is_warned_of() -> None:
    with capture_logs() as logs:
        async with Server([other], settings()):
            pass
    assert ("warning", "guest") in [(line["log_level"], line.get("scheme")) for line in logs]


async def test_a_seed_repeats_sessions() -> None:
    sessions = []
    for seed in (7, 7, 8):
        async with (
            Server([other], settings().model_copy(update={"seed": seed})) as server,
            await Wire.open("tcp", ports(server)) as wire,
        ):
            wire.hello()
            welcome = await wire.read()
            assert isinstance(welcome, Welcome)
            sessions.append(welcome.session)
    assert sessions[0] == sessions[1] != sessions[2]


async def test_the_document_is_served(server: Server) -> None:
    status, body = await get(server.port, "/asyncapi.json")
    assert status == "HTTP/1.1 200 OK"
    assert body == document_bytes(contract_of([echo, other]))


async def test_proxies_are_believed_on_the_ports_that_are_named() -> None:
    line = b"PROXY TCP4 203.0.113.7 192.0.2.1 5 6\r\n"
    given = {"trusted_proxies": "127.0.0.1", "proxy_protocol": "tcp", "forwarded_header": "forwarded"}
    async with Server([echo], settings(**given)) as server:
        Dog.events.clear()
        async with Wire("tcp", *await asyncio.open_connection("127.0.0.1", server.tcp_port)) as wire:
            wire.writer.write(line)
            wire.hello()
            assert isinstance(await wire.read(), Welcome)
        async with Wire("websocket-json", *await asyncio.open_connection("127.0.0.1", server.port)) as wire:
            wire.writer.write(upgrade(Forwarded="for=198.51.100.1", X_Forwarded_For="198.51.100.2"))
            assert (await wire.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101")
            wire.hello()
            assert isinstance(await wire.read(), Welcome)
        peers = [peer for what, *_, peer in Dog.events if what == "open"]
        assert peers == ["203.0.113.7:5", "198.51.100.1:0"]
