"""2,000 clients at once against a gateway in a process of its own, 200 of them in one room and ten talking."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from skyloom_gateway.client import Client, PushStream, connect
from tests.e2e.open_files import open_files

CLIENTS = 2_000
MEMBERS = 200
SENDERS = 10
MESSAGES_EACH = 4
SECONDS_BETWEEN = 1.0
CONNECT_AT_ONCE = 50
FILES_NEEDED = CLIENTS + 400  # the gateway keeps 256 for itself
START_SECONDS = 20.0
ARRIVAL_SECONDS = 10.0
ROOM = "plaza"
PROGRAM = [sys.executable, "-m", "skyloom_gateway.cli", "gateway", "skyloom_chat:app"]


@pytest.fixture
def files() -> Iterator[None]:
    """Enough open files for both processes, or no test."""
    with open_files(FILES_NEEDED):
        yield


@pytest.fixture
def gateway(files: None, tmp_path: Path) -> Iterator[str]:
    """The address of a gateway with the chat; it has to end cleanly when asked to."""
    options = ["--port", "0", "--tcp-port", "off", "--database", f"sqlite:///{tmp_path / 'chat.sqlite3'}"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    environment |= {"SKYLOOM_LOG__LEVEL": "warning", "SKYLOOM_GATEWAY__DRAIN_RECONNECT_SECONDS": "0"}
    log = tmp_path / "log"
    with (
        log.open("wb") as errors,
        subprocess.Popen(
            PROGRAM + options, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True
        ) as process,
    ):
        try:
            assert process.stdout is not None
            line = process.stdout.readline()  # the test's own time limit bounds this
            assert line.startswith("skyloom listens on http://"), line + log.read_text()
            yield line.split()[3].replace("http://", "ws://") + "/ws"
            process.terminate()
            assert process.wait(START_SECONDS) == 0, log.read_text()
        finally:
            process.kill()


async def connect_all(url: str) -> list[Client]:
    slots = asyncio.Semaphore(CONNECT_AT_ONCE)

    async def open_one(number: int) -> Client:
        async with slots:
            return await connect(url, auth={"scheme": "guest", "name": f"guest{number}"})

    return list(await asyncio.gather(*(open_one(number) for number in range(CLIENTS))))


async def talk(sender: Client, number: int, start: float) -> None:
    """Say MESSAGES_EACH things, one a second; the senders do not all speak in the same instant."""
    for message in range(MESSAGES_EACH):
        due = start + (message + number / SENDERS) * SECONDS_BETWEEN
        await asyncio.sleep(max(0.0, due - monotonic()))
        await sender.request("chat.say", {"room": ROOM, "text": f"{number}/{message}"})


async def hear(stream: PushStream[Any], count: int) -> list[tuple[int, dict[str, Any]]]:
    """The next `count` messages with their sequence numbers, or fewer if no more come."""
    heard: list[tuple[int, dict[str, Any]]] = []
    try:
        async with asyncio.timeout(MESSAGES_EACH * SECONDS_BETWEEN + ARRIVAL_SECONDS):
            while len(heard) < count:
                push = await anext(stream)
                heard.append((push.seq, push.body))
    except TimeoutError:
        pass
    return heard


@pytest.mark.ci
@pytest.mark.timeout(90)
async def test_nothing_is_lost_doubled_or_out_of_order(gateway: str) -> None:
    clients = await connect_all(gateway)
    try:
        members = clients[:MEMBERS]
        await members[0].request("chat.create_room", {"room": ROOM})
        for member in members:
            joined = await member.request("chat.join", {"room": ROOM})
        assert len(joined["members"]) == MEMBERS
        streams = [member.pushes("chat.message", buffer_max=1_000) for member in members]
        outsiders = [client.pushes("chat.message") for client in clients[MEMBERS:]]

        expected = [
            (SENDERS - (number < SENDERS)) * MESSAGES_EACH for number in range(MEMBERS)
        ]  # a sender does not hear itself
        hearing = [asyncio.create_task(hear(*pair)) for pair in zip(streams, expected, strict=True)]
        start = monotonic()
        await asyncio.gather(*(talk(members[number], number, start) for number in range(SENDERS)))
        results = await asyncio.gather(*hearing)
        # A doubled message would be on its way still: what a request is answered after has arrived.
        await asyncio.gather(*(client.request("chat.rooms", timeout=30) for client in clients))

        for number, heard in enumerate(results):
            seqs = [seq for seq, _ in heard]
            assert seqs == sorted(set(seqs))
            told: dict[str, list[str]] = {}
            for _, body in heard:
                told.setdefault(body["user"], []).append(body["text"])
            assert told == {
                f"guest{sender}": [f"{sender}/{message}" for message in range(MESSAGES_EACH)]
                for sender in range(SENDERS)
                if sender != number
            }
            assert [body["id"] for _, body in heard] == sorted({body["id"] for _, body in heard})
        for stream in streams + outsiders:
            stream.close()
            assert [push async for push in stream] == []
        assert [client.lost for client in clients if client.closed] == []
    finally:
        await asyncio.gather(*(client.close() for client in clients))
