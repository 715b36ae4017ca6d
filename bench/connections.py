"""Memory of idle connections, and how fast they are accepted.

2,000 clients connect and fall silent; what counts is how much the server process has grown. The baseline is a bare
`websockets.asyncio.server` with as many. "chat" is the real chat app, each client with an agent and in a room of 20.
"""

from __future__ import annotations

import sys
from time import perf_counter
from typing import TYPE_CHECKING, Final

from bench.rig.load import Transport, ask, connect, part
from bench.rig.process import ServerProcess, raise_file_limit
from bench.rig.report import Row, main
from bench.rig.turns import fastest_loop, run_on
from skyloom_gateway.wire import JSON, MSGPACK, Codec

if TYPE_CHECKING:
    from bench.rig.load import Client

CLIENTS: Final = 2_000
WARM_UP: Final = 100
ROOM_MEMBERS: Final = 20
FILES_BESIDE: Final = 300
KIBIBYTE: Final = 1024
BARE: Final = "bare websockets"

CASES: Final[dict[str, tuple[str, Transport, Codec | None]]] = {
    BARE: ("bare_echo", "websocket", None),
    "WebSocket, greeted": ("echo", "websocket", JSON),
    "WebSocket, in a chat room": ("chat", "websocket", JSON),
    "TCP, greeted": ("echo", "tcp", MSGPACK),
}


async def join_rooms(clients: list[Client], codec: Codec, first: int) -> None:
    """Put clients into rooms of `ROOM_MEMBERS`, made on the way."""
    for number, client in enumerate(clients, first):
        body = codec.encode_body({"room": f"room-{number // ROOM_MEMBERS}"})
        if number % ROOM_MEMBERS == 0:
            await ask(client, codec.request(1, "chat.create_room", body), "websocket", codec)
        await ask(client, codec.request(2, "chat.join", body), "websocket", codec)


async def measure_case(loop: str, clients: int, case: str) -> tuple[float, float]:
    """Bytes of a connection, and connections accepted in a second."""
    kind, transport, codec = CASES[case]
    with ServerProcess(kind, loop) as server:
        port = server.tcp_port if transport == "tcp" else server.port
        joined = codec if kind == "chat" else None
        warm = await connect(port, WARM_UP, transport, codec)
        if joined is not None:
            await join_rooms(warm, joined, 0)
        before = server.resident_bytes()
        began = perf_counter()
        idle = await connect(port, clients, transport, codec)
        seconds = perf_counter() - began
        if joined is not None:
            await join_rooms(idle, joined, WARM_UP)
        grown = server.resident_bytes() - before
        await part(warm + idle)
    return grown / clients, clients / seconds


def measure(loop: str, scale: float) -> list[Row]:
    """All cases, each with a new server."""
    clients = max(WARM_UP, round(CLIENTS * scale))
    files = raise_file_limit(clients + WARM_UP + FILES_BESIDE)
    if files < clients + WARM_UP + FILES_BESIDE:
        raise SystemExit(
            f"{clients} clients need {clients + WARM_UP + FILES_BESIDE} open files, but the limit is {files}: "
            "raise it with ulimit -n, or lower --scale"
        )
    measured = {case: run_on(fastest_loop(), measure_case(loop, clients, case)) for case in CASES}
    bare_bytes = measured[BARE][0]
    return [
        Row(
            name=case,
            loop=loop,
            per_second=per_second,
            ratio=bare_bytes / max(1.0, size),
            baseline=BARE,
            details={"kibibytes_each": size / KIBIBYTE, "clients": float(clients)},
            note="" if case == BARE else "at most 30 KiB wanted",
        )
        for case, (size, per_second) in measured.items()
    ]


if __name__ == "__main__":
    sys.exit(main("connections", measure, sys.argv[1:]))
