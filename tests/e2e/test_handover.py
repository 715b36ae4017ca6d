"""A gateway is replaced by another on the same port while 2,000 clients are connected."""

import asyncio
import signal
from contextlib import ExitStack
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from skyloom_gateway.client import Client, Reconnect, SessionLost, connect
from tests.e2e.game import Game
from tests.e2e.open_files import open_files

CLIENTS = 2_000
CONNECT_AT_ONCE = 50
IN_FLIGHT = 100
IN_FLIGHT_SECONDS = 2.0
EXIT_SECONDS = 15.0
RETURN_SECONDS = 60.0
SPREAD_SECONDS = 3.0


async def connect_all(url: str) -> list[Client]:
    slots = asyncio.Semaphore(CONNECT_AT_ONCE)

    async def open_one(number: int) -> Client:
        async with slots:
            # Half of one core serves all of them, so that an answer may take its time.
            return await connect(
                url,
                auth={"scheme": "guest", "name": f"guest{number}"},
                timeout=RETURN_SECONDS,
                connect_timeout=RETURN_SECONDS,
                reconnect=Reconnect(delay_seconds_max=2.0),
            )

    return list(await asyncio.gather(*(open_one(number) for number in range(CLIENTS))))


def gateway(log: Path, *arguments: str) -> Game:
    return Game(log, "--reuse-port", "--set", f"gateway.drain_reconnect_seconds={SPREAD_SECONDS}", *arguments)


@pytest.mark.ci
@pytest.mark.timeout(180)
async def test_a_successor_takes_the_clients_over(tmp_path: Path) -> None:
    with open_files(CLIENTS + 400), ExitStack() as running:
        old = running.enter_context(gateway(tmp_path / "old.log"))
        clients = await connect_all(f"ws://127.0.0.1:{old.ports[0]}/ws")
        try:
            ports = ["--port", str(old.ports[0]), "--tcp-port", str(old.ports[1])]
            new = running.enter_context(await asyncio.to_thread(gateway, tmp_path / "new.log", *ports))
            await hand_over(clients, old)
            assert await asyncio.to_thread(new.stop) == 0
        finally:
            await asyncio.gather(*(client.close() for client in clients))
        assert "Traceback" not in old.log + new.log


async def hand_over(clients: list[Client], old: Game) -> None:
    recovered: list[bool] = []
    for client in clients:
        client.on_session(lambda session: recovered.append(session.recovered))
    before = {client.session for client in clients}
    busy = clients[:IN_FLIGHT]
    requests = [asyncio.create_task(slow(client)) for client in busy]
    await asyncio.gather(*(client.request("echo.say", {"text": "x"}) for client in clients[-IN_FLIGHT:]))

    old.process.send_signal(signal.SIGTERM)
    began = monotonic()
    old.process.send_signal(signal.SIGTERM)
    assert await asyncio.gather(*requests) == [IN_FLIGHT_SECONDS] * IN_FLIGHT
    assert await asyncio.to_thread(old.wait) == 0
    assert monotonic() - began < EXIT_SECONDS

    async with asyncio.timeout(RETURN_SECONDS):
        answers = await asyncio.gather(*(again(client) for client in clients))
    assert answers == [{"text": "back"}] * CLIENTS
    # A new process knows no session of the old one, and says so.
    assert recovered == [False] * CLIENTS
    assert not before & {client.session for client in clients}
    assert all(client.status.state == "connected" for client in clients)


async def slow(client: Client) -> Any:
    return (await client.request("echo.wait", {"seconds": IN_FLIGHT_SECONDS}))["seconds"]


async def again(client: Client) -> Any:
    """Ask in the new session; a request made before it begins belongs to the old one."""
    try:
        return await client.request("echo.say", {"text": "back"})
    except SessionLost:
        return await client.request("echo.say", {"text": "back"})
