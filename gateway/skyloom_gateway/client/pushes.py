"""A bounded stream of pushes, between the client's reader and one consumer."""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from skyloom_gateway.client.errors import ClientError, PushOverflow, SessionLost

PUSH_BUFFER_MAX = 256

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Push(Generic[T]):
    """One push: its number in the session, its route, and its body in the type that was asked for."""

    seq: int
    route: str
    body: T


class PushStream(Generic[T]):
    """An async iterator over the pushes of a route (None: of all routes), from the moment it is made.

    It ends when the client is closed, and raises ConnectionLost when the client has lost the gateway for good, in both
    cases after what had already come. It lives through reconnections. Two errors stand in the place of a gap, and
    iterating again goes on behind it: SessionLost, when the client came back to a new session, and PushOverflow, when
    the consumer left `buffer_max` pushes waiting. One consumer at a time.
    """

    def __init__(
        self,
        route: str | None,
        typed: Callable[[str, object], T],
        leave: Callable[["PushStream[Any]"], None],
        buffer_max: int = PUSH_BUFFER_MAX,
    ) -> None:
        if buffer_max < 1:
            raise ValueError(f"buffer_max must be at least 1, not {buffer_max}")
        self.route = route
        self.buffer_max = buffer_max
        self._typed = typed
        self._leave = leave
        self._waiting: deque[tuple[int, str, object] | ClientError] = deque()
        self._missed = 0
        self._ended = False
        self._end: Callable[[], Exception] | None = None
        self._wake: asyncio.Future[None] | None = None

    def __aiter__(self) -> "PushStream[T]":
        return self

    async def __anext__(self) -> Push[T]:
        while not self._waiting:
            if self._missed:
                raise self._overflow()
            if self._ended:
                if self._end is None:
                    raise StopAsyncIteration
                raise self._end()
            if self._wake is not None:
                raise RuntimeError("this stream of pushes already has a consumer; make one stream for each")
            self._wake = asyncio.get_running_loop().create_future()
            try:
                await self._wake
            finally:
                self._wake = None
        first = self._waiting.popleft()
        if isinstance(first, ClientError):
            raise first
        seq, route, body = first
        return Push(seq, route, self._typed(route, body))

    def close(self) -> None:
        """Stop listening. What waits is dropped, and iteration ends."""
        self._waiting.clear()
        self._missed = 0
        self.finish(None)
        self._leave(self)

    def offer(self, seq: int, route: str, body: object) -> None:
        """Take a push from the reader; never waits."""
        # While a gap is open everything counts as missed, so that the gap stays in one place.
        if self._missed or len(self._waiting) >= self.buffer_max:
            self._missed += 1
            return
        self._waiting.append((seq, route, body))
        self._rouse()

    def interrupt(self) -> None:
        """A new session begins here; pushes of the old one may be missing."""
        if self._missed:
            self._waiting.append(self._overflow())
        if not (self._waiting and isinstance(self._waiting[-1], SessionLost)):
            self._waiting.append(SessionLost())
        self._rouse()

    def finish(self, end: Callable[[], Exception] | None) -> None:
        """No more pushes will come; `end` makes the error to raise after the last, None ends quietly."""
        if not self._ended:
            self._ended, self._end = True, end
            self._rouse()

    def _overflow(self) -> PushOverflow:
        missed, self._missed = self._missed, 0
        return PushOverflow(self.route, missed, self.buffer_max)

    def _rouse(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)


class Audience:
    """The streams of a client, by route; None is every route."""

    def __init__(self) -> None:
        self._streams: dict[str | None, list[PushStream[Any]]] = {}
        self._over = False
        self._end: Callable[[], Exception] | None = None

    def admit(self, route: str | None, typed: Callable[[str, object], Any], buffer_max: int) -> PushStream[Any]:
        """A new stream; one that has ended already when the connection has."""
        stream: PushStream[Any] = PushStream(route, typed, self._leave, buffer_max)
        if self._over:
            stream.finish(self._end)
        else:
            self._streams.setdefault(route, []).append(stream)
        return stream

    def offer(self, seq: int, route: str, body: object) -> bool:
        """Give a push to all who listen; False when nobody does."""
        streams = [*self._streams.get(route, ()), *self._streams.get(None, ())]
        for stream in streams:
            stream.offer(seq, route, body)
        return bool(streams)

    def interrupt(self) -> None:
        """A new session begins: see PushStream.interrupt."""
        for streams in self._streams.values():
            for stream in streams:
                stream.interrupt()

    def finish(self, end: Callable[[], Exception] | None) -> None:
        """No more pushes will come: see PushStream.finish."""
        self._over, self._end = True, end
        for streams in self._streams.values():
            for stream in streams:
                stream.finish(end)
        self._streams.clear()

    def _leave(self, stream: PushStream[Any]) -> None:
        streams = self._streams.get(stream.route, [])
        if stream in streams:
            streams.remove(stream)
            if not streams:
                del self._streams[stream.route]
