"""Clients that know nothing but the protocol's description: npm's ws, websocat, and a few lines over TCP."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from skyloom_gateway.client import Client
from tests.e2e.server_process import GatewayProcess, running_gateway
from tests.required import required

pytestmark = pytest.mark.asyncio(loop_scope="module")

ROOT = Path(__file__).resolve().parents[2]
TCP_CLIENT = ROOT / "docs/examples/tcp_client.py"
SOON_SECONDS = 10.0
NPM_SECONDS = 50.0
WS_MAJOR = 8

NODE_CLIENT = """
const { WebSocket } = require("ws");
const [url, room] = process.argv.slice(2);
const socket = new WebSocket(url, "skyloom.v1.json");
const send = (frame) => socket.send(JSON.stringify(frame));
const print = (...things) => console.log(JSON.stringify(things));
socket.on("open", () => {
  print("open", socket.protocol);
  send({ type: "hello", auth: { scheme: "guest", name: "node" } });
});
socket.on("message", (data, isBinary) => {
  const frame = JSON.parse(data);
  if (frame.type === "welcome") {
    print("welcome", frame.user, isBinary);
    send({ type: "request", id: 1, route: "chat.create_room", body: { room } });
    send({ type: "request", id: 2, route: "chat.join", body: { room } });
    send({ type: "request", id: 3, route: "chat.say", body: { room, text: "from node" } });
    send({ type: "request", id: 4, route: "chat.say", body: { room, text: "" } });
  } else if (frame.type === "push") {
    print("push", frame.seq, frame.route, frame.body);
    if (frame.body.text === "bye") socket.close(1000);
  } else print(frame.type, frame.id, frame.body ?? frame.error.code);
});
socket.on("close", (code) => print("close", code));
socket.on("error", (error) => { console.error(error); process.exit(1); });
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[GatewayProcess]:
    async with running_gateway(tmp_path_factory.mktemp("gateway")) as gateway:
        yield gateway


class Program:
    """A client in a process of its own, read line by line."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    @classmethod
    async def start(cls, *command: str | Path, **options: Any) -> Program:
        return cls(await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, **options))

    async def line(self) -> str:
        assert self.process.stdout is not None
        async with asyncio.timeout(SOON_SECONDS):
            return (await self.process.stdout.readline()).decode().rstrip("\n")

    def say(self, frame: dict[str, Any]) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(frame).encode() + b"\n")

    async def stop(self) -> None:
        if self.process.returncode is None:
            self.process.kill()
        await self.process.communicate()


async def bob_in(gateway: GatewayProcess, room: str) -> Client:
    """A client of ours in the room, which is made first if need be."""
    bob = await gateway.client("bob")
    await bob.request("chat.create_room", {"room": room})
    await bob.request("chat.join", {"room": room})
    return bob


async def test_the_ws_package_of_npm(gateway: GatewayProcess, tmp_path: Path) -> None:
    node, npm = required("node"), required("npm")
    (tmp_path / "package.json").write_text("{}")
    install = [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", f"ws@{WS_MAJOR}"]
    installing = await asyncio.create_subprocess_exec(*install, cwd=tmp_path, stdout=PIPE, stderr=STDOUT)
    async with asyncio.timeout(NPM_SECONDS):
        output, _ = await installing.communicate()
    assert installing.returncode == 0, output.decode()
    (tmp_path / "client.js").write_text(NODE_CLIENT)
    bob = await bob_in(gateway, "npm")
    program = await Program.start(node, "client.js", gateway.ws, "npm", cwd=tmp_path)
    try:
        seen = [json.loads(await program.line()) for _ in range(6)]
        assert seen[:2] == [["open", "skyloom.v1.json"], ["welcome", "node", False]]
        assert seen[2] == ["error", 1, "chat.room_exists"]
        assert seen[3][:2] == ["response", 2]
        assert seen[3][2]["members"] == ["bob", "node"]
        answers = sorted(seen[4:], key=lambda line: int(line[1]))
        assert answers[0][:2] == ["response", 3]
        assert answers[0][2].keys() == {"id", "time"}
        assert answers[1] == ["error", 4, "gateway.invalid_body"]
        said = await bob.request("chat.say", {"room": "npm", "text": "bye"})
        message = said | {"room": "npm", "user": "bob", "text": "bye"}
        assert json.loads(await program.line()) == ["push", 1, "chat.message", message]
        assert json.loads(await program.line()) == ["close", 1000]
    finally:
        await program.stop()
    history = (await bob.request("chat.history", {"room": "npm"}))["messages"]
    assert [(one["user"], one["text"]) for one in history] == [("node", "from node"), ("bob", "bye")]
    await bob.close()


@pytest.mark.parametrize("options", [[], ["--protocol", "skyloom.v1.json"]], ids=["no-subprotocol", "json"])
async def test_websocat(gateway: GatewayProcess, monkeypatch: pytest.MonkeyPatch, options: list[str]) -> None:
    # pip puts it beside the interpreter, which need not be on the path.
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    room = f"cat{len(options)}"
    bob = await bob_in(gateway, room)
    program = await Program.start(required("websocat"), "--text", *options, gateway.ws)
    try:
        program.say({"type": "hello", "auth": {"scheme": "guest", "name": "cat"}})
        welcome = json.loads(await program.line())
        assert (welcome["type"], welcome["user"], welcome["recovered"]) == ("welcome", "cat", False)
        program.say({"type": "request", "id": 7, "route": "chat.join", "body": {"room": room}})
        joined = json.loads(await program.line())
        assert (joined["type"], joined["id"], joined["body"]["members"]) == ("response", 7, ["bob", "cat"])
        program.say({"type": "ping"})
        assert json.loads(await program.line()) == {"type": "pong"}
        said = await bob.request("chat.say", {"room": room, "text": "hello cat"})
        push = json.loads(await program.line())
        assert push == {
            "type": "push",
            "seq": 1,
            "route": "chat.message",
            "body": said | {"room": room, "user": "bob", "text": "hello cat"},
        }
        program.say({"type": "no such type"})
        error = json.loads(await program.line())
        assert (error["type"], error["id"], error["error"]["kind"]) == ("error", 0, "invalid_argument")
    finally:
        await program.stop()
    await bob.close()


async def test_the_tcp_client_of_the_documentation(gateway: GatewayProcess) -> None:
    assert len(TCP_CLIENT.read_text().splitlines()) <= 40
    bob = await bob_in(gateway, "den")
    heard = bob.pushes("chat.message")
    address = ["127.0.0.1", str(gateway.tcp_port), "ada", "den", "hello, all"]
    program = await Program.start(sys.executable, TCP_CLIENT, *address)
    try:
        assert await program.line() == "welcome ada"
        assert await program.line() == "error 1 chat.room_exists"
        assert (await program.line()).startswith("answer 2 {'room': 'den', 'members': ['bob', 'ada'], 'history': []")
        assert (await program.line()).startswith("answer 3 {'id': ")
        async with asyncio.timeout(SOON_SECONDS):
            assert (await anext(heard)).body["text"] == "hello, all"
        await bob.request("chat.say", {"room": "den", "text": "hello, ada"})
        line = await program.line()
        assert line.startswith("push 1 chat.message {'id': ")
        assert "'hello, ada'" in line
    finally:
        await program.stop()
    await bob.close()
