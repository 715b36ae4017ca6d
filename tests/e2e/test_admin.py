"""The admin port as operators use it: a server of its own process, `skyloom console`, and what scrapes metrics."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from websockets.asyncio.client import connect

from skyloom_gateway.client import ConnectionLost
from tests.e2e.server_process import SETTINGS, GatewayProcess, running_gateway

CONSOLE_SECONDS = 20.0


class Operator:
    """Runs `skyloom console`."""

    def __init__(self, gateway: GatewayProcess, port: int) -> None:
        self.gateway, self.port = gateway, port

    async def run(self, *words: str, typed: str = "") -> tuple[int, str, str]:
        """Status, output and errors."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "skyloom_gateway.cli", "console", "--port", str(self.port), *words),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=self.gateway.folder,
        )
        async with asyncio.timeout(CONSOLE_SECONDS):
            out, errors = await process.communicate(typed.encode())
        assert process.returncode is not None
        return process.returncode, out.decode(), errors.decode()


@pytest.fixture
async def operator(tmp_path: Path) -> AsyncIterator[Operator]:
    async with running_gateway(tmp_path, settings=(*SETTINGS, "gateway.admin_port=0")) as gateway:
        yield Operator(gateway, await gateway.admin_port())


async def test_an_operators_day(operator: Operator) -> None:
    ada = await operator.gateway.client("ada")
    await ada.request("chat.create_room", {"room": "lobby"})
    status, out, errors = await operator.run("list", "ChatHub")
    assert (status, errors) == (0, "")
    assert out.splitlines()[0].split() == ["address", "service", "names", "state"]
    assert "CHAT_HUB" in out
    status, out, _ = await operator.run("--json", "sessions", "ada")
    (session,) = json.loads(out)["rows"]
    assert (status, session["state"]) == (0, "greeted")
    status, out, errors = await operator.run("info", "NOBODY")
    assert (status, out) == (1, "")
    assert errors.startswith("skyloom: no service is named 'NOBODY'")

    body = await asyncio.to_thread(metrics, operator.port)
    samples = [sample for family in text_string_to_metric_families(body) for sample in family.samples]
    found = {(sample.name, tuple(sorted(sample.labels.items()))): sample.value for sample in samples}
    assert found["skyloom_requests_total", (("code", "ok"), ("route", "chat.create_room"))] == 1
    assert found["skyloom_connections", (("transport", "websocket"),)] == 1
    assert found["skyloom_received_bytes_total", (("transport", "websocket"),)] > 200
    assert found["skyloom_sent_bytes_total", (("transport", "websocket"),)] > 200
    assert found["skyloom_loop_lag_seconds_count", ()] > 0
    assert found["process_resident_memory_bytes", ()] > 10_000_000

    # At the prompt a wrong command is no end.
    typed = f"\nsing\nend session {session['session']}\n'unclosed\nexit\nnames\n"
    status, out, errors = await operator.run(typed=typed)
    assert (status, out) == (0, "ended 1 session\n")
    assert errors.count("\n") == 2
    with pytest.raises(ConnectionLost):
        await ada.request("chat.rooms", {})
    assert ada.lost is not None
    assert ada.lost.code == 4403


def metrics(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=CONSOLE_SECONDS) as answer:
        body: bytes = answer.read()
    return body.decode()


async def test_a_server_stops_though_a_console_is_open(operator: Operator) -> None:
    headers = {"X-Skyloom-Console": "1"}
    uri = f"ws://127.0.0.1:{operator.port}/console"
    async with connect(uri, additional_headers=headers, compression=None, proxy=None) as console:
        operator.gateway.signal(signal.SIGTERM)
        assert await operator.gateway.wait() == 0
        await console.wait_closed()
        assert console.close_code == 1012
    status, _, errors = await operator.run("names")
    assert status == 2
    assert f"no console at 127.0.0.1:{operator.port}" in errors
    assert "Traceback" not in errors
