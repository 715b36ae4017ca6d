"""Calls between two nodes that NATS joins, beside `nats-py`'s own request and reply.

Both have two connections to one server of the run's own, in this process: who asks and who answers share a core, and
the server has the other. A call of ours carries a deadline and has its answer matched by session; `request` is what a
program without a framework would use. One at a time is the way there and back; with 100 under way ours share a frame
per turn of the loop.
"""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Final

from nats.aio.client import Client

from bench.rig.costs import Costs, ThisProcess, in_turns
from bench.rig.report import Row, main
from bench.rig.turns import run_on
from skyloom import Address, Node, Service, rpc
from skyloom.cluster.nats import NatsTransport
from tests.nats import running_nats

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from nats.aio.msg import Msg

TURNS: Final = 8
WINDOWS: Final = {"one at a time": (1, 2_000), "100 under way": (100, 20_000)}
SUBJECT: Final = "echo"
BODY: Final = b"x" * 64
BARE: Final = "nats-py request"
CALL: Final = "call"


class Echo(Service):
    """Answers with what it was asked."""

    @rpc
    async def echo(self, body: bytes) -> bytes:
        return body


async def _answer(message: Msg) -> None:
    await message.respond(message.data)


def _windowed(ask: Callable[[], Awaitable[object]], window: int) -> Callable[[int], Awaitable[None]]:
    async def asker(count: int) -> None:
        for _ in range(count):
            await ask()

    async def run(count: int) -> None:
        await asyncio.gather(*(asker(count // window) for _ in range(window)))

    return run


async def measure_all(loop: str, scale: float, url: str) -> list[Row]:
    """Both windows."""
    asks, answers = Client(), Client()
    await asks.connect(url)
    await answers.connect(url)
    await answers.subscribe(SUBJECT, cb=_answer)
    await answers.flush()
    rows = []
    async with (
        Node("there", watch_loop=False, transport=NatsTransport(url)) as there,
        Node("here", watch_loop=False, transport=NatsTransport(url)) as here,
    ):
        address: Address = await there.spawn(Echo)

        async def call() -> None:
            await here.call(address, "lua", "echo", BODY, timeout=30.0)

        async def request() -> None:
            await asks.request(SUBJECT, BODY, timeout=30.0)

        for title, (window, full) in WINDOWS.items():
            count = max(window, round(full * min(1.0, scale)))
            baseline = Costs(ThisProcess(), _windowed(request, window))
            subject = Costs(ThisProcess(), _windowed(call, window))
            ratio, cpu_ratio = await in_turns(baseline, subject, max(1, round(TURNS * scale)), count, count)
            rows.append(_row(loop, f"{BARE}, {title}", baseline, 1.0, 1.0))
            rows.append(_row(loop, f"{CALL}, {title}", subject, ratio, cpu_ratio))
    await asks.close()
    await answers.close()
    return rows


def _row(loop: str, name: str, costs: Costs, ratio: float, cpu_ratio: float) -> Row:
    details = {"cpu_us_each": costs.cpu_microseconds, "cpu_ratio": cpu_ratio}
    return Row(name=name, loop=loop, per_second=max(costs.rates), ratio=ratio, baseline=BARE, details=details)


def measure(loop: str, scale: float) -> list[Row]:
    """With a server of its own."""
    with running_nats() as server:
        return run_on(loop, measure_all(loop, scale, server.url))


if __name__ == "__main__":
    sys.exit(main("cluster", measure, sys.argv[1:]))
