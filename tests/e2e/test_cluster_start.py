"""A process that cannot join its cluster says why in one line, and ends."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from skyloom.cluster.nats import NAME_SECONDS
from tests.e2e.cluster_process import cluster_of
from tests.nats import NatsServer, running_nats

pytestmark = pytest.mark.ci

START_SECONDS = 20.0


@pytest.fixture(scope="module")
def nats() -> Iterator[NatsServer]:
    with running_nats() as server:
        yield server


async def refused(folder: Path, command: str, url: str, *arguments: str, seconds: float = START_SECONDS) -> list[str]:
    """What a process says that does not start."""
    ports = ["--port", "0", "--tcp-port", "off"] if command == "gateway" else []
    process = await asyncio.create_subprocess_exec(
        *[sys.executable, "-m", "skyloom_gateway.cli", command, "skyloom_chat:app", "--nats", url, *ports, *arguments],
        cwd=folder,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(seconds):
            output, errors = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert (process.returncode, output) == (1, b""), errors.decode()
    return errors.decode().splitlines()


@asynccontextmanager
async def something_else(greeting: bytes) -> AsyncIterator[str]:
    """What listens is no NATS server; without a greeting it says nothing at all."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting)
        if not greeting:
            await reader.read()  # until the other side goes
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield f"nats://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def test_without_a_fitting_nats_server_it_says_which_one_and_what_it_needs(tmp_path: Path) -> None:
    with running_nats(jetstream=False) as bare, socket.create_server(("127.0.0.1", 0)) as nobody:
        closed = f"nats://127.0.0.1:{nobody.getsockname()[1]}"
        nobody.close()
        async with something_else(b"") as silent, something_else(b"HTTP/1.1 400 Bad Request\r\n\r\n") as web:
            password = f"nats://ada:sesame@127.0.0.1:{bare.port}"
            starts = [("gateway", closed), *(("node", url) for url in (closed, password, silent, web))]
            said = await asyncio.gather(*(refused(tmp_path, *start) for start in starts))
    for (line,), (_, url) in zip(said, starts, strict=True):
        assert line.startswith(f"skyloom: NATS at {url.replace('ada:sesame@', '')} does not let this node join: "), line
        assert "nats-server" in line
        assert "-js" in line


async def test_of_two_nodes_of_one_name_the_second_says_so(nats: NatsServer, tmp_path: Path) -> None:
    async with cluster_of(tmp_path, nats.url, "twins") as cluster:
        first = cluster.node("ann")
        await cluster.start(first)
        arguments = ["--name", "ann", "--set", "cluster.name=twins", "--set", "log.level=warning"]
        lines = await refused(tmp_path, "node", nats.url, *arguments, seconds=START_SECONDS + NAME_SECONDS)
        assert lines == ["skyloom: the cluster 'twins' has a node 'ann' already: give this one another name"]
        assert first.has("chat")
