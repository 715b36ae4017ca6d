"""People in a chat room who may be anywhere in a cluster, what they say there and what they hear."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from time import monotonic
from typing import Any

from skyloom_gateway.client import Client, RequestFailed
from tests.e2e.server_process import GatewayProcess

HEAR_SECONDS = 20.0
PAUSE_SECONDS = 0.02
# What a client may be told while the services move.
AWAY = {"gateway.unavailable", "gateway.outcome_unknown", "gateway.deadline_exceeded"}

Heard = tuple[str, str, int]  # route, user, message


class Person:
    """Somebody in a room; its stream of pushes begins with the join."""

    def __init__(self, client: Client, room: str) -> None:
        self.client = client
        self.room = room
        self.heard: list[Heard] = []
        self.missed: set[int] = set()
        """Messages that were stored when it was told that it may have missed some."""
        self.said: dict[int, str] = {}
        self.failed: set[str] = set()
        self.codes: set[str] = set()
        self.silence = 0.0
        """The longest time in which nothing that it said was answered, in seconds."""
        self._is_over = False
        self._talking: asyncio.Task[None] | None = None
        self._news = asyncio.Event()
        for route in ("chat.message", "chat.joined", "chat.left"):
            client.on(route, self._hear)
        client.on("chat.returned", self._catch_up)

    @classmethod
    async def enter(cls, gateway: GatewayProcess, name: str, room: str, *, tcp: bool = False) -> Person:
        person = cls(await gateway.client(name, tcp=tcp), room)
        await person.members()
        return person

    def _hear(self, push: Any) -> None:
        self.heard.append((push.route, push.body["user"], push.body.get("id", 0)))
        self._news.set()

    async def knows(self, stored: Mapping[int, str]) -> None:
        """Wait until it has heard of these messages, or looked them up; of others it must not have."""
        async with asyncio.timeout(HEAR_SECONDS):
            while not stored.keys() <= {*self.ids} | self.missed:
                self._news.clear()
                await self._news.wait()
        assert {*self.ids} | self.missed == stored.keys()

    async def _catch_up(self, push: Any) -> None:
        """Look up what was missed, as the page does."""
        self.missed |= {*await self.stored()}
        self._news.set()

    async def hears(self, *what: tuple[str, str]) -> None:
        """Wait until each of these, a route and a user, has been heard."""
        async with asyncio.timeout(HEAR_SECONDS):
            while not {*what} <= {(route, user) for route, user, _ in self.heard}:
                self._news.clear()
                await self._news.wait()

    @property
    def ids(self) -> list[int]:
        """The messages that it has heard."""
        return [id for route, _, id in self.heard if route == "chat.message"]

    @property
    def moves(self) -> list[tuple[str, str]]:
        """Who came and went."""
        return [(route, user) for route, user, _ in self.heard if route != "chat.message"]

    async def count(self) -> int:
        """How many are in the room, without entering it."""
        rooms = (await self.client.request("chat.rooms"))["rooms"]
        (count,) = [room["members"] for room in rooms if room["room"] == self.room]
        return int(count)

    async def members(self) -> list[str]:
        """Who is in the room."""
        joined = await self.client.request("chat.join", {"room": self.room})
        return sorted(joined["members"])

    async def stored(self) -> dict[int, str]:
        """What was said in the room, each once."""
        page = await self.client.request("chat.history", {"room": self.room, "limit": 1000})
        stored = {message["id"]: message["text"] for message in page["messages"]}
        assert len(set(stored.values())) == len(stored) == len(page["messages"])
        return stored

    async def say(self, text: str) -> bool:
        """Say it once: whether it was answered."""
        try:
            said = await self.client.request("chat.say", {"room": self.room, "text": text})
        except RequestFailed as failed:
            self.codes.add(failed.code)
            self.failed.add(text)
            return False
        self.said[said["id"]] = text
        return True

    async def is_answered(self, text: str) -> None:
        """Say it, each time in other words, until it is answered."""
        tries = 0
        async with asyncio.timeout(HEAR_SECONDS):
            while not await self.say(f"{text} {tries}"):
                tries += 1
                await asyncio.sleep(PAUSE_SECONDS)

    def talk(self, text: str) -> None:
        """Speak until `hush`."""
        self._is_over = False
        self._talking = asyncio.create_task(self._talk(text))

    async def _talk(self, text: str) -> None:
        last, count = monotonic(), 0
        while not self._is_over:
            if await self.say(f"{text}-{count}"):
                self.silence = max(self.silence, monotonic() - last)
                last = monotonic()
            count += 1
            await asyncio.sleep(PAUSE_SECONDS)

    async def hush(self) -> None:
        self._is_over = True
        if self._talking is not None:
            await self._talking


async def make_room(gateway: GatewayProcess, room: str) -> None:
    client = await gateway.client("maker")
    await client.request("chat.create_room", {"room": room})
    await client.close()
