"""A server in a process of its own, and what it uses."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.rig.report import environment

if TYPE_CHECKING:
    from types import TracebackType

STOP_SECONDS: Final = 15.0


class ServerProcess:
    """Runs `bench.rig.serve` while its context is entered.

    Args:
        kind, loop: that program's arguments.
    """

    def __init__(self, kind: str, loop: str) -> None:
        self._command = [sys.executable, "-m", "bench.rig.serve", kind, loop]
        self.port = 0
        self.tcp_port = 0

    def __enter__(self) -> ServerProcess:
        self._process = subprocess.Popen(
            self._command,
            cwd=Path(__file__).resolve().parents[2],
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        ports = json.loads(self._read())
        self.port, self.tcp_port = ports["port"], ports.get("tcp_port", 0)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._process as process:
            assert process.stdin is not None
            process.stdin.close()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()

    def cpu_seconds(self) -> float:
        """Processor time that the server has used so far."""
        return float(self._ask("cpu"))

    def resident_bytes(self) -> int:
        """Memory that the server holds, after a garbage collection."""
        return int(self._ask("memory"))

    def clients(self) -> int:
        """Connections that the server has."""
        return int(self._ask("clients"))

    def forget_peak(self) -> int:
        """Begin to watch for the most memory that the server holds; what it holds now (proc(5), clear_refs)."""
        self._proc("clear_refs").write_text("5")
        return self._status_bytes("VmRSS")

    def peak_bytes(self) -> int:
        """The most memory that the server has held since `forget_peak`."""
        return self._status_bytes("VmHWM")

    def _status_bytes(self, name: str) -> int:
        for line in self._proc("status").read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * 1024
        raise RuntimeError(f"the system does not say {name}: this benchmark needs Linux")

    def _proc(self, name: str) -> Path:
        return Path(f"/proc/{self._process.pid}/{name}")

    def _ask(self, what: str) -> str:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{what}\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the server ended with status {self._process.wait()}: {' '.join(self._command)}")
        return line


def raise_file_limit(files: int) -> int:
    """Let this process, and those it starts, open so many files; returns how many it may open now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = files if hard == resource.RLIM_INFINITY else min(files, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    return files if soft == resource.RLIM_INFINITY else soft
