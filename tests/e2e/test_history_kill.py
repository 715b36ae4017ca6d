"""A killed process has lost nothing that it answered."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from skyloom_chat.history import History, HistoryLimits

WRITER = Path(__file__).with_name("history_writer.py")
LIMITS = HistoryLimits(kept=1_000_000)


def answered(line: str) -> tuple[int, str]:
    number, text = line.split()
    return int(number), text


async def stored(url: str) -> dict[int, str]:
    history = await History.open(url, LIMITS)
    try:
        return {message.id: message.text for message in await history.last("lobby", LIMITS.kept)}
    finally:
        await history.close()


@pytest.mark.parametrize(
    "messages", [pytest.param(1, marks=pytest.mark.ci), 40, pytest.param(500, marks=pytest.mark.ci)]
)
def test_every_answered_message_survives_kill_9(tmp_path: Path, messages: int) -> None:
    url = f"sqlite:///{tmp_path}/chat.db"
    said: list[tuple[int, str]] = []
    for run in range(2):
        writer = subprocess.Popen([sys.executable, str(WRITER), url, str(run)], stdout=subprocess.PIPE, text=True)
        assert writer.stdout is not None
        said += [answered(writer.stdout.readline()) for _ in range(messages)]
        writer.kill()
        # What it wrote to the pipe before it died was answered too; the last line may be cut.
        rest = writer.stdout.read()
        said += [answered(line) for line in rest.splitlines(keepends=True) if line.endswith("\n")]
        writer.stdout.close()
        assert writer.wait() == -9
        kept = asyncio.run(stored(url))
        assert {number: kept.get(number) for number, _ in said} == dict(said)
    assert len(dict(said)) == len(said) >= 2 * messages


@pytest.mark.ci
def test_processes_that_start_at_once_all_open_the_history(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/chat.db"
    writers = [
        subprocess.Popen([sys.executable, str(WRITER), url, str(run)], stdout=subprocess.PIPE, text=True)
        for run in range(3)
    ]
    said: list[tuple[int, str]] = []
    for writer in writers:
        assert writer.stdout is not None
        said += [answered(writer.stdout.readline()) for _ in range(20)]
    for writer in writers:
        assert writer.stdout is not None
        writer.kill()
        writer.stdout.close()
        writer.wait()
    kept = asyncio.run(stored(url))
    assert {number: kept.get(number) for number, _ in said} == dict(said)
