"""`skyloom gateway` with the echo app, as a process of its own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-m", "skyloom_gateway.cli"]
ECHO = "tests.gateway.game:app"
LISTENS = re.compile(r"^skyloom listens on https?://127\.0\.0\.1:(\d+) and t(?:cp|ls)://127\.0\.0\.1:(\d+)$")
STOP_SECONDS = 20.0


def surroundings() -> dict[str, str]:
    """The environment without settings of whoever runs the tests."""
    return {name: value for name, value in os.environ.items() if not name.startswith("SKYLOOM_")} | {
        "PYTHONUNBUFFERED": "1"
    }


def skyloom(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        [*COMMAND, *arguments],
        cwd=ROOT,
        env=surroundings() | environment,
        capture_output=True,
        text=True,
        timeout=STOP_SECONDS,
        check=False,
    )


class Game:
    """A running gateway; `ports` are those of WebSocket and TCP."""

    def __init__(self, log: Path, *arguments: str) -> None:
        self._log = log
        with log.open("wb") as errors:
            self.process = subprocess.Popen(
                [*COMMAND, "gateway", ECHO, "--port", "0", "--tcp-port", "0", *arguments],
                cwd=ROOT,
                env=surroundings(),
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        assert self.process.stdout is not None
        self.lines: list[str] = []
        found = None
        while found is None:
            line = self.process.stdout.readline()
            assert line, (self.lines, self.log)
            self.lines.append(line)
            found = LISTENS.match(line.strip())
        self.ports = (int(found[1]), int(found[2]))

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def resident_bytes(self, *, peak: bool) -> int:
        """Memory now, or the most since this was last asked for now (proc(5), clear_refs)."""
        process = Path(f"/proc/{self.process.pid}")
        if not peak:
            (process / "clear_refs").write_text("5")
        found = re.search(rf"^{'VmHWM' if peak else 'VmRSS'}:\s+(\d+) kB", (process / "status").read_text(), re.M)
        assert found
        return int(found[1]) * 1024

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send the signal; the exit status."""
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        assert self.process.stdout is not None
        try:
            status = self.process.wait(STOP_SECONDS)
        finally:
            self.lines += self.process.stdout.readlines() if self.process.poll() is not None else []
        return status

    def __enter__(self) -> Game:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()
