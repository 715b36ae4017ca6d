"""What the command line refuses, and how it says so."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from skyloom_gateway.cli import main

ECHO = "tests.gateway.game:app"


@pytest.fixture(autouse=True)
def empty_surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in os.environ:
        if name.startswith("SKYLOOM_"):
            monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ("arguments", "environment", "said"),
    [
        (
            ["--set", "gateway.prot=1"],
            {},
            "gateway.prot: no such setting (from command line); did you mean gateway.port?",
        ),
        (["--set", "gateway.port"], {}, "--set gateway.port: write it as NAME=VALUE"),
        (["--set", "gateway.port.x=1"], {}, "port is a setting, not a section"),
        (["--port", "70000"], {}, "gateway.port: got the number 70000 (from command line (--port))"),
        ([], {"SKYLOOM_GATEWAY__PROT": "1"}, "SKYLOOM_GATEWAY__PROT: no such setting; did you mean"),
        (["--config", "no.toml"], {}, "file no.toml: cannot be read"),
        (["no.module:app"], {}, "app 'no.module:app': module 'no.module' cannot be imported"),
        (["chat"], {}, "app 'chat': write it as module:attribute"),
        ([ECHO], {}, "two apps are named 'echo'"),
    ],
)
@pytest.mark.parametrize("command", ["gateway", "check"])
def test_what_is_wrong_is_said_in_words(
    command: str, arguments: list[str], environment: dict[str, str], said: str
) -> None:
    done = CliRunner().invoke(main, [command, ECHO, *arguments], env=environment)
    assert done.exit_code == 2
    assert said in done.stderr
    assert done.stderr.startswith("skyloom: ")
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_a_setting_that_does_not_exist_in_the_file() -> None:
    Path("skyloom.toml").write_text("[gateway]\nportt = 1\n")
    done = CliRunner().invoke(main, ["check", ECHO])
    assert done.exit_code == 2
    assert "gateway.portt: no such setting (from file skyloom.toml); did you mean gateway.port?" in done.stderr


def test_no_command_shows_the_help() -> None:
    done = CliRunner().invoke(main, [])
    assert "gateway" in done.output
    assert "check" in done.output
