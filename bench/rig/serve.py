"""A server process under measurement: ``python -m bench.rig.serve KIND LOOP``.

KIND is "echo", "room" or "chat", the app that a gateway serves; "defended", a gateway that serves echo and room with
its limits as they come; "bare_echo" or "bare_room", the `websockets` library's own server that does the least one
could; or "socketio". It prints its ports as JSON, then answers each line of its input, "cpu" with the processor seconds
it has used, "memory" with the bytes it holds and "clients" with its connections, and ends with its input.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from time import process_time

from websockets.asyncio.server import ServerConnection, broadcast, serve
from websockets.exceptions import ConnectionClosed

from bench.rig.memory import resident_bytes
from bench.rig.socketio import SocketIoServer
from bench.rig.turns import run_on
from skyloom_gateway import App, Server, Settings
from skyloom_gateway.garbage import collect_seldom
from skyloom_gateway.log import configure
from skyloom_gateway.settings import GatewaySettings, LogSettings

# A benchmark's client sends thousands of messages a second, which the limit of 50 is there to stop.
GATEWAY = GatewaySettings(
    port=0,
    tcp_port=0,
    messages_per_second=1_000_000,
    messages_burst=1_000_000,
    rate_refusals=1_000_000,
    connects_per_second=1_000_000,
    connects_burst=1_000_000,
)


def load_app(kind: str) -> App:
    if kind == "chat":
        from skyloom_chat import app

        return app
    from bench.rig import apps

    found: App = getattr(apps, kind)
    return found


async def bare_echo(connection: ServerConnection) -> None:
    with suppress(ConnectionClosed):
        async for message in connection:
            await connection.send(message)


class BareRoom:
    """What is said goes to everybody else by `websockets.broadcast`; the speaker gets a short answer."""

    def __init__(self) -> None:
        self._connections: set[ServerConnection] = set()

    async def handle(self, connection: ServerConnection) -> None:
        self._connections.add(connection)
        others: list[ServerConnection] = []
        with suppress(ConnectionClosed):
            async for message in connection:
                if len(others) != len(self._connections) - 1:
                    others = [one for one in self._connections if one is not connection]
                broadcast(others, message)
                await connection.send("ok")


async def start(kind: str, stack: AsyncExitStack) -> tuple[dict[str, int], Callable[[], int]]:
    """Start the server; returns its ports, and what counts its clients."""
    if kind.startswith("bare_"):
        handler = bare_echo if kind == "bare_echo" else BareRoom().handle
        bare = await stack.enter_async_context(
            serve(handler, "127.0.0.1", 0, compression=None, ping_interval=None, backlog=1024)
        )
        return {"port": next(iter(bare.sockets)).getsockname()[1]}, lambda: len(bare.connections)
    if kind == "socketio":
        socketio = SocketIoServer()
        return {"port": await socketio.start(stack)}, lambda: socketio.clients
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="skyloom-bench-")))
    defended = kind == "defended"
    gateway = GatewaySettings(port=0, tcp_port=0) if defended else GATEWAY
    settings = Settings(gateway=gateway, database=f"sqlite:///{folder / 'bench.sqlite3'}")
    apps = [load_app(name) for name in (("echo", "room") if defended else (kind,))]
    server = await stack.enter_async_context(Server(apps, settings))
    return {"port": server.port, "tcp_port": server.tcp_port or 0}, lambda: len(server.gate.connections)


async def run(kind: str) -> None:
    async with AsyncExitStack() as stack:
        ports, clients = await start(kind, stack)
        collect_seldom()  # as the server command does; here for all kinds
        print(json.dumps(ports), flush=True)
        answers = {b"cpu": process_time, b"memory": resident_bytes, b"clients": clients}
        lines = asyncio.StreamReader()
        loop = asyncio.get_running_loop()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
        while line := await lines.readline():
            print(answers[line.strip()](), flush=True)


if __name__ == "__main__":
    configure(LogSettings(level="error"))
    run_on(sys.argv[2], run(sys.argv[1]))
