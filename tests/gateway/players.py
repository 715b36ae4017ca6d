"""A gate in a node in virtual time, and clients of it without sockets."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

from skyloom import Node
from skyloom_gateway.auth import Authenticator, GuestAuthenticator
from skyloom_gateway.gate import Gate
from skyloom_gateway.settings import GatewaySettings
from skyloom_gateway.wire import JSON, MSGPACK, Codec, WireError
from skyloom_gateway.wire.frame import ErrorFrame, Push, Response, ServerFrame, Welcome
from tests.gateway.cast import Hub, echo, other

if TYPE_CHECKING:
    from collections.abc import Sequence

    from skyloom_gateway.app import App
    from skyloom_gateway.connection import Connection
    from skyloom_gateway.listener.link import LinkKind

TRANSPORTS: dict[str, tuple[Codec, LinkKind]] = {
    "websocket-json": (JSON, "websocket"),
    "websocket-msgpack": (MSGPACK, "websocket"),
    "tcp": (MSGPACK, "tcp"),
}
TURNS_SECONDS = 0.001  # virtual: the loop is idle before it passes


class FakeLink:
    """A `Link` that keeps what is sent."""

    buffered_bytes = 0

    def __init__(self, codec: Codec, kind: LinkKind) -> None:
        self.codec = codec
        self.kind: LinkKind = kind
        self.peer = "192.0.2.7:5"
        self.receiver: Connection | None = None
        self.sent: list[bytes] = []
        self.closing: tuple[int, str] | None = None

    def send(self, frame: bytes, tail: bytes = b"") -> None:
        assert type(frame) is bytes
        if self.closing is None:
            self.sent.append(frame + tail)

    def close(self, code: int, reason: str, frame: bytes | None = None) -> None:
        if self.closing is None:
            if frame is not None:
                self.sent.append(frame)
            self.lose(code, reason)

    def lose(self, code: int, reason: str) -> None:
        """The transport ends; the gate hears of it in the loop's next turn, as with a real one."""
        assert self.receiver is not None
        self.closing = (int(code), reason)
        assert len(reason.encode()) <= 123
        asyncio.get_running_loop().call_soon(self.receiver.closed, int(code), reason)


class Player:
    """One client of the gate."""

    def __init__(self, gate: Gate, transport: str) -> None:
        self.codec, kind = TRANSPORTS[transport]
        self.link = FakeLink(self.codec, kind)
        self.connection = self.link.receiver = gate.accept(self.link)
        self._last_id = 0
        self._seen = 0

    def feed(self, frame: bytes) -> None:
        if self.link.closing is None:
            self.connection.received(frame)

    @property
    def session(self) -> str:
        assert self.connection.seat is not None
        return self.connection.seat.session.id

    def hello(self, name: object = "ada", **auth: object) -> None:
        self.feed(self.codec.hello({"auth": {"scheme": "guest", "name": name, **auth}}))

    async def resume(self, welcome: Welcome, seq: int, name: str | None = None) -> list[ServerFrame]:
        """Ask a session back, as the same user; what comes first."""
        auth = {"scheme": "guest", "name": name or welcome.user}
        resume = {"session": welcome.session, "key": welcome.key, "seq": seq}
        self.feed(self.codec.hello({"auth": auth, "resume": resume}))
        return await self.frames()

    async def greet(self, name: str = "ada") -> Welcome:
        self.hello(name)
        (welcome,) = await self.frames()
        assert isinstance(welcome, Welcome), welcome
        return welcome

    def request(self, route: str, **body: object) -> int:
        self._last_id += 1
        self.feed(self.codec.request(self._last_id, route, self.codec.encode_body(body)))
        return self._last_id

    def notify(self, route: str, **body: object) -> None:
        self.feed(self.codec.notify(route, self.codec.encode_body(body)))

    def leave(self) -> None:
        """Say goodbye: the session ends."""
        self.link.lose(1000, "left")

    def cut(self) -> None:
        """Lose the connection: the session waits."""
        self.link.lose(1006, "the connection broke")

    async def frames(self, seconds: float = TURNS_SECONDS) -> list[ServerFrame]:
        """What came since the last time, after the gate had `seconds`."""
        await asyncio.sleep(seconds)
        new = self.link.sent[self._seen :]
        self._seen += len(new)
        return [self.codec.decode_server(frame) for frame in new]

    async def ask(self, route: str, **body: object) -> object:
        """The body of the answer to a request that is answered at once."""
        id = self.request(route, **body)
        (answer,) = await self.frames()
        assert isinstance(answer, Response), answer
        assert answer.id == id
        return answer.body

    async def error(self, route: str, seconds: float = TURNS_SECONDS, /, **body: object) -> WireError:
        """The error that a request is answered with."""
        id = self.request(route, **body)
        (answer,) = await self.frames(seconds)
        assert isinstance(answer, ErrorFrame), answer
        assert answer.id == id
        return answer.error

    @property
    def close_code(self) -> int | None:
        return None if self.link.closing is None else self.link.closing[0]


class World:
    """A node with a gate; `gate.settings` may be changed before players come."""

    def __init__(self, node: Node, gate: Gate, hub: Hub) -> None:
        self.node, self.gate, self.hub = node, gate, hub

    def player(self, transport: str = "websocket-json") -> Player:
        return Player(self.gate, transport)

    async def guest(self, name: str = "ada", transport: str = "websocket-json") -> Player:
        player = self.player(transport)
        await player.greet(name)
        return player


async def open_gate(
    node: Node,
    *,
    settings: GatewaySettings | None = None,
    authenticators: Sequence[Authenticator] | None = None,
    apps: Sequence[App] = (echo, other),
) -> World:
    secrets = random.Random(1)
    hub = node.cells[await node.unique(Hub)].service
    address = await node.spawn(
        Gate,
        apps,
        authenticators if authenticators is not None else [GuestAuthenticator(random.Random(2))],
        settings or GatewaySettings(),
        "sha256:0",
        lambda size: secrets.randbytes(size).hex(),
    )
    gate = node.cells[address].service
    assert isinstance(gate, Gate)
    assert isinstance(hub, Hub)
    return World(node, gate, hub)


def pushes(frames: Sequence[ServerFrame]) -> list[tuple[int, object]]:
    return [(frame.seq, frame.body) for frame in frames if isinstance(frame, Push)]
