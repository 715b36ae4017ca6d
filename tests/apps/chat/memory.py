"""The chat in memory: a history without a database, a gate without connections, and clients without a network."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgpack

from skyloom import Address, Failed, Node, Service
from skyloom.sql import DatabaseError
from skyloom_chat.agent import ChatAgent
from skyloom_chat.history import History
from skyloom_chat.hub import ChatHub
from skyloom_chat.messages import Message
from skyloom_gateway import ClientRef
from skyloom_gateway.wire import CODECS

MSGPACK = next(codec for codec in CODECS.values() if codec.name == "msgpack")
SETTLE_SECONDS = 0.5  # virtual

Pause = Callable[[], float]


class MemoryHistory(History):
    """Commits in batches and answers in order, as the real one does, with pauses at every place where that one waits.

    A message can be read as soon as it is committed, which is before its sender learns of it.
    """

    def __init__(self, pause: Pause = lambda: 0.0) -> None:
        self.pause = pause
        self.names: list[str] = []
        self.messages: list[Message] = []
        self.failure: DatabaseError | None = None
        self.reads = 0
        self._queue: deque[tuple[str, tuple[Any, ...], asyncio.Future[Any]]] = deque()
        self._wanted = asyncio.Event()

    async def create_room(self, room: str) -> bool:
        return bool(await self._enqueue("room", room))

    async def append(self, room: str, user: str, text: str, time: float) -> int:
        return int(await self._enqueue("message", room, user, text, time))

    async def rooms(self) -> list[str]:
        return list(self.names)

    async def last(self, room: str, limit: int) -> list[Message]:
        return await self._page_of(room, 2**63, limit)

    async def before(self, room: str, id: int, limit: int) -> list[Message]:
        return await self._page_of(room, id, limit)

    async def run(self) -> None:
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            batch = list(self._queue)
            self._queue.clear()
            await asyncio.sleep(self.pause())
            answers = [self.commit(*args) for _, args, _ in batch]
            await asyncio.sleep(self.pause())
            for (_, _, future), answer in zip(batch, answers, strict=True):
                if not future.done():
                    future.set_result(answer)

    async def close(self) -> None:
        pass

    def _enqueue(self, *job: Any) -> asyncio.Future[Any]:
        if self.failure is not None:
            raise self.failure
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._queue.append((job[0], job[1:], future))
        self._wanted.set()
        return future

    def commit(self, room: str, *message: Any) -> object:
        if not message:
            is_new = room not in self.names
            self.names.append(room)
            return is_new
        user, text, time = message
        self.messages.append(Message(id=len(self.messages) + 1, room=room, user=user, text=text, time=time))
        return len(self.messages)

    async def _page_of(self, room: str, before: int, limit: int) -> list[Message]:
        self.reads += 1
        if self.failure is not None:
            raise self.failure
        await asyncio.sleep(self.pause())
        page = [message for message in self.messages if message.room == room and message.id < before][-limit:]
        await asyncio.sleep(self.pause())
        return page


class MemoryHub(ChatHub):
    """The hub on a history that the test holds."""

    def __init__(self, history: MemoryHistory) -> None:
        self._given = history

    async def open_history(self) -> History:
        return self._given


class MemoryGate(Service):
    """Takes the place of the gate: keeps what is pushed, by session."""

    async def on_start(self) -> None:
        self.pushed: dict[str, list[tuple[str, dict[str, Any]]]] = {}
        self.dispatch("client", self._on_client)

    async def _on_client(
        self,
        session: int,
        source: Address,
        route: str,
        as_json: bytes | None,
        as_msgpack: bytes | None,
        sessions: tuple[str, ...],
    ) -> None:
        body = msgpack.unpackb(as_msgpack)
        for name in sessions:
            self.pushed.setdefault(name, []).append((route, body))


class Talker:
    """One client: asks its agent, and sees its pushes."""

    def __init__(self, chat: Chat, agent: Address, session: str, user: str) -> None:
        self.chat = chat
        self.agent = agent
        self.session = session
        self.user = user

    @property
    def pushes(self) -> list[tuple[str, dict[str, Any]]]:
        return self.chat.gate.pushed.setdefault(self.session, [])

    def pushed(self, route: str) -> list[dict[str, Any]]:
        return [body for name, body in self.pushes if name == route]

    async def ask(self, route: str, **body: object) -> Any:
        answer = await self.chat.gate.call(self.agent, "client", route, MSGPACK.encode_body(body))
        return msgpack.unpackb(answer)

    async def code(self, route: str, **body: object) -> str:
        """The code of the error that this is answered with; "" for none."""
        try:
            await self.ask(route, **body)
        except Failed as failed:
            return failed.code
        return ""

    async def failure(self, route: str, **body: object) -> Failed:
        """The error that this is answered with."""
        try:
            await self.ask(route, **body)
        except Failed as failed:
            return failed
        raise AssertionError(f"{route} was answered")

    async def ask_nothing(self, route: str, **body: object) -> None:
        """A notify."""
        await self.chat.gate.call(self.agent, "client", route, MSGPACK.encode_body(body))

    async def disconnect(self) -> None:
        """What the gate says to an agent whose client is gone."""
        await self.chat.gate.call(self.agent, "socket", "close")
        await self.chat.settle()


class Chat:
    """A node with hub and gate."""

    def __init__(self, node: Node, gate: MemoryGate, hub: MemoryHub, history: MemoryHistory) -> None:
        self.node, self.gate, self.hub, self.history = node, gate, hub, history
        self._sessions = 0

    async def talker(self, user: str, *rooms: str, encoding: str = "msgpack") -> Talker:
        """A client that has joined these rooms."""
        self._sessions += 1
        client = ClientRef(self.gate.address, f"s{self._sessions}", encoding)
        talker = Talker(self, await self.node.spawn(ChatAgent, client, user), client.session, user)
        for room in rooms:
            await talker.ask("chat.join", room=room)
        return talker

    async def settle(self) -> None:
        """Let everything that is on its way arrive."""
        await asyncio.sleep(SETTLE_SECONDS)


@asynccontextmanager
async def open_chat(history: MemoryHistory | None = None, *rooms: str) -> AsyncIterator[Chat]:
    history = history or MemoryHistory()
    history.names.extend(rooms)
    ChatAgent.bind_routes()
    async with Node("chat", watch_loop=False) as node:
        hub = node.cells[await node.spawn(MemoryHub, history)].service
        gate = node.cells[await node.spawn(MemoryGate)].service
        assert isinstance(hub, MemoryHub)
        assert isinstance(gate, MemoryGate)
        yield Chat(node, gate, hub, history)
