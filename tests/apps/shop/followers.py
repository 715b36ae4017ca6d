"""What stands in the place of agents, and hears what becomes of orders."""

from sqlalchemy import Connection, select

from skyloom import Service, rpc
from skyloom_shop.outbox import Update
from skyloom_shop.relay import Relay
from skyloom_shop.schema import outbox


class Follower(Service):
    """A user's agent: notes what the relay tells."""

    def __init__(self, user: str, heard: list[Update]) -> None:
        self.user = user
        self.heard = heard

    async def on_start(self) -> None:
        await Relay.at(self, "SHOP_RELAY").follow(self.user)

    @rpc
    async def order_updates(self, updates: list[Update]) -> None:
        self.heard.extend(updates)


def told(connection: Connection) -> set[Update]:
    """All that users are to hear."""
    return {Update(row.user_name, row.order_id, row.status, row.version) for row in connection.execute(select(outbox))}
