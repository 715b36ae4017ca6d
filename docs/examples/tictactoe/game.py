"""Tic-tac-toe: whoever asks for a match is given the next one who does, and both see each move.

skyloom gateway tictactoe.game:app
"""

from dataclasses import dataclass
from typing import Annotated

from pydantic import BaseModel, Field

from skyloom import Address, Failed, Service, rpc
from skyloom_gateway import Agent, App, ClientRef, Push, fan_out, request

from .wins import Wins

LINES = ((0, 1, 2), (3, 4, 5), (6, 7, 8), (0, 3, 6), (1, 4, 7), (2, 5, 8), (0, 4, 8), (2, 4, 6))


# -- what travels between client and server --------------------------------------------------------------------


class Seat(BaseModel):
    """Whether the match has begun, or another player is waited for."""

    playing: bool


class Mark(BaseModel):
    """Where to put one's mark: 0 is the upper left cell, 8 the lower right."""

    cell: Annotated[int, Field(ge=0, le=8)]


class Best(BaseModel):
    """Who has won most often, and how often."""

    players: list[tuple[str, int]]


class Board(Push, route="tictactoe.board"):
    """The match as it stands, sent to both players after each move; `winner` is "" for a draw."""

    players: tuple[str, str]
    cells: str
    turn: str
    winner: str | None = None


class NotYourTurn(Failed, code="tictactoe.not_your_turn", kind="failed_precondition"):
    """It is the other player's turn, or there is no match."""


class CellTaken(Failed, code="tictactoe.cell_taken", kind="failed_precondition"):
    """There is a mark in this cell already."""


# -- the service that knows all matches ------------------------------------------------------------------------


@dataclass
class Player:
    """One seat of a match. The agent's address says who asks, the ClientRef where pushes go."""

    agent: Address
    user: str
    client: ClientRef


class Match:
    """Two players, x and o, and nine cells."""

    def __init__(self, x: Player, o: Player) -> None:
        self.players = (x, o)
        self.cells = "." * 9

    @property
    def turn(self) -> Player:
        return self.players[(9 - self.cells.count(".")) % 2]

    def mark(self, cell: int) -> None:
        self.cells = self.cells[:cell] + "xo"[self.players.index(self.turn)] + self.cells[cell + 1 :]

    def winner(self) -> str | None:
        for a, b, c in LINES:
            if self.cells[a] == self.cells[b] == self.cells[c] != ".":
                return self.players["xo".index(self.cells[a])].user
        return None if "." in self.cells else ""


class Lobby(Service):
    """All matches. Its handlers interleave only where they await, so what lies between needs no lock."""

    name = "LOBBY"

    async def on_start(self) -> None:
        self.waiting: Player | None = None
        self.matches: dict[Address, Match] = {}

    @rpc
    async def play(self, user: str, client: ClientRef) -> bool:
        """Give the calling agent's client a match; False while it waits for another player."""
        me = Player(self.request.source, user, client)
        if me.agent in self.matches:
            return True
        if self.waiting is None or self.waiting.agent == me.agent:
            self.waiting = me
            self.monitor(me.agent)
            return False
        match, self.waiting = Match(self.waiting, me), None
        for player in match.players:
            self.matches[player.agent] = match
        self.monitor(me.agent)
        self.show(match, None)
        return True

    @rpc
    async def mark(self, cell: int) -> None:
        """Put the calling agent's mark into a cell. Raises NotYourTurn, CellTaken."""
        match = self.matches.get(self.request.source)
        if match is None or match.turn.agent != self.request.source:
            raise NotYourTurn("wait for the other player" if match else "ask for a match first")
        if match.cells[cell] != ".":
            raise CellTaken(f"cell {cell} has a mark already")
        match.mark(cell)
        winner = match.winner()
        if winner is not None:
            await self.end(match, winner)
        else:
            self.show(match, None)

    async def on_down(self, address: Address, how: str) -> None:
        """An agent that `monitor` watches has ended, because its client left for good: the other player wins."""
        if self.waiting is not None and self.waiting.agent == address:
            self.waiting = None
        match = self.matches.get(address)
        if match is not None:
            (other,) = (player for player in match.players if player.agent != address)
            await self.end(match, other.user)

    async def end(self, match: Match, winner: str) -> None:
        for player in match.players:  # before anything is awaited: from here on nobody finds this match
            del self.matches[player.agent]
            self.unmonitor(player.agent)
        self.show(match, winner)
        if winner:
            await Wins.at(self, "WINS").add(winner)

    def show(self, match: Match, winner: str | None) -> None:
        x, o = match.players
        fan_out(
            self,
            [x.client, o.client],
            Board(players=(x.user, o.user), cells=match.cells, turn=match.turn.user, winner=winner),
        )


# -- the agent: one for each client ----------------------------------------------------------------------------


class TicTacToeAgent(Agent):
    """What clients may ask, checked and passed on."""

    @request("tictactoe.play")
    async def play(self) -> Seat:
        return Seat(playing=await Lobby.at(self, "LOBBY").play(self.user, self.client))

    @request("tictactoe.mark", errors=[NotYourTurn, CellTaken])
    async def mark(self, body: Mark) -> None:
        await Lobby.at(self, "LOBBY").mark(body.cell)

    @request("tictactoe.best")
    async def best(self) -> Best:
        return Best(players=await Wins.at(self, "WINS").best(10))


def make_app(wins: type[Wins] = Wins) -> App:
    """The app, perhaps with another way to keep who won: tests give their own."""
    return App("tictactoe", agent=TicTacToeAgent, services=[wins, Lobby], pushes=[Board])


app = make_app()
