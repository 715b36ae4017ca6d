"""What the command line refuses, and how it says so."""

from __future__ import annotations

import asyncio
import os
import re
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from skyloom_gateway.auth import Denied, Identity, TicketAuthenticator, TicketKey
from skyloom_gateway.cli import main
from tests.gateway.game import app

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
        (
            ["--set", "gateway.port=1", "--port", "2"],
            {},
            "gateway.port: given both by --port and by --set gateway.port",
        ),
        (["--set", "gateway=1", "--port", "2"], {}, "gateway: got the text '1'"),
        (["--set", "log.level=LOUD"], {}, "(from command line (--set log.level))"),
        (["--port", "9000", "--tcp-port", "9000"], {}, "port and tcp_port are the same"),
        (["--port", "70000"], {}, "gateway.port: got the number 70000 (from command line (--port))"),
        ([], {"SKYLOOM_GATEWAY__PROT": "1"}, "SKYLOOM_GATEWAY__PROT: no such setting; did you mean"),
        (["--config", "no.toml"], {}, "file no.toml: cannot be read"),
        (["no.module:app"], {}, "app 'no.module:app': module 'no.module' cannot be imported"),
        (["chat"], {}, "app 'chat': write it as module:attribute"),
        ([ECHO], {}, "two apps are named 'echo'"),
        (["--set", "gateway.authenticators=tickets"], {}, "each is guest, ticket, jwt or module:object"),
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


def test_check_finds_what_would_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    tls = [part for name in ("certificate", "key") for part in ("--set", f"gateway.tls_{name}=/nowhere.pem")]
    done = CliRunner().invoke(main, ["check", ECHO, *tls])
    assert done.exit_code == 2
    assert "'/nowhere.pem' cannot be read" in done.stderr
    for pages, said in (("nowhere/page", "no package 'nowhere'"), ("tests/nowhere", "no folder 'nowhere'")):
        monkeypatch.setattr(app, "pages", pages)
        done = CliRunner().invoke(main, ["check", ECHO])
        assert done.exit_code == 2
        assert f"app 'echo': pages '{pages}': " in done.stderr
        assert said in done.stderr


def test_a_setting_that_does_not_exist_in_the_file() -> None:
    Path("skyloom.toml").write_text("[gateway]\nportt = 1\n")
    done = CliRunner().invoke(main, ["check", ECHO])
    assert done.exit_code == 2
    assert "gateway.portt: no such setting (from file skyloom.toml); did you mean gateway.port?" in done.stderr


def test_no_command_shows_the_help() -> None:
    done = CliRunner().invoke(main, [])
    assert "gateway" in done.output
    assert "check" in done.output


DOORS = [
    (["--host", "0.0.0.0"], {}, "guest: lets anybody in under any name, and 0.0.0.0 is reached from other machines"),
    (["--set", "gateway.authenticators=ticket"], {}, "ticket.keys or ticket.keys_file: set one of them"),
    ([], {"SKYLOOM_GATEWAY__AUTHENTICATORS": "jwt"}, "jwt.key_files: set it"),
]


@pytest.mark.parametrize(("arguments", "environment", "said"), DOORS)
@pytest.mark.parametrize("command", ["gateway", "check"])
def test_a_door_that_is_not_settled_is_one_line(
    command: str, arguments: list[str], environment: dict[str, str], said: str
) -> None:
    done = CliRunner().invoke(main, [command, ECHO, *arguments], env=environment)
    assert done.exit_code == (1 if command == "gateway" else 2)
    assert done.stderr.startswith(f"skyloom: {said}")
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


def test_guests_from_elsewhere_can_be_allowed() -> None:
    done = CliRunner().invoke(main, ["check", ECHO, "--host", "0.0.0.0", "--allow-guests"])
    assert done.exit_code == 0
    assert re.search(r"^gateway.allow_guests +true +command line \(--allow-guests\)", done.stdout, re.MULTILINE)


KEYS = {"SKYLOOM_TICKET__KEYS": "new:" + "n" * 32 + ",old:" + "o" * 32}


def admit(ticket: str, audience: str = "skyloom") -> Identity:
    key = TicketKey("new", b"n" * 32)
    authenticator = TicketAuthenticator([key], audience, lambda: time.time() + 290)
    return asyncio.run(authenticator.authenticate({"ticket": ticket}, "192.0.2.1:5"))


def test_a_ticket_to_try_out() -> None:
    done = CliRunner().invoke(main, ["ticket", "ada"], env=KEYS)
    assert done.exit_code == 0
    assert admit(done.stdout.strip()) == Identity("ada")
    claims = ["--claim", "role=admin", "--claim", "level=3", "--claim", 'rooms=["a", "b"]', "--claim", "x=a=b"]
    done = CliRunner().invoke(main, ["ticket", "Ada L", "--audience", "game", *claims], env=KEYS)
    wanted = {"role": "admin", "level": 3, "rooms": ["a", "b"], "x": "a=b"}
    assert admit(done.stdout.strip(), "game") == Identity("Ada L", wanted)
    done = CliRunner().invoke(main, ["ticket", "ada", "--ttl", "60"], env=KEYS)
    with pytest.raises(Denied, match="expired"):
        admit(done.stdout.strip())


@pytest.mark.parametrize(
    ("arguments", "environment", "said"),
    [
        (["ada"], {}, "ticket.keys or ticket.keys_file: set one of them"),
        (["ada", "--claim", "admin"], KEYS, "--claim admin: write it as NAME=VALUE"),
        (["ada", "--ttl", "3601"], KEYS, "--ttl 3601: above ticket.lifetime_seconds, 3600"),
        ([" ada"], KEYS, "user must not begin or end with a blank"),
        (["ada", "--claim", "x=" + "y" * 3000], KEYS, "over 3072: give it fewer claims"),
        (["ada", "--set", "tickets.keys=x"], KEYS, "no such setting"),
    ],
)
def test_a_ticket_that_cannot_be_made(arguments: list[str], environment: dict[str, str], said: str) -> None:
    done = CliRunner().invoke(main, ["ticket", *arguments], env=environment)
    assert done.exit_code == 2
    assert done.stderr.startswith("skyloom: ")
    assert said in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("name", "said"), [("ECHOO", "did you mean"), ("NOPE-NOPE", "no service has this name; there are ")]
)
def test_a_recording_of_no_service_is_refused(name: str, said: str) -> None:
    done = CliRunner().invoke(main, ["gateway", ECHO, "--record", f"{name}=x"])
    assert done.exit_code == 2
    assert done.stderr.startswith(f"skyloom: --record {name}=x: no service has this name; ")
    assert said in done.stderr
    assert not Path("x").exists()
