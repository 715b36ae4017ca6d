"""What honest clients notice of hostile ones, and what these cost the server.

Twenty honest clients ask for an echo 33 times a second each, first in quiet, then while others attack: 500 members of a
room that stop reading while a mebibyte a second is said there; 5,000 connections a second, from many addresses, that
never say hello; 20 clients that send ten mebibytes a second together. The gateway has its limits as they come.

The ratio is the honest clients' p99 in quiet over theirs under attack, of the same server a moment before: 0.33 is
three times as long. The attackers share the machine with the server, so it is the worst that it can be. What the
machine alone makes of it, "ms p99 beside" says: theirs while another server of this machine is under that attack.
python-socketio, where it is installed, meets the stalled readers too.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from contextlib import contextmanager
from itertools import count as count_from
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Final

from bench.rig.load import Client, ask, connect, framed, part
from bench.rig.probes import p99, waits
from bench.rig.process import ServerProcess, raise_file_limit
from bench.rig.report import Row, environment, main
from bench.rig.socketio import INSTALL, INSTALLED, SocketIoClient
from bench.rig.turns import fastest_loop, run_on
from skyloom_gateway.wire import JSON

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from bench.rig.probes import Asker

HONEST: Final = 20
QUIET_SECONDS: Final = 4.0
ATTACK_SECONDS: Final = 8.0
STALLED: Final = 500
SAID: Final = "x" * 31_500
SAID_PER_SECOND: Final = 33  # of 31,500 bytes: a mebibyte a second
CONNECTS_PER_SECOND: Final = 5_000
FLOODERS: Final = 20
FILES: Final = 16_000
CLIENTS_CHECK_SECONDS: Final = 0.2
MEBIBYTE: Final = 1024 * 1024


class Honest:
    """A client of the gateway's that asks for an echo."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._numbers = count_from(1)  # an id of before would be answered from memory

    async def ask(self, number: int) -> None:
        """`Asker.ask`."""
        request = JSON.request(next(self._numbers), "echo.say", JSON.encode_body({"text": "x"}))
        await ask(self._client, request, "websocket", JSON)


