"""The server's services come back after a crash; one that cannot come back ends it, with a status and a line."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from skyloom import Service
from skyloom_gateway import Agent, App, request
from skyloom_gateway.server import Server
from skyloom_gateway.settings import Settings

ROOT = Path(__file__).resolve().parents[2]


class Stock(Service):
    name = "STOCK"


class Plain(Agent):
    @request("plain.nothing")
    async def nothing(self) -> None: ...


class Other(Agent):
    @request("other.nothing")
    async def nothing(self) -> None: ...


def settings() -> Settings:
    return Settings.load({"gateway": {"port": 0, "tcp_port": "off", "drain_seconds": 1.0}}, None)


@pytest.mark.real_time
async def test_a_service_that_crashed_comes_back_under_its_name() -> None:
    apps = [App("plain", agent=Plain, services=[Stock]), App("other", agent=Other, services=[Stock])]
    with capture_logs():
        async with Server(apps, settings()) as server:
            first = await server.node.query("STOCK")
            server.node.kill(first)
            assert await server.node.query("STOCK", wait=2) != first
            assert server.node.failure is None


@pytest.mark.real_time
async def test_the_end_of_the_gate_is_the_end_of_the_server() -> None:
    with capture_logs():
        async with Server([App("plain", agent=Plain)], settings()) as server:
            server.node.kill(server.gate.address)
            async with asyncio.timeout(5):
                assert "child GATE" in await server.failed()


CRASHING = """
from skyloom import Service
from skyloom_gateway import Agent, App, request

class Bomb(Service):
    name = "BOMB"

    async def on_start(self) -> None:
        self.timeout(0.01, self.go_off)

    async def go_off(self) -> None:
        self.crash("it went off")

class Nobody(Agent):
    @request("bomb.nothing")
    async def nothing(self) -> None: ...

app = App("bomb", agent=Nobody, services=[Bomb])
"""


@pytest.mark.real_time
def test_the_command_ends_with_a_status_and_a_clear_last_line(tmp_path: Path) -> None:
    (tmp_path / "crashing.py").write_text(CRASHING, encoding="utf-8")
    paths = [str(ROOT / "core"), str(ROOT / "gateway")]
    done = subprocess.run(
        [sys.executable, "-m", "skyloom_gateway.cli", "gateway", "crashing:app", "--port", "0", "--tcp-port", "off"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        timeout=40,
        check=False,
    )
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("skyloom: node node-1 cannot go on: ")
    assert last.endswith("child BOMB, after 3 restarts in 5 s, crashed: it went off")
