"""The chat in a real server: what it answers, and what a kill, a restart and a full disk leave behind."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from skyloom_gateway.client import Client, ConnectionLost, Push, PushStream, RequestFailed
from tests.e2e.server_process import GatewayProcess, running_gateway

pytestmark = pytest.mark.asyncio(loop_scope="module")

SOON_SECONDS = 5.0
TALKERS = 8


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[GatewayProcess]:
    async with running_gateway(tmp_path_factory.mktemp("gateway")) as gateway:
        yield gateway
        assert "Traceback" not in gateway.log, gateway.log[-6000:]


async def code(client: Client, route: str, **body: object) -> str:
    try:
        await client.request(route, body)
    except RequestFailed as failed:
        return failed.code
    return ""


async def next_push(stream: PushStream[Any]) -> Push[Any]:
    async with asyncio.timeout(SOON_SECONDS):
        return await anext(stream)


@pytest.mark.parametrize("tcp", [False, True], ids=["websocket", "tcp"])
async def test_two_talk_and_one_leaves(gateway: GatewayProcess, tcp: bool) -> None:
    room = f"talk-{tcp}"
    ada, bob = await gateway.client("ada", tcp=tcp), await gateway.client("bob", tcp=not tcp)
    heard = ada.pushes()
    assert await ada.request("chat.create_room", {"room": room}) == {"room": room}
    await ada.request("chat.join", {"room": room})
    joined = await bob.request("chat.join", {"room": room})
    assert joined == {"room": room, "members": ["ada", "bob"], "history": [], "member_count": 2, "more": False}
    said = await bob.request("chat.say", {"room": room, "text": "hello <b>"})
    await bob.notify("chat.typing", {"room": room})
    await bob.close()
    pushes = [await next_push(heard) for _ in range(4)]
    assert [push.route for push in pushes] == ["chat.joined", "chat.message", "chat.typing", "chat.left"]
    assert [push.seq for push in pushes] == [1, 2, 3, 4]
    assert pushes[1].body == said | {"room": room, "user": "bob", "text": "hello <b>"}
    assert {push.body["user"] for push in pushes} == {"bob"}
    assert (await ada.request("chat.join", {"room": room}))["members"] == ["ada"]
    await ada.close()


@pytest.mark.parametrize("tcp", [False, True], ids=["websocket", "tcp"])
async def test_what_is_refused_says_so(gateway: GatewayProcess, tcp: bool) -> None:
    client = await gateway.client("ada", tcp=tcp)
    long = "x" * 63 + str(int(tcp))
    assert await code(client, "chat.create_room", room=long) == ""
    assert await code(client, "chat.create_room", room=long) == "chat.room_exists"
    assert await code(client, "chat.say", room=long, text="x") == "chat.not_a_member"
    assert await code(client, "chat.join", room="nowhere") == "chat.room_not_found"
    assert await code(client, "chat.history", room="nowhere") == "chat.room_not_found"
    assert await code(client, "chat.join", room=long) == ""
    for room in ("", "x" * 65, f"{long}\n", "a b", "é"):
        assert await code(client, "chat.create_room", room=room) == "gateway.invalid_body"
    for text in ("", "x" * 2001, "a\0b"):
        assert await code(client, "chat.say", room=long, text=text) == "gateway.invalid_body"
    for text in ("x", "x" * 2000, "\U0001f3b2" * 2000):
        assert await code(client, "chat.say", room=long, text=text) == ""
    assert await code(client, "chat.nothing") == "gateway.unknown_route"
    assert not client.closed
    await client.close()


@pytest.mark.parametrize("tcp", [False, True], ids=["websocket", "tcp"])
async def test_a_room_of_the_longest_messages_can_be_joined_and_read(gateway: GatewayProcess, tcp: bool) -> None:
    client = await gateway.client("ada", tcp=tcp)
    room = f"long-{tcp}"
    await client.request("chat.create_room", {"room": room})
    await client.request("chat.join", {"room": room})
    said = await asyncio.gather(
        *(client.request("chat.say", {"room": room, "text": "\U0001f3b2" * 2000}) for _ in range(60))
    )
    answer = await client.request("chat.join", {"room": room})
    ids = [message["id"] for message in answer["history"]]
    while answer["more"]:
        answer = await client.request("chat.history", {"room": room, "before": ids[0], "limit": 1000})
        ids = [message["id"] for message in answer["messages"]] + ids
    assert ids == sorted(one["id"] for one in said)
    await client.close()


async def test_a_join_leaves_no_gap_and_nothing_twice(gateway: GatewayProcess) -> None:
    room = "busy"
    talkers = [await gateway.client(f"talker-{n}") for n in range(4)]
    await talkers[0].request("chat.create_room", {"room": room})
    for talker in talkers:
        await talker.request("chat.join", {"room": room})
    said: list[int] = []

    async def talk(talker: Client) -> None:
        for _ in range(60):
            answer = await talker.request("chat.say", {"room": room, "text": "x"})
            said.append(answer["id"])

    async def watch() -> tuple[list[int], list[int]]:
        client = await gateway.client("watcher")
        heard = client.pushes("chat.message")
        joined = await client.request("chat.join", {"room": room})
        await talking
        last = await talkers[0].request("chat.say", {"room": room, "text": "the end"})
        pushed = []
        while last["id"] not in pushed:
            pushed.append((await next_push(heard)).body["id"])
        await client.close()
        return [message["id"] for message in joined["history"]], [id for id in pushed if id <= max(said)]

    talking = asyncio.gather(*(talk(talker) for talker in talkers))
    watches = []
    for _ in range(5):
        watches.append(asyncio.create_task(watch()))
        await asyncio.sleep(0.02)
    for history, pushed in await asyncio.gather(*watches):
        assert pushed == sorted(set(pushed))
        seen = [id for id in history if id <= max(said)] + pushed
        assert seen == sorted(said)[len(said) - len(seen) :]
        assert len(history) == 50 or len(seen) == len(said)
    for talker in talkers:
        await talker.close()


class Load:
    """Clients that speak without end, each in a room of its own."""

    def __init__(self) -> None:
        self.answered: dict[int, str] = {}
        self.codes: list[int | None] = []
        self.refusals: set[str] = set()
        self._wanted = 0
        self._reached = asyncio.Event()
        self._clients: list[Client] = []

    async def start(self, gateway: GatewayProcess, run: str) -> list[asyncio.Task[None]]:
        self._clients = [await gateway.client(f"talker-{n}", tcp=n % 2 == 1) for n in range(TALKERS)]
        for n, client in enumerate(self._clients):
            await code(client, "chat.create_room", room=f"room-{n}")
            await client.request("chat.join", {"room": f"room-{n}"})
        return [asyncio.create_task(self._talk(n, client, run)) for n, client in enumerate(self._clients)]

    async def _talk(self, number: int, client: Client, run: str) -> None:
        for count in range(1_000_000):
            text = f"{run}-{number}-{count}"
            try:
                said = await client.request("chat.say", {"room": f"room-{number}", "text": text})
            except ConnectionLost as lost:
                self.codes.append(lost.code)
                return
            except RequestFailed as failed:
                self.refusals.add(failed.code)
                continue
            self.answered[said["id"]] = text
            if len(self.answered) >= self._wanted:
                self._reached.set()

    async def reach(self, messages: int) -> None:
        self._wanted = messages
        self._reached.clear()
        async with asyncio.timeout(SOON_SECONDS):
            await self._reached.wait()

    async def close(self) -> None:
        for client in self._clients:
            await client.close()


async def stored(gateway: GatewayProcess) -> dict[int, str]:
    """All messages of the rooms, through the front door."""
    client = await gateway.client("reader")
    rooms = await client.request("chat.rooms")
    assert {one["room"] for one in rooms["rooms"]} == {f"room-{n}" for n in range(TALKERS)}
    found: dict[int, str] = {}
    for n in range(TALKERS):
        page = await client.request("chat.history", {"room": f"room-{n}", "limit": 1000})
        assert not page["more"]
        found |= {message["id"]: message["text"] for message in page["messages"]}
    await client.close()
    return found


@pytest.mark.ci
async def test_after_kill_9_under_load_all_that_was_answered_is_there(tmp_path: Path) -> None:
    load = Load()
    for run in ("first", "second"):
        async with running_gateway(tmp_path) as gateway:
            talking = await load.start(gateway, run)
            await load.reach(len(load.answered) + 150)
            gateway.signal(signal.SIGKILL)
            assert await gateway.wait() == -9
            await asyncio.gather(*talking)
            await load.close()
    async with running_gateway(tmp_path) as gateway:
        kept = await stored(gateway)
    assert {id: kept.get(id) for id in load.answered} == load.answered
    assert len(load.answered) >= 300
    assert load.refusals == set()


@pytest.mark.ci
async def test_sigterm_under_load_answers_what_it_stored(tmp_path: Path) -> None:
    load = Load()
    async with running_gateway(tmp_path) as gateway:
        talking = await load.start(gateway, "only")
        await load.reach(150)
        gateway.signal(signal.SIGTERM)
        assert await gateway.wait() == 0
        await asyncio.gather(*talking)
        await load.close()
        assert set(load.codes) == {1012}
        assert load.refusals <= {"gateway.draining"}
        assert "Traceback" not in gateway.log, gateway.log[-6000:]
    async with running_gateway(tmp_path) as gateway:
        assert await stored(gateway) == load.answered


async def test_a_storage_that_fails_is_told_without_internals_and_recovers(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as gateway:
        ada = await gateway.client("ada", timeout=15)
        await ada.request("chat.create_room", {"room": "den"})
        await ada.request("chat.join", {"room": "den"})
        other = sqlite3.connect(tmp_path / "chat.db", isolation_level=None)
        other.execute("ALTER TABLE chat_messages RENAME TO elsewhere")
        for route, body in (("chat.say", {"text": "x"}), ("chat.history", {})):
            with pytest.raises(RequestFailed) as failed:
                await ada.request(route, {"room": "den"} | body)
            assert failed.value.code == "chat.storage_failed"
            assert failed.value.retryable
            assert "chat_messages" not in str(failed.value)
        other.execute("ALTER TABLE elsewhere RENAME TO chat_messages")
        other.close()
        assert await code(ada, "chat.say", room="den", text="x") == ""
        await ada.close()
        assert "no such table" in gateway.log
