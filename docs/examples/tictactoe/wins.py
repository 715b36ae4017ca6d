"""WINS: who has won how often, in SQL."""

from collections.abc import Mapping, Sequence

from sqlalchemy import Connection, text

from skyloom import Service, rpc
from skyloom.sql import Database

from .migrations import MIGRATIONS

ADD = text("INSERT INTO wins VALUES (:player, 1) ON CONFLICT (player) DO UPDATE SET won = wins.won + 1")
BEST = text("SELECT player, won FROM wins ORDER BY won DESC, player LIMIT :most")


class Wins(Service):
    """Keeps them in the database that the setting `database` names."""

    name = "WINS"

    @classmethod
    def on_check(cls, env: Mapping[str, str]) -> None:
        Database.check(env["database_url"])

    async def on_start(self) -> None:
        self.database = await self.open_database()
        self.fork(self.database.run(), critical=True)

    async def open_database(self) -> Database:
        return await Database.open(self.node.env["database_url"], MIGRATIONS)

    async def on_stop(self) -> None:
        await self.database.close()

    @rpc
    async def add(self, player: str) -> None:
        """One more for a player; it is stored when this returns."""
        await self.database.write(add_wins, [player])

    @rpc
    async def best(self, most: int) -> list[tuple[str, int]]:
        """Those with the most wins, and how many."""
        return await self.database.read(read_best, most)


def add_wins(connection: Connection, players: Sequence[str]) -> list[None]:
    """Those of all matches that ended at the same time, in one transaction; one answer for each."""
    connection.execute(ADD, [{"player": player} for player in players])
    return [None] * len(players)


def read_best(connection: Connection, most: int) -> list[tuple[str, int]]:
    """Tuples are values that can be sent; rows of a database are not."""
    return [(row.player, row.won) for row in connection.execute(BEST, {"most": most})]
