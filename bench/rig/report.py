"""What a benchmark says: rows for programs, a table for people."""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from skyloom_gateway.log import configure
from skyloom_gateway.settings import LogSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

CHILD_SECONDS_MAX: Final = 600.0
"""How long one loop's part of a benchmark may take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One thing measured on one event loop.

    `ratio` is how many times better it is than what `baseline` names, measured in the same run in turns with it: above
    1 is faster, or smaller for memory. `details` has further numbers, their units in their names.
    """

    name: str
    loop: str
    per_second: float
    ratio: float
    baseline: str
    details: dict[str, float] = field(default_factory=dict)
    note: str = ""


def main(name: str, measure: Callable[[str, float], list[Row]], arguments: Sequence[str]) -> int:
    """Run a benchmark: ``[--json FILE] [--loop asyncio|uvloop] [--scale N]``.

    Each loop is measured in a process of its own, so that neither inherits the other's memory.

    Args:
        name: the benchmark's module in `bench`.
        measure: given a loop's name and the scale (1.0 is the full size), measures.
        arguments: the command line's.
    """
    loops = ["asyncio", *(["uvloop"] if importlib.util.find_spec("uvloop") else [])]
    parser = argparse.ArgumentParser(prog=f"bench {name}", description=f"Benchmark {name}.")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows there")
    parser.add_argument("--loop", choices=loops, action="append", help="measure on this event loop only")
    parser.add_argument("--scale", type=float, default=1.0, help="size of the run; 1 is the full one")
    parser.add_argument("--rows", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.rows:
        # What is printed here is data; and a node that warns of a busy loop is right, but being busy is the point.
        configure(LogSettings(level="error"))
        print(json.dumps([asdict(row) for row in measure(given.loop[0], given.scale)]))
        return 0
    rows: list[Row] = []
    for loop in given.loop or loops:
        rows += _measure_apart(name, loop, given.scale)
    print(table(rows))
    if given.json is not None:
        given.json.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")
    return 0


def _measure_apart(name: str, loop: str, scale: float) -> list[Row]:
    command = [sys.executable, "-m", f"bench.{name}", "--rows", "--loop", loop, "--scale", str(scale)]
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        command, cwd=root, env=environment(), stdout=subprocess.PIPE, timeout=CHILD_SECONDS_MAX, check=True
    )
    return [Row(**row) for row in json.loads(done.stdout)]


def environment() -> dict[str, str]:
    """The environment for child processes, which import what this one imports."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


def table(rows: Sequence[Row]) -> str:
    """The rows as a table for a terminal."""
    head = ["", "loop", "per second", "ratio", "of", "", ""]
    lines = [head]
    for row in rows:
        details = "  ".join(f"{_number(value)} {key.replace('_', ' ')}" for key, value in row.details.items())
        ratio = f"{row.ratio:.2f}"
        lines.append([row.name, row.loop, _number(row.per_second), ratio, row.baseline, details, row.note])
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    right = {2, 3}
    return "\n".join(
        "  ".join(
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:.3g}"
