"""The chat in miniature: a hub with rooms, members, broadcasts that leave the sender out, and a history."""

import asyncio
from collections import deque
from dataclasses import dataclass, field

from skyloom import Address, Failed, Node, Service, rpc

CHAT = ("chat", 25)
HISTORY_MESSAGES_MAX = 1_000


class NotAMember(Failed, code="example.not_a_member", kind="failed_precondition"):
    """Only who is in a room may speak there."""


@dataclass
class Room:
    """Who is in, by address, and what was said."""

    members: dict[Address, str] = field(default_factory=dict)
    history: deque[str] = field(default_factory=lambda: deque(maxlen=HISTORY_MESSAGES_MAX))


class Hub(Service):
    """All rooms. They are entered by calls; what is said travels as "chat" messages."""

    name = "CHAT_HUB"

    async def on_start(self) -> None:
        self.rooms: dict[str, Room] = {}
        self.register_protocol(*CHAT)
        self.dispatch("chat", self.on_chat)

    @rpc
    async def join(self, name: str, user: str) -> list[str]:
        room, member = self.rooms.setdefault(name, Room()), self.request.source
        room.members[member] = user  # known by its address, so that nobody speaks for another
        self.monitor(member)  # whoever ends has left
        self.tell_others(room, member, f"{user} comes in")
        return list(room.history)

    async def on_chat(self, session: int, source: Address, name: str, text: str) -> bool:
        room = self.rooms.get(name)
        if room is None or source not in room.members:
            raise NotAMember(f"join room {name!r} before you speak there")
        room.history.append(f"{room.members[source]}: {text}")
        self.tell_others(room, source, room.history[-1])
        return True

    async def on_down(self, address: Address, how: str) -> None:
        for room in self.rooms.values():
            if (user := room.members.pop(address, None)) is not None:
                self.tell_others(room, address, f"{user} has left")

    def tell_others(self, room: Room, sender: Address, text: str) -> None:
        for member in room.members:
            if member != sender:
                self.send(member, "chat", text)


class Member(Service):
    """One user. In the real chat this is the agent, and what it is told goes to its client."""

    def __init__(self, user: str) -> None:
        self.user = user

    async def on_start(self) -> None:
        self.register_protocol(*CHAT)
        self.dispatch("chat", self.on_chat)
        print(f"{self.user} finds {await Hub.at(self, 'CHAT_HUB').join('lobby', self.user)}")

    @rpc
    async def say(self, room: str, text: str) -> None:
        try:
            await self.call("CHAT_HUB", "chat", room, text)
        except NotAMember as error:
            print(f"{self.user} is told: {error.message}")

    async def on_chat(self, session: int, source: Address, text: str) -> None:
        print(f"{self.user} hears: {text}")


async def main() -> None:
    async with Node("example") as node:
        await node.spawn(Hub)
        ada, bob = await node.spawn(Member, "ada"), await node.spawn(Member, "bob")
        await node.call(ada, "lua", "say", "lobby", "hello")
        await node.call(bob, "lua", "say", "attic", "hi")
        await node.spawn(Member, "eve")
        node.kill(bob)
        await node.root.sleep(0.01)


if __name__ == "__main__":
    asyncio.run(main())
