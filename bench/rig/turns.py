"""Measuring in turns: a machine's speed drifts, so what is compared takes turns in short runs."""

from __future__ import annotations

import asyncio
import importlib.util
from time import perf_counter
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Mapping

T = TypeVar("T")


async def best_rates(
    runs: Mapping[str, Callable[[int], Awaitable[object]]], count: Mapping[str, int], turns: int
) -> dict[str, float]:
    """Each run's best rate per second over `turns` rounds, in which all take their turn.

    A run does `count[name]` operations when called. The best is taken because what others do on the machine only
    ever makes a run slower.
    """
    best = dict.fromkeys(runs, 0.0)
    for turn in range(turns + 1):
        for name, run in runs.items():
            began = perf_counter()
            await run(count[name])
            rate = count[name] / (perf_counter() - began)
            if turn > 0:  # the first round warms up
                best[name] = max(best[name], rate)
    return best


def fastest_loop() -> str:
    """The loop for a load generator, whatever the server under measurement runs on."""
    return "uvloop" if importlib.util.find_spec("uvloop") else "asyncio"


def run_on(loop: str, work: Coroutine[object, object, T]) -> T:
    """Run a coroutine on a new event loop, "asyncio" or "uvloop"."""
    new_event_loop: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
    if loop == "uvloop":
        import uvloop

        new_event_loop = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(work)
