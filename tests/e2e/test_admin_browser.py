"""A web page in a browser on the server's machine reaches nothing of the admin port, whatever it tries."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, async_playwright
from websockets.asyncio.client import connect

from tests.e2e.fake_gateway import launch
from tests.e2e.server_process import SETTINGS, running_gateway

KILL = json.dumps({"words": ["kill", "CHAT_HUB"]})

# Each answers how it ended; none may come to "open" or to what the server said.
ATTEMPTS = {
    "a WebSocket": """port => new Promise(done => {
        const socket = new WebSocket(`ws://127.0.0.1:${port}/console`)
        socket.onopen = () => { socket.send(KILL); done("open") }
        socket.onerror = () => done("refused")
    })""",
    "a WebSocket with a subprotocol": """port => new Promise(done => {
        const socket = new WebSocket(`ws://localhost:${port}/console`, ["skyloom.v1.json"])
        socket.onopen = () => { socket.send(KILL); done("open") }
        socket.onerror = () => done("refused")
    })""",
    "a fetch that reads": """port => fetch(`http://127.0.0.1:${port}/metrics`)
        .then(answer => answer.text(), () => "refused")""",
    "a post of text": """port => fetch(`http://127.0.0.1:${port}/console`, {
            method: "POST", mode: "no-cors", body: KILL
        }).then(answer => answer.type === "opaque" ? "refused" : answer.text(), () => "refused")""",
    "a post with the header": """port => fetch(`http://127.0.0.1:${port}/console`, {
            method: "POST", headers: {"Content-Type": "application/json", "X-Skyloom-Console": "1"}, body: KILL
        }).then(answer => answer.text(), () => "refused")""",
    "a script": """port => new Promise(done => {
        const script = document.createElement("script")
        script.src = `http://127.0.0.1:${port}/metrics`
        script.onload = () => done("loaded")
        script.onerror = () => done("refused")
        document.head.append(script)
    })""",
    "a frame": """port => new Promise(done => {
        const frame = document.createElement("iframe")
        frame.src = `http://127.0.0.1:${port}/metrics`
        frame.onload = () => { try { done(frame.contentDocument.body.innerText) } catch { done("refused") } }
        document.body.append(frame)
        setTimeout(() => done("refused"), 3000)
    })""",
    "a form": """port => new Promise(done => {
        const frame = document.createElement("iframe")
        frame.name = "out"
        const form = document.createElement("form")
        form.action = `http://127.0.0.1:${port}/console`
        form.method = "post"
        form.enctype = "text/plain"
        form.target = "out"
        const field = document.createElement("input")
        field.name = KILL
        form.append(field)
        document.body.append(frame, form)
        frame.onload = () => { try { done(frame.contentDocument.body.innerText) } catch { done("refused") } }
        form.submit()
        setTimeout(() => done("refused"), 3000)
    })""",
}


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await launch(playwright)
        yield browser
        await browser.close()


@pytest.fixture
async def site() -> AsyncIterator[int]:
    """The port of another server on this machine, whose pages have no policy of their own, as an attacker's."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        page = b"<title>a nice game</title>"
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: %d\r\n\r\n%b" % (len(page), page))
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


async def hub(port: int) -> str:
    """The chat hub's address, as the real console tells it."""
    uri, headers = f"ws://127.0.0.1:{port}/console", {"X-Skyloom-Console": "1"}
    async with connect(uri, additional_headers=headers, compression=None, proxy=None) as console:
        await console.send(json.dumps({"words": ["info", "CHAT_HUB"]}))
        address: str = json.loads(await console.recv())["result"]["address"]
        return address


async def test_no_page_reaches_the_admin_port(browser: Browser, site: int, tmp_path: Path) -> None:
    async with running_gateway(tmp_path, settings=(*SETTINGS, "gateway.admin_port=0")) as gateway:
        port = await gateway.admin_port()
        before = await hub(port)
        page = await browser.new_page()
        await page.goto(f"http://localhost:{site}/")
        kill = f"const KILL = {json.dumps(KILL)}"
        for name, attempt in ATTEMPTS.items():
            async with asyncio.timeout(20):
                ended = await page.evaluate(f"port => {{ {kill}; return ({attempt})(port) }}", port)
            assert ended == "refused", name
        assert await hub(port) == before
        await page.close()
    assert "console: kill" not in gateway.log
