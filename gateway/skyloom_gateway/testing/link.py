"""A client's connection in memory: the gate's `Link` at one end, the client's `Transport` at the other.

    client -- send --> [up, in order, each frame takes its time] --> Receiver.received
    client <-- receive -- [down, likewise] <-- [unsent, while the client does not read] <-- Link.send

It breaks where a test wants it to: at any frame, or because the client stopped reading.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final

from skyloom_gateway.client.transport import TransportClosed
from skyloom_gateway.wire import CloseCode

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from skyloom.node.clock import Timer
    from skyloom.testing import TestNode
    from skyloom_gateway.listener.link import LinkKind, Receiver
    from skyloom_gateway.settings import GatewaySettings
    from skyloom_gateway.wire import Codec

DELAY_SECONDS: Final = (0.001, 0.02)
"""Least and greatest time that a frame is on its way."""

BROKEN_CODE: Final = 1006
"""What the gate is told of a connection that broke."""


class MemoryLink:
    """One connection. `name` is the client's, for the trace; `chance` draws delays; `delay` bounds them in seconds."""

    def __init__(
        self,
        node: TestNode,
        codec: Codec,
        kind: LinkKind,
        settings: GatewaySettings,
        *,
        name: str,
        chance: random.Random,
        delay: tuple[float, float] = DELAY_SECONDS,
    ) -> None:
        self.codec = codec
        self.kind: LinkKind = kind
        self.peer = f"memory:{name}"
        self.frames = 0
        """Frames that arrived so far, both ways."""
        self.cut_at: int | None = None
        """The connection breaks instead of delivering the frame of this number (0 is the hello)."""
        self.cut_noticed = True
        """Whether the gateway notices that."""
        self.client = MemoryTransport(self)
        self._node, self._settings, self._chance, self._delay = node, settings, chance, delay
        self._receiver: Receiver
        self._unsent: deque[bytes] = deque()
        self._unsent_bytes = 0
        self._stalled = False
        self._stall_timer: Timer | None = None
        self._closing = self._closed = self._hangs = False
        self._last = {"up": 0.0, "down": 0.0}

    def attach(self, acceptor: Callable[[MemoryLink], Receiver]) -> None:
        """Let the gate know of the connection."""
        self._receiver = acceptor(self)

    # -- the gate's side: Link -------------------------------------------------------------------------------

    @property
    def buffered_bytes(self) -> int:
        """Bytes that the client has not taken."""
        return self._unsent_bytes

    def send(self, frame: bytes, tail: bytes = b"") -> None:
        """`Link.send`: with the same bounds as a socket's."""
        if self._closing:
            return
        frame += tail
        if not self._stalled:
            self._travel("down", self._arrive_down, frame)
            return
        self._unsent.append(frame)
        self._unsent_bytes += len(frame)
        settings = self._settings
        if len(self._unsent) > settings.unsent_messages or self._unsent_bytes > settings.unsent_bytes:
            self._break(CloseCode.OVERLOADED, "the client reads too slowly")
        elif self._stall_timer is None:
            until = self._node.now() + settings.stall_seconds
            self._stall_timer = self._node.clock.call_at(until, self._stalled_too_long)

    def close(self, code: int, reason: str, frame: bytes | None = None) -> None:
        """`Link.close`: what was sent before still arrives, if the client reads it in time."""
        if self._closing:
            return
        if frame is not None:
            self.send(frame)
        if self._closing:  # that frame was one too many
            return
        self._closing = True
        if self._stalled:
            self._later(self._settings.close_timeout_seconds, self._break, code, reason)
        else:
            self._travel("down", self._closed_by_gate, code, reason)

    def _closed_by_gate(self, code: int, reason: str) -> None:
        self.client.ended(code if self.kind == "websocket" else None, reason)
        self._tell_gate(code, reason)

    def _stalled_too_long(self) -> None:
        self._break(CloseCode.OVERLOADED, "the client takes nothing")

    # -- trouble ---------------------------------------------------------------------------------------------

    def cut(self, *, noticed: bool = True) -> None:
        """Break the connection now; what was under way is lost.

        Not `noticed` by the gateway, it hangs half open there, until the client shows no sign of life for too long.
        """
        if noticed or self._closing:
            self._break(BROKEN_CODE, "the connection broke")
        elif not self._hangs:
            self._hangs = True
            self._note("cut", b"")
            self.client.ended(None, "the connection broke")
            self._later(2 * self._settings.heartbeat_seconds, self._break, BROKEN_CODE, "no sign of life")

    @property
    def broken(self) -> bool:
        """Whether it is over, for the client at least."""
        return self._closing or self._hangs

    def stall(self) -> None:
        """The client stops reading."""
        self._stalled = True

    def read_again(self) -> None:
        """It reads again, and first what waited."""
        self._stalled = False
        if self._stall_timer is not None:
            self._stall_timer.cancel()
            self._stall_timer = None
        unsent, self._unsent, self._unsent_bytes = self._unsent, deque(), 0
        for frame in unsent:
            self._travel("down", self._arrive_down, frame)

    def _break(self, code: int, reason: str) -> None:
        self._closing = True
        self._unsent.clear()
        self._note("cut", b"")
        self.client.ended(None, "the connection broke")
        self._tell_gate(int(code), reason)

    def _tell_gate(self, code: int, reason: str) -> None:
        if not self._closed:
            self._closed = True
            if self._stall_timer is not None:
                self._stall_timer.cancel()
            self._later(0.0, self._receiver.closed, int(code), reason)

    # -- the way ---------------------------------------------------------------------------------------------

    def from_client(self, frame: bytes) -> None:
        """The client sends a frame."""
        self._travel("up", self._arrive_up, frame)

    def client_closes(self, code: int) -> None:
        """The client closes, after the frames that it sent."""
        self._travel("up", self._closed_by_client, code)

    def _closed_by_client(self, code: int) -> None:
        self._closing = True
        self.client.ended(code, "closed")
        self._tell_gate(code, "the client closed")

    def _travel(self, way: str, arrive: Callable[..., None], *args: object) -> None:
        now = self._node.now()
        # Behind the frame before it, and not at the same moment, for timers that are due together have no order.
        when = max(now + self._chance.uniform(*self._delay), self._last[way] + 1e-9)
        self._last[way] = when
        # A frame that left a gateway arrives, also while that gateway stands still.
        (self._node.clock if way == "up" else self._node.sim.loop).call_at(when, arrive, *args)

    def _later(self, seconds: float, callback: Callable[..., object], *args: object) -> None:
        self._node.clock.call_at(self._node.now() + seconds, callback, *args)

    def _passes(self, kind: str, frame: bytes) -> bool:
        if self._closed or self._hangs or self._node.crashed:
            return False
        if self.cut_at is not None and self.frames >= self.cut_at:
            self.cut(noticed=self.cut_noticed)
            return False
        self.frames += 1
        self._note(kind, frame)
        return True

    def _arrive_up(self, frame: bytes) -> None:
        if not self._closing and self._passes("up", frame):
            self._receiver.received(frame)

    def _arrive_down(self, frame: bytes) -> None:
        if self._passes("down", frame):
            self.client.arrived(frame)

    def _note(self, kind: str, frame: bytes) -> None:
        self._node.sim.note(self.peer, kind, payload=frame)


class MemoryTransport:
    """The client's end: a `skyloom_gateway.client.transport.Transport`."""

    def __init__(self, link: MemoryLink) -> None:
        self._link = link
        self._frames: deque[bytes] = deque()
        self._end: TransportClosed | None = None
        self._wake: asyncio.Future[None] | None = None

    async def send(self, frame: bytes) -> None:
        if self._end is not None:
            raise TransportClosed(self._end.code, self._end.reason)
        self._link.from_client(frame)

    async def receive(self) -> bytes:
        while not self._frames:
            if self._end is not None:
                raise TransportClosed(self._end.code, self._end.reason)
            self._wake = asyncio.get_running_loop().create_future()
            await self._wake
        return self._frames.popleft()

    async def close(self) -> None:
        if self._end is None:
            self._link.client_closes(1000)
            self.ended(1000, "closed")

    def abort(self) -> None:
        if self._end is None:
            self._link.cut()

    def arrived(self, frame: bytes) -> None:
        """A frame came."""
        self._frames.append(frame)
        self._rouse()

    def ended(self, code: int | None, reason: str) -> None:
        """The connection is over; what came before it can still be read."""
        if self._end is None:
            self._end = TransportClosed(code, reason)
            self._rouse()

    def _rouse(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)
