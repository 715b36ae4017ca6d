"""Requests through the gateway and back: frame, session, agent, pydantic in, pydantic out.

100 WebSocket connections, each with one request under way, against a bare `websockets.asyncio.server` that echoes the
same bytes and does nothing else. Servers and load are processes of their own. The gateway's rate limit of 50 messages a
second is raised; all its other limits are on.
"""

from __future__ import annotations

import sys
from functools import partial
from itertools import cycle
from typing import Final

from bench.rig.costs import Costs, in_turns
from bench.rig.load import CODECS, connect, framed, is_error, part, request_all, requests
from bench.rig.process import ServerProcess
from bench.rig.report import Row, main
from bench.rig.turns import fastest_loop, run_on

CONNECTIONS: Final = 100
REQUESTS: Final = 5_000
TURNS: Final = 12
TEXT: Final = "a" * 48
BARE: Final = "bare websockets"


async def measure_codec(loop: str, scale: float, name: str) -> list[Row]:
    """Echo in one encoding."""
    codec = CODECS[name]
    count = max(CONNECTIONS, round(REQUESTS * min(1.0, scale)))
    turns = max(1, round(TURNS * scale))
    plain = requests(codec, "echo.say", {"text": TEXT})
    frames = cycle([framed(frame, "websocket", text=codec.text) for frame in plain])
    with ServerProcess("bare_echo", loop) as bare, ServerProcess("echo", loop) as gateway:
        echoed = await connect(bare.port, CONNECTIONS)
        greeted = await connect(gateway.port, CONNECTIONS, codec=codec)
        baseline = Costs(bare, partial(request_all, echoed, frames))
        subject = Costs(gateway, partial(request_all, greeted, frames))
        ratio, cpu_ratio = await in_turns(baseline, subject, turns, count, count)
        for client in greeted:
            if is_error(client.last, codec) or TEXT.encode() not in client.last:
                raise RuntimeError(f"the gateway answered {client.last[:300]!r}")
        await part(echoed + greeted)
    rows = []
    for title, costs, ratios in (
        (f"{BARE} echo, {name}", baseline, (1.0, 1.0)),
        (f"gateway echo, {name}", subject, (ratio, cpu_ratio)),
    ):
        details = {"server_cpu_us_each": costs.cpu_microseconds, "cpu_ratio": ratios[1]}
        rows.append(
            Row(
                name=title,
                loop=loop,
                per_second=max(costs.rates),
                ratio=ratios[0],
                baseline=BARE,
                details=details,
            )
        )
    return rows


def measure(loop: str, scale: float) -> list[Row]:
    """Both encodings."""
    return [row for name in CODECS for row in run_on(fastest_loop(), measure_codec(loop, scale, name))]


if __name__ == "__main__":
    sys.exit(main("echo", measure, sys.argv[1:]))
