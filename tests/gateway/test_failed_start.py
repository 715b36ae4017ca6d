"""What the operator reads when a service does not start: one line, and a traceback only where it is a puzzle."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from typer.testing import CliRunner

from skyloom import CannotStart, Service
from skyloom.supervision.child import permanent
from skyloom.supervision.supervisor import Supervisor
from skyloom_gateway import Agent, App
from skyloom_gateway.cli import main

ROOT = Path(__file__).parents[2]


class Nobody(Agent):
    pass


class Puzzle(Service):
    name = "PUZZLE"

    async def on_start(self) -> None:
        raise KeyError("table")


class Explained(Service):
    name = "EXPLAINED"

    async def on_start(self) -> None:
        raise CannotStart("the level file is not there: name it in LEVELS")


class Slow(Service):
    name = "SLOW"
    start_seconds = 0.01

    async def on_start(self) -> None:
        await self.sleep(60)


class Checked(Service):
    name = "CHECKED"

    @classmethod
    def on_check(cls, env: Mapping[str, str]) -> None:
        raise CannotStart(f"no {env['database_url']} today")


class Deep(Supervisor):
    name = "DEEP"
    children = (permanent(Checked),)


puzzle = App("puzzle", agent=Nobody, services=[Puzzle])
explained = App("explained", agent=Nobody, services=[Explained])
slow = App("slow", agent=Nobody, services=[Slow])
checked = App("checked", agent=Nobody, services=[Checked])
deep = App("deep", agent=Nobody, services=[Deep])


def gateway(app: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own, as its log is for the whole process and for good."""
    command = [sys.executable, "-m", "skyloom_gateway.cli", "gateway", f"{__name__}:{app}"]
    return subprocess.run(
        [*command, "--port", "0", "--tcp-port", "off"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=40,
        check=False,
    )


@pytest.mark.real_time
@pytest.mark.parametrize(
    ("app", "said", "cause"),
    [
        ("puzzle", "Puzzle:00000004@node-1 did not start: KeyError: 'table'", "KeyError: 'table'"),
        (
            "slow",
            "Slow:00000004@node-1 did not start: TimeoutError: on_start took longer than its start_seconds, 0.01",
            "self.sleep(60)",
        ),
    ],
)
def test_a_puzzle_has_one_line_and_one_traceback(app: str, said: str, cause: str) -> None:
    done = gateway(app)
    assert done.returncode == 1
    logged, last = done.stderr.splitlines()
    assert last == f"skyloom: {said}"
    line = json.loads(logged)
    assert line["event"] == "service did not start"
    assert cause in line["exception"]
    assert done.stdout == ""


@pytest.mark.real_time
def test_what_explains_itself_is_one_line() -> None:
    done = gateway("explained")
    assert done.returncode == 1
    assert done.stderr == (
        "skyloom: Explained:00000004@node-1 did not start: the level file is not there: name it in LEVELS\n"
    )


@pytest.mark.parametrize(("app", "service"), [("checked", "CHECKED"), ("deep", "DEEP")])
def test_check_asks_each_service(app: str, service: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(main, ["check", f"{__name__}:{app}", "--database", "sqlite:///x.db"])
    assert done.exit_code == 2
    assert done.stderr == f"skyloom: app {app!r}: {service} cannot start: no sqlite:///x.db today\n"


@pytest.mark.real_time
def test_a_gateway_asks_before_it_starts_any() -> None:
    done = gateway("checked")
    assert done.returncode == 1
    assert done.stderr == "skyloom: app 'checked': CHECKED cannot start: no sqlite:///skyloom.db today\n"
