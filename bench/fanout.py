"""One speaker in a room of 200: hub, `fan_out`, gate, sessions, links.

Against `websockets.broadcast` of the same bytes to as many, by a server that does nothing else. The app is a room whose
hub does what the chat's does, but stores nothing: the chat's history is on disk, and a disk is not what is compared
here. The room checks what it is told, encodes each message once and numbers it for every session.

Measured with one message under way at a time, and with 16: then the gateway writes what a turn of the loop brings a
client in one piece, which `broadcast` does not, and most of the gain is that. Servers and load are processes of their
own; the gateway's rate limit is raised, all its other limits are on.
"""

from __future__ import annotations

import sys
from functools import partial
from itertools import cycle, repeat
from typing import TYPE_CHECKING, Final

from bench.rig.costs import Costs, in_turns
from bench.rig.load import CODECS, Client, ask, connect, framed, part, requests, speak
from bench.rig.process import ServerProcess
from bench.rig.report import Row, main
from bench.rig.turns import fastest_loop, run_on
from skyloom_gateway.wire import JSON, Codec

if TYPE_CHECKING:
    from collections.abc import Iterator

MEMBERS: Final = 200
MESSAGES: Final = 150
TURNS: Final = 12
WINDOWS: Final = {"one at a time": 1, "16 under way": 16}
TEXT: Final = "a" * 48
BARE: Final = "websockets.broadcast"


async def enter(members: list[Client], codec: Codec) -> bytes:
    """Have all enter the room; returns a push as it is on the wire, without its frame."""
    for member in members:
        await ask(member, codec.request(1, "room.enter", codec.encode_body({})), "websocket", codec)
    say = codec.request(2, "room.say", codec.encode_body({"text": TEXT}))
    await speak(members[0], members[1:], iter([framed(say, "websocket", text=codec.text)]), 1, 1)
    return members[1].last


async def measure_codec(loop: str, scale: float, name: str) -> list[Row]:
    """Fan-out in one encoding."""
    codec = CODECS[name]
    count = max(2, round(MESSAGES * min(1.0, scale)))
    turns = max(1, round(TURNS * scale))
    with ServerProcess("bare_room", loop) as bare, ServerProcess("room", loop) as gateway:
        listeners = await connect(bare.port, MEMBERS)
        members = await connect(gateway.port, MEMBERS, codec=codec)
        push = await enter(members, codec)
        says = requests(codec, "room.say", {"text": TEXT})
        frames = cycle([framed(frame, "websocket", text=codec.text) for frame in says])
        same = repeat(framed(push, "websocket", text=codec.text))
        rows = []
        for title, window in WINDOWS.items():
            baseline = Costs(bare, partial(_say, listeners, same, window))
            subject = Costs(gateway, partial(_say, members, frames, window))
            ratio, cpu_ratio = await in_turns(baseline, subject, turns, count, count * (MEMBERS - 1))
            rows.append(_row(loop, f"{BARE}, {name}, {title}", baseline, 1.0, 1.0, len(push)))
            rows.append(_row(loop, f"fan_out, {name}, {title}", subject, ratio, cpu_ratio, len(push)))
        if TEXT.encode() not in members[-1].last:
            raise RuntimeError(f"the gateway pushed {members[-1].last[:300]!r}")
        await part(listeners + members)
    return rows


async def _say(members: list[Client], frames: Iterator[bytes], window: int, count: int) -> None:
    await speak(members[0], members[1:], frames, count, window)


def _row(loop: str, name: str, costs: Costs, ratio: float, cpu_ratio: float, push_bytes: int) -> Row:
    details = {
        "server_cpu_us_each": costs.cpu_microseconds,
        "cpu_ratio": cpu_ratio,
        "push_bytes": float(push_bytes),
    }
    return Row(name=name, loop=loop, per_second=max(costs.rates), ratio=ratio, baseline=BARE, details=details)


def measure(loop: str, scale: float) -> list[Row]:
    """Both encodings. What is counted is deliveries."""
    return [row for name in (JSON.name, "msgpack") for row in run_on(fastest_loop(), measure_codec(loop, scale, name))]


if __name__ == "__main__":
    sys.exit(main("fanout", measure, sys.argv[1:]))
