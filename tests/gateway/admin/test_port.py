"""The admin port of a whole server in this process, on real sockets."""

from __future__ import annotations

import asyncio

import pytest
from typer.testing import CliRunner

from skyloom_gateway import Server, Settings
from skyloom_gateway.admin.command import ADMIN_PORT
from skyloom_gateway.cli import main
from skyloom_gateway.settings import GatewaySettings
from tests.gateway.cast import echo, other


def settings(**gateway: object) -> Settings:
    return Settings(gateway=GatewaySettings.model_validate({"port": 0, "tcp_port": "off", **gateway}))


async def head(address: str, port: int, path: str) -> str:
    reader, writer = await asyncio.open_connection(address, port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    line = (await reader.readline()).decode()
    writer.close()
    return line.strip()


async def test_it_is_off_unless_it_is_set() -> None:
    async with Server([echo], settings()) as server:
        assert server.admin_port is None
        assert server.admin_url is None
        assert await head("127.0.0.1", server.port, "/metrics") == "HTTP/1.1 404 Not Found"
        assert await head("127.0.0.1", server.port, "/console") == "HTTP/1.1 404 Not Found"


async def test_it_listens_on_loopback_alone_whatever_the_server_does() -> None:
    async with Server([echo, other], settings(host="0.0.0.0", allow_guests=True, admin_port=0)) as server:
        assert server.admin_port is not None
        assert await head("127.0.0.2", server.port, "/healthz") == "HTTP/1.1 200 OK"
        assert await head("127.0.0.1", server.admin_port, "/metrics") == "HTTP/1.1 200 OK"
        with pytest.raises(ConnectionRefusedError):
            await head("127.0.0.2", server.admin_port, "/metrics")
        assert await head("127.0.0.1", server.port, "/metrics") == "HTTP/1.1 404 Not Found"


async def test_a_port_in_use_is_said() -> None:
    async with Server([echo], settings(admin_port=0)) as server:
        with pytest.raises(OSError, match=f"gateway.admin_port: 127.0.0.1:{server.admin_port} is already in use"):
            await Server([echo], settings(admin_port=server.admin_port)).start()


async def test_a_full_server_still_answers_its_operator() -> None:
    async with Server([echo], settings(connections=1, admin_port=0)) as server:
        assert server.admin_port is not None
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        assert await head("127.0.0.1", server.admin_port, "/metrics") == "HTTP/1.1 200 OK"
        writer.close()


@pytest.mark.parametrize("port", [8000, 8001])
def test_it_is_none_of_the_other_ports(port: int) -> None:
    done = CliRunner().invoke(main, ["check", "tests.gateway.game:app", "--set", f"gateway.admin_port={port}"])
    assert done.exit_code == 2
    assert "admin_port is that of another listener" in done.stderr


def test_the_command_looks_where_the_demo_has_it() -> None:
    from dev import ADMIN_PORT as DEMO

    assert DEMO == ADMIN_PORT
