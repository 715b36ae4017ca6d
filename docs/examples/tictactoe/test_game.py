"""Matches as their players see them, in memory and in virtual time.

pytest tictactoe --seeds 100
"""

import pytest

from skyloom.sql import Database
from skyloom.sql.inline import Disk, InlineDatabase
from skyloom.testing import Sim
from skyloom_gateway.client import RequestFailed
from skyloom_gateway.testing import BY_HAND, Player, TestGateway

from .game import Board, make_app
from .migrations import MIGRATIONS
from .wins import Wins


class WinsInMemory(Wins):
    """The same SQL on a database without threads, so that a run repeats from its seed."""

    async def open_database(self) -> Database:
        return InlineDatabase(Disk(MIGRATIONS))


app = make_app(WinsInMemory)


async def play(*moves: tuple[Player, int]) -> None:
    for player, cell in moves:
        await player.request("tictactoe.mark", {"cell": cell})


async def test_a_match_is_won(sim: Sim) -> None:
    async with TestGateway(sim, app) as gateway:
        ada, bob = await gateway.connect("ada"), await gateway.connect("bob", kind="tcp")
        assert await ada.request("tictactoe.play") == {"playing": False}
        assert await bob.request("tictactoe.play") == {"playing": True}
        assert (await ada.expect_push(Board)).turn == "ada"
        await play((ada, 0), (bob, 3), (ada, 1), (bob, 4), (ada, 2))
        for player in (ada, bob):
            end = await player.expect_push(Board, where=lambda board: board.winner is not None)
            assert (end.cells, end.winner) == ("xxxoo....", "ada")
        assert await bob.request("tictactoe.best") == {"players": [["ada", 1]]}


async def test_what_the_rules_forbid(sim: Sim) -> None:
    async with TestGateway(sim, app) as gateway:
        ada, bob = await gateway.connect("ada"), await gateway.connect("bob")
        with pytest.raises(RequestFailed, match="ask for a match first"):
            await play((ada, 0))
        await ada.request("tictactoe.play")
        await bob.request("tictactoe.play")
        with pytest.raises(RequestFailed, match="wait for the other player"):
            await play((bob, 0))
        with pytest.raises(RequestFailed, match="cell 0 has a mark already"):
            await play((ada, 0), (bob, 0))
        with pytest.raises(RequestFailed, match="invalid_body"):
            await play((bob, 9))


async def test_who_comes_back_plays_on_and_who_does_not_loses(sim: Sim) -> None:
    async with TestGateway(sim, app) as gateway:
        ada, bob = await gateway.connect("ada", reconnect=BY_HAND), await gateway.connect("bob")
        await ada.request("tictactoe.play")
        await bob.request("tictactoe.play")
        ada.cut()  # as if the cable were pulled
        await sim.advance(50)
        assert await ada.resume()  # within `gateway.resume_seconds`: the same session, and no push is lost
        await play((ada, 4), (bob, 0))
        assert (await ada.expect_push(Board, where=lambda board: "o" in board.cells)).cells == "o...x...."
        ada.cut()
        end = await bob.expect_push(Board, where=lambda board: board.winner is not None, timeout=70)
        assert end.winner == "bob"