class Attack:
    """The process that attacks; see `bench.rig.attack`."""

    def __init__(self, kind: str, port: int, seconds: float, amount: int) -> None:
        command = [sys.executable, "-m", "bench.rig.attack", kind, str(port), str(seconds), str(amount)]
        self._process = subprocess.Popen(
            command,
            cwd=Path(__file__).resolve().parents[1],
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._line()

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the attack ended with status {self._process.wait()}")
        return line

    def go_on(self) -> None:
        """Begin; or, where it waits in the midst, end."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def end(self) -> dict[str, float]:
        """What it did."""
        told: dict[str, float] = json.loads(self._line())
        self._process.communicate(timeout=30)
        return told


@contextmanager
def speaking(say: Callable[[], object]) -> Iterator[None]:
    """Say a mebibyte a second."""

    async def speak() -> None:
        began, said = perf_counter(), 0
        while True:
            while said <= (perf_counter() - began) * SAID_PER_SECOND:
                say()
                said += 1
            await asyncio.sleep(1 / SAID_PER_SECOND)

    task = asyncio.create_task(speak())
    try:
        yield
    finally:
        task.cancel()


async def all_dropped(server: ServerProcess, left: int, seconds: float) -> float:
    """How long it takes until the server has no more than `left` clients; `seconds` when it takes longer."""
    began = perf_counter()
    while (passed := perf_counter() - began) < seconds:
        if await asyncio.to_thread(server.clients) <= left:
            return passed
        await asyncio.sleep(CLIENTS_CHECK_SECONDS)
    return seconds


def costs_since(server: ServerProcess, held_bytes: int, cpu_seconds: float) -> dict[str, float]:
    """What the server has spent since it held and had used so much."""
    return {
        "mib_grown": (server.peak_bytes() - held_bytes) / MEBIBYTE,
        "cpu_share": (server.cpu_seconds() - cpu_seconds) / ATTACK_SECONDS,
    }


def row(
    name: str,
    loop: str,
    quiet: Sequence[float],
    under: Sequence[float],
    costs: dict[str, float],
    details: dict[str, float],
) -> Row:
    """What one attack came to."""
    return Row(
        name=name,
        loop=loop,
        per_second=len(under) / ATTACK_SECONDS,
        ratio=p99(quiet) / p99(under),
        baseline="quiet, p99",
        details={
            "ms_p99_quiet": p99(quiet) * 1e3,
            "ms_p99": p99(under) * 1e3,
            **costs,
            **details,
        },
        note="a third or more wanted",
    )


async def measure_stalled(loop: str, count: int) -> Row:
    """Stalled readers of the gateway's room."""
    with ServerProcess("defended", loop) as server:
        honest = await connect(server.port, HONEST + 2, codec=JSON)
        *askers, reader, speaker = honest
        for member in (reader, speaker):
            await ask(member, JSON.request(1, "room.enter", JSON.encode_body({})), "websocket", JSON)
        probes: list[Asker] = [Honest(client) for client in askers]
        body = JSON.encode_body({"text": SAID})
        numbers = count_from(2)

        def say() -> None:
            sentence = JSON.request(next(numbers), "room.say", body)
            speaker.write(framed(sentence, "websocket", text=True))

        with speaking(say):
            quiet = await waits(probes, QUIET_SECONDS)
        attack = await asyncio.to_thread(Attack, "stalled", server.port, ATTACK_SECONDS, count)
        before, cpu = server.forget_peak(), server.cpu_seconds()
        attack.go_on()
        with speaking(say):
            under, drop = await asyncio.gather(
                waits(probes, ATTACK_SECONDS), all_dropped(server, HONEST + 2, ATTACK_SECONDS)
            )
        left = server.clients() - len(honest)
        costs = costs_since(server, before, cpu)
        attack.go_on()
        attack.end()
        await part(honest)
    return row(
        f"{count} stalled readers", loop, quiet, under, costs, {"s_to_drop_all": drop, "still_connected": float(left)}
    )


async def measure_socketio(loop: str, count: int) -> Row:
    """The same of python-socketio."""
    with ServerProcess("socketio", loop) as server:
        honest = [await SocketIoClient.open(server.port) for _ in range(HONEST + 1)]
        *askers, speaker = honest
        speakers_answers = asyncio.create_task(speaker.read_on())
        with speaking(lambda: speaker.say(SAID)):
            quiet = await waits(askers, QUIET_SECONDS)
        attack = await asyncio.to_thread(Attack, "socketio", server.port, ATTACK_SECONDS, count)
        before, cpu = server.forget_peak(), server.cpu_seconds()
        attack.go_on()
        with speaking(lambda: speaker.say(SAID)):
            under, drop = await asyncio.gather(
                waits(askers, ATTACK_SECONDS), all_dropped(server, HONEST + 1, ATTACK_SECONDS)
            )
        left = server.clients() - len(honest)
        costs = costs_since(server, before, cpu)
        attack.go_on()
        attack.end()
        speakers_answers.cancel()
        for client in honest:
            await client.close()
    return row(
        f"{count} stalled readers, python-socketio",
        loop,
        quiet,
        under,
        costs,
        {"s_to_drop_all": drop, "still_connected": float(left)},
    )


async def measure_attack(loop: str, kind: str, name: str, amount: int) -> Row:
    """An attack that needs no help: `bench.rig.attack` says what it did."""
    with ServerProcess("defended", loop) as server, ServerProcess("defended", loop) as neighbour:
        honest = await connect(server.port, HONEST, codec=JSON)
        probes: list[Asker] = [Honest(client) for client in honest]
        quiet = await waits(probes, QUIET_SECONDS)
        attack = await asyncio.to_thread(Attack, kind, neighbour.port, QUIET_SECONDS, amount)
        attack.go_on()
        beside = await waits(probes, QUIET_SECONDS)
        await asyncio.to_thread(attack.end)
        attack = await asyncio.to_thread(Attack, kind, server.port, ATTACK_SECONDS, amount)
        before, cpu = server.forget_peak(), server.cpu_seconds()
        attack.go_on()
        under = await waits(probes, ATTACK_SECONDS)
        told = await asyncio.to_thread(attack.end)
        costs = costs_since(server, before, cpu)
        await part(honest)
    return row(name, loop, quiet, under, costs, {"ms_p99_beside": p99(beside) * 1e3, **told})


def measure(loop: str, scale: float) -> list[Row]:
    """All attacks, each on a new server."""
    raise_file_limit(FILES)
    stalled = max(1, round(STALLED * scale))
    rate = max(1, round(CONNECTS_PER_SECOND * scale))
    flooders = max(1, round(FLOODERS * scale))

    def run(work) -> Row:  # type: ignore[no-untyped-def]  # a coroutine of any kind
        found: Row = run_on(fastest_loop(), work)
        return found

    rows = [
        run(measure_stalled(loop, stalled)),
        run(measure_attack(loop, "connects", f"{rate:,} connections a second without hello", rate)),
        run(measure_attack(loop, "flood", f"{flooders} clients that send {flooders / 2:g} MiB a second", flooders)),
    ]
    if not INSTALLED:
        print(f"python-socketio is not installed, so it is left out; to have it: {INSTALL}", file=sys.stderr)
    elif loop == "asyncio":
        rows.append(run(measure_socketio(loop, stalled)))
    return rows


if __name__ == "__main__":
    sys.exit(main("hostile", measure, sys.argv[1:]))
