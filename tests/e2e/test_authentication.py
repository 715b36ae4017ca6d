"""Tickets, from the command line to the agent, through a server of its own process."""

from __future__ import annotations

from pathlib import Path

import pytest

from skyloom_gateway.client import HelloRefused, connect
from tests.e2e.game import ECHO, Game, skyloom

pytestmark = pytest.mark.real_time
SECRET = "sesame" * 6


@pytest.fixture
def keys(tmp_path: Path) -> str:
    file = tmp_path / "keys"
    file.write_text(f"new:{SECRET}\n")
    return f"ticket.keys_file={file}"


def ticket(keys: str, *arguments: str) -> str:
    done = skyloom("ticket", "ada", "--set", keys, *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.strip()


async def test_a_ticket_opens_the_door_once(keys: str, tmp_path: Path) -> None:
    arguments = ["--set", keys, "--set", "gateway.authenticators=ticket", "--set", "log.level=debug"]
    tickets = [ticket(keys) for _ in range(2)]
    strange = ticket(keys, "--audience", "elsewhere")
    with Game(tmp_path / "log", *arguments) as game:
        urls = (f"ws://127.0.0.1:{game.ports[0]}/ws", f"tcp://127.0.0.1:{game.ports[1]}")
        for url, each in zip(urls, tickets, strict=True):
            async with connect(url, auth={"scheme": "ticket", "ticket": each}) as client:
                assert await client.request("echo.say", {"text": "hi"}) == {"text": "hi"}
        wrong: list[dict[str, str]] = [
            {"scheme": "ticket", "ticket": tickets[0]},
            {"scheme": "ticket", "ticket": strange},
            {"scheme": "guest", "name": "ada"},
        ]
        said = []
        for auth in wrong:
            with pytest.raises(HelloRefused) as caught:
                await connect(urls[0], auth=auth)
            assert (caught.value.code, caught.value.close_code) == ("gateway.unauthenticated", 4401)
            said.append(caught.value.message)
        assert said == [
            "the ticket was used before; get a new one",
            "the ticket is not valid; get a new one",
            "auth.scheme is not one of this server's; on offer: ticket",
        ]
        log = game.log
    assert "the ticket is for another audience" in log
    assert "for development only" not in log
    for secret in (SECRET, *(each.rpartition(".")[2] for each in (*tickets, strange))):
        assert secret not in log


def test_check_shows_no_key(keys: str) -> None:
    arguments = ["--set", keys, "--set", "gateway.authenticators=ticket"]
    done = skyloom("check", ECHO, *arguments)
    assert done.returncode == 0
    assert "gateway.authenticators" in done.stdout
    done = skyloom("check", ECHO, "--set", "gateway.authenticators=ticket", SKYLOOM_TICKET__KEYS=f"a:{SECRET}")
    assert done.returncode == 0
    assert "SKYLOOM_TICKET__KEYS" in done.stdout
    assert "sesame" not in done.stdout
