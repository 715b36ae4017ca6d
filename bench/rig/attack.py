"""Those who attack, in a process of their own: ``python -m bench.rig.attack KIND PORT SECONDS AMOUNT``.

It prints a line when it is ready to begin, begins with the next line of its input, and prints what it did as JSON.
"""

from __future__ import annotations

import asyncio
import json
import random
import select
import socket
import struct
import sys
from collections import deque
from time import perf_counter

from bench.rig.load import connect, framed, requests
from bench.rig.process import raise_file_limit
from bench.rig.socketio import REQUEST as SOCKETIO_REQUEST
from bench.rig.turns import fastest_loop, run_on
from skyloom_gateway.wire import JSON

RECEIVE_BYTES = 4096
TURN_SECONDS = 0.002
WATCHED = 200
FLOOD_TEXT = "x" * 1_000
FLOOD_BLOCK = 64
FILES = 16_000
HELD_MAX = 12_000
UPGRADE = (
    b"GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


def begin() -> None:
    print("ready", flush=True)
    sys.stdin.readline()


def told(**what: float) -> None:
    print(json.dumps(what), flush=True)


def stall(port: int, seconds: float, count: int, *, socketio: bool) -> None:
    """Members of the room that stop reading."""
    masked = b"\0\0\0\0"

    def sent(text: bytes) -> bytes:
        head = bytes((0x81, 0x80 | len(text))) if len(text) < 126 else b"\x81\xfe" + len(text).to_bytes(2, "big")
        return head + masked + text

    stalled = []
    for number in range(count):
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)
        sock.connect(("127.0.0.1", port))
        if socketio:
            sock.sendall(SOCKETIO_REQUEST.encode())
            wait_for(sock, b'"sid"')
            sock.sendall(sent(b"40"))
            wait_for(sock, b"40{")
        else:
            sock.sendall(UPGRADE)
            wait_for(sock, b"\r\n\r\n")
            sock.sendall(sent(JSON.hello({"auth": {"scheme": "guest", "name": f"stalled{number}"}})))
            wait_for(sock, b'"welcome"')
            sock.sendall(sent(JSON.request(1, "room.enter", JSON.encode_body({}))))
            wait_for(sock, b'"members"')
        stalled.append(sock)
    begin()
    sys.stdin.readline()
    told(stalled=len(stalled))


def wait_for(sock: socket.socket, wanted: bytes) -> None:
    seen = b""
    while wanted not in seen:
        data = sock.recv(4096)
        if not data:
            raise ConnectionError("the server closed the connection")
        seen += data


def connects(port: int, seconds: float, per_second: int) -> None:
    """Connections from many addresses that never say hello: half say nothing, half shake hands first."""
    raise_file_limit(FILES)
    source = random.Random(1)
    held: deque[socket.socket] = deque()
    silent: list[socket.socket] = []
    begun: dict[int, float] = {}
    lives: list[float] = []
    watched = select.poll()
    begin()
    began = perf_counter()
    made = 0
    while (now := perf_counter() - began) < seconds:
        is_early = made >= now * per_second
        if is_early or made % 100 == 0:
            for file, _ in watched.poll(TURN_SECONDS * 1000 if is_early else 0):
                watched.unregister(file)
                lives.append(now - begun.pop(file))
        if is_early:
            continue
        sock = socket.socket()
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.bind((f"127.{source.randrange(1, 255)}.{source.randrange(1, 255)}.{source.randrange(1, 255)}", 0))
        sock.connect_ex(("127.0.0.1", port))
        held.append(sock)
        if made < WATCHED:  # silent ones, and never closed from here
            watched.register(sock, select.POLLIN)
            begun[sock.fileno()] = now
            silent.append(held.pop())
        elif made % 2:
            try:
                held[max(-20, -len(held))].send(UPGRADE)  # one that is open by now
            except OSError:  # refused or cut by now
                pass
        if len(held) > HELD_MAX:
            held.popleft().close()
        made += 1
    told(
        attack_per_second=made / (perf_counter() - began),
        s_to_drop=sum(lives) / len(lives) if lives else seconds,
        still_connected=len(begun) / WATCHED,
    )


async def flood(port: int, seconds: float, count: int) -> None:
    """Clients that send half a mebibyte a second each, and come back when they are closed."""
    # Ids that go up all the time: what repeats itself would be answered from memory.
    frames = [framed(frame, "websocket", text=True) for frame in requests(JSON, "echo.say", {"text": FLOOD_TEXT})]
    blocks = [b"".join(frames[at : at + FLOOD_BLOCK]) for at in range(0, len(frames), FLOOD_BLOCK)]
    pause = len(blocks[0]) / (512 * 1024)
    sent = closed = 0
    lives: list[float] = []
    begin()
    end = perf_counter() + seconds

    async def one() -> None:
        nonlocal sent, closed
        while perf_counter() < end:
            try:
                (client,) = await connect(port, 1, codec=JSON)
            except (ConnectionError, OSError):
                await asyncio.sleep(0.1)
                continue
            began = perf_counter()
            gone = asyncio.Event()
            client.on_frames = lambda _, frames, gone=gone: None if frames else gone.set()  # type: ignore[misc]  # mypy knows no lambda with defaults here
            at = 0
            while perf_counter() < end and not gone.is_set():
                block = blocks[at % len(blocks)]
                at += 1
                client.write(block)
                sent += len(block)
                try:
                    async with asyncio.timeout(pause):
                        await gone.wait()
                except TimeoutError:
                    pass
            if gone.is_set():
                closed += 1
                lives.append(perf_counter() - began)

    await asyncio.gather(*(one() for _ in range(count)))
    told(
        attack_mib_per_second=sent / seconds / 2**20,
        closed=closed,
        s_to_drop=sum(lives) / len(lives) if lives else 0.0,
    )


if __name__ == "__main__":
    kind, port, seconds, amount = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])
    if kind == "flood":
        run_on(fastest_loop(), flood(port, seconds, amount))
    elif kind == "connects":
        connects(port, seconds, amount)
    else:
        stall(port, seconds, amount, socketio=kind == "socketio")
