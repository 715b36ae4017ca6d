"""Honest clients that ask one thing after another, and how long each answer takes."""

from __future__ import annotations

import asyncio
from statistics import quantiles
from time import perf_counter
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

PAUSE_SECONDS = 0.03  # 33 requests a second, within the default limit of 50
ANSWER_SECONDS_MAX = 30.0


class Asker(Protocol):
    """One honest client."""

    async def ask(self, number: int) -> None:
        """Ask, and wait for the answer."""


async def waits(askers: Sequence[Asker], seconds: float) -> list[float]:
    """Have all ask for so many seconds; the seconds that each answer took."""
    end = perf_counter() + seconds
    found: list[float] = []

    async def go_on(asker: Asker, first: float) -> None:
        await asyncio.sleep(first)
        number = 1
        while (asked := perf_counter()) < end:
            async with asyncio.timeout(ANSWER_SECONDS_MAX):
                await asker.ask(number)
            found.append(perf_counter() - asked)
            number += 1
            await asyncio.sleep(PAUSE_SECONDS)

    step = PAUSE_SECONDS / len(askers)
    await asyncio.gather(*(go_on(asker, number * step) for number, asker in enumerate(askers)))
    return found


def p99(found: Sequence[float]) -> float:
    """The wait that one answer in a hundred exceeds."""
    return quantiles(found, n=100)[-1]
