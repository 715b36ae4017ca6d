"""The game of docs/howto/an-app-with-services.md: its own tests, and a match over real sockets and a real database."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from docs.examples.tictactoe.game import Board
from docs.examples.tictactoe.test_game import (
    test_a_match_is_won,
    test_what_the_rules_forbid,
    test_who_comes_back_plays_on_and_who_does_not_loses,
)
from skyloom_gateway.client import connect

__all__ = [
    "test_a_match_is_won",
    "test_what_the_rules_forbid",
    "test_who_comes_back_plays_on_and_who_does_not_loses",
]

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"


@pytest.mark.real_time
async def test_it_runs_as_the_page_says(tmp_path: Path) -> None:
    database = f"sqlite:///{tmp_path}/wins.db"
    command = [sys.executable, "-m", "skyloom_gateway.cli"]
    words = ["tictactoe.game:app", "--database", database, "--port", "0", "--tcp-port", "off"]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    checked = subprocess.run(  # noqa: ASYNC221 - nothing else is to run meanwhile
        [*command, "check", *words], cwd=EXAMPLES, env=environment, capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stderr
    assert "app tictactoe: 3 routes, 1 push, 2 services" in checked.stdout
    server = subprocess.Popen(  # noqa: ASYNC220 - a real server process is the point, and it starts at once
        [*command, "gateway", *words], cwd=EXAMPLES, env=environment, stdout=subprocess.PIPE, text=True
    )
    try:
        assert server.stdout is not None
        found = re.search(r"http://(127\.0\.0\.1:\d+)", server.stdout.readline())
        assert found is not None
        url = f"ws://{found[1]}/ws"
        async with (
            connect(url, auth={"scheme": "guest", "name": "ada"}) as ada,
            connect(url, auth={"scheme": "guest", "name": "bob"}) as bob,
        ):
            seats = [await client.request("tictactoe.play") for client in (ada, bob)]
            assert seats == [{"playing": False}, {"playing": True}]
            boards = bob.pushes("tictactoe.board")
            for cell in (0, 3, 1, 4, 2):
                await (ada if cell < 3 else bob).request("tictactoe.mark", {"cell": cell})
            ends = [Board.model_validate((await anext(boards)).body) for _ in range(5)]
            assert [board.winner for board in ends] == [None] * 4 + ["ada"]
            assert await bob.request("tictactoe.best") == {"players": [["ada", 1]]}
    finally:
        server.terminate()
        assert server.wait(timeout=20) == 0
        assert server.stdout is not None
        server.stdout.close()
