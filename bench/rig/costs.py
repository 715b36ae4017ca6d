"""What a server, or this process, spends on the runs it is given."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median
from time import perf_counter, process_time
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


class Measured(Protocol):
    """What does the work."""

    def cpu_seconds(self) -> float:
        """Processor time that it has used so far."""


class ThisProcess:
    """The process that measures does the work too."""

    def cpu_seconds(self) -> float:
        """`Measured.cpu_seconds`, of all its threads."""
        return process_time()


@dataclass(slots=True)
class Costs:
    """Runs of one server: operations per second of time, and of the server's processor time."""

    server: Measured
    run: Callable[[int], Awaitable[None]]
    rates: list[float] = field(default_factory=list)
    cpu_rates: list[float] = field(default_factory=list)

    async def measure(self, runs: int, operations: int) -> None:
        """Do `runs` runs, which are `operations` operations."""
        cpu, began = self.server.cpu_seconds(), perf_counter()
        await self.run(runs)
        self.rates.append(operations / (perf_counter() - began))
        self.cpu_rates.append(operations / max(1e-6, self.server.cpu_seconds() - cpu))

    @property
    def cpu_microseconds(self) -> float:
        """The least processor time that the server took for an operation."""
        return 1e6 / max(self.cpu_rates)


async def in_turns(baseline: Costs, subject: Costs, turns: int, runs: int, operations: int) -> tuple[float, float]:
    """Measure both in turns; returns how many times more the subject does a second, and a processor second.

    Both are medians over the turns: the two of a turn ran one right after the other.
    """
    for turn in range(turns + 1):
        for costs in (baseline, subject):
            await costs.measure(runs, operations)
            if turn == 0:  # warms up
                costs.rates.clear()
                costs.cpu_rates.clear()
    return (
        median(ours / bare for ours, bare in zip(subject.rates, baseline.rates, strict=True)),
        median(ours / bare for ours, bare in zip(subject.cpu_rates, baseline.cpu_rates, strict=True)),
    )
