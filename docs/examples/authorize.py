"""Routes that say who may call them."""

import asyncio
import time

from pydantic import BaseModel

from skyloom_gateway import Agent, App, Server, Settings, request
from skyloom_gateway.agent import Route
from skyloom_gateway.auth import TicketAuthenticator, TicketKey, issue_ticket
from skyloom_gateway.client import RequestFailed, connect
from skyloom_gateway.settings import GatewaySettings


class Room(BaseModel):
    room: str


class RoomAgent(Agent):
    def is_admin(self) -> bool:
        return "admin" in self.claims.get("roles", [])

    @request("room.close", allow=is_admin)
    async def close(self, body: Room) -> None:
        """Close a room."""

    async def on_authorize(self, route: Route) -> bool:
        return not self.claims.get("muted") and await super().on_authorize(route)


app = App("room", agent=RoomAgent)
KEY = TicketKey("2026-11", b"of 32 bytes or more, from a file that only you can read")


async def main() -> None:
    settings = Settings(gateway=GatewaySettings(port=0, tcp_port=None))
    async with Server([app], settings, [TicketAuthenticator([KEY], "skyloom", time.time)]) as server:
        for user, claims in (
            ("ada", {"roles": ["admin"]}),
            ("bob", {}),
            ("eve", {"roles": ["admin"], "muted": True}),
        ):
            ticket = issue_ticket(KEY, user, audience="skyloom", expires_at=time.time() + 60, claims=claims)
            auth = {"scheme": "ticket", "ticket": ticket}
            async with connect(f"ws://127.0.0.1:{server.port}/ws", auth=auth) as client:
                try:
                    await client.request("room.close", {"room": "lobby"})
                    print(user, "closed the lobby")
                except RequestFailed as failed:
                    print(user, failed.code)


if __name__ == "__main__":
    asyncio.run(main())
