"""The apps that the benchmarks serve: an echo, and a chat room whose hub keeps nothing on disk."""

from __future__ import annotations

import time
from typing import Annotated

from pydantic import BaseModel, Field

from skyloom import Address, Service, rpc
from skyloom_gateway import Agent, App, ClientRef, Push, fan_out, request

HUB_WAIT_SECONDS = 5.0


class Words(BaseModel):
    """What the echo takes and gives back."""

    text: Annotated[str, Field(min_length=1, max_length=32_000)]


class EchoAgent(Agent):
    """Answers with what it was told."""

    @request("echo.say")
    async def say(self, body: Words) -> Words:
        return Words(text=body.text)


class Said(BaseModel):
    """Answer to room.say."""

    id: int
    time: float


class Entered(BaseModel):
    """Answer to room.enter."""

    members: int


class Message(Push, route="room.message"):
    """Push: somebody else said something. The fields are those of the real chat's."""

    id: int
    room: str
    user: str
    text: str
    time: float


class RoomHub(Service):
    """One room. As the chat's hub: members by their agents' addresses, `fan_out` to the others."""

    name = "ROOM_HUB"
    mailbox_messages_max = 10_000

    def __init__(self) -> None:
        self._members: dict[Address, tuple[str, ClientRef]] = {}
        self._last_id = 0

    @rpc
    async def enter(self, user: str, client: ClientRef) -> Entered:
        self._members[self.request.source] = (user, client)
        return Entered(members=len(self._members))

    @rpc
    async def say(self, text: str) -> Said:
        agent = self.request.source
        user, _ = self._members[agent]
        self._last_id += 1
        said = Said(id=self._last_id, time=time.time())
        others = [client for address, (_, client) in self._members.items() if address != agent]
        fan_out(self, others, Message(id=said.id, room="den", user=user, text=text, time=said.time))
        return said


class RoomAgent(Agent):
    """One client of the room."""

    async def on_start(self) -> None:
        self._hub = RoomHub.at(self, await self.query("ROOM_HUB", wait=HUB_WAIT_SECONDS))

    @request("room.enter")
    async def enter(self) -> Entered:
        return await self._hub.enter(self.user, self.client)

    @request("room.say")
    async def say(self, body: Words) -> Said:
        return await self._hub.say(body.text)


echo = App("echo", agent=EchoAgent)
room = App("room", agent=RoomAgent, services=[RoomHub], pushes=[Message])
