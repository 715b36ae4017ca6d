"""A player: one client of a gateway under test."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, TypeVar, overload

from skyloom_gateway.client.errors import ConnectionLost
from skyloom_gateway.push import Push

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pydantic import BaseModel, TypeAdapter

    from skyloom_gateway.client import Client
    from skyloom_gateway.testing.link import MemoryLink

PUSH_SECONDS: Final = 5.0
"""Virtual seconds that `Player.expect_push` waits."""

PUSHES_MAX: Final = 100_000
"""Pushes that wait for `expect_push`."""

P = TypeVar("P", bound=Push)
T = TypeVar("T")


class Player:
    """Made by `TestGateway.connect`. `name` is who it asked to be, `client` the real client beneath it."""

    def __init__(self, name: str, client: Client, links: Sequence[MemoryLink]) -> None:
        self.name = name
        self.client = client
        self._links = links
        self._stream = client.pushes(buffer_max=PUSHES_MAX)
        self._unmatched: list[tuple[str, Any]] = []
        self._changed = asyncio.Event()
        client.on_status(lambda _: self._changed.set())

    @property
    def link(self) -> MemoryLink:
        """Its connection, or the last one that it had."""
        return self._links[-1]

    @property
    def connected(self) -> bool:
        """Whether the connection is up, as far as the player knows."""
        return self.client.status.state == "connected"

    @overload
    async def request(
        self,
        route: str,
        body: Mapping[str, object] | BaseModel | None = None,
        *,
        returns: type[T] | TypeAdapter[T],
        timeout: float | None = None,
    ) -> T: ...

    @overload
    async def request(
        self, route: str, body: Mapping[str, object] | BaseModel | None = None, *, timeout: float | None = None
    ) -> Any: ...

    async def request(
        self,
        route: str,
        body: Mapping[str, object] | BaseModel | None = None,
        *,
        returns: type[T] | TypeAdapter[T] | None = None,
        timeout: float | None = None,
    ) -> Any:
        """Ask, and wait for the answer; see `skyloom_gateway.client.Client.request`, also for what it raises."""
        if returns is None:
            return await self.client.request(route, body, timeout=timeout)
        return await self.client.request(route, body, timeout=timeout, returns=returns)

    async def notify(self, route: str, body: Mapping[str, object] | BaseModel | None = None) -> None:
        """Say something that has no answer."""
        await self.client.notify(route, body)

    @overload
    async def expect_push(
        self, push: type[P], *, where: Callable[[P], object] | None = None, timeout: float = PUSH_SECONDS
    ) -> P: ...

    @overload
    async def expect_push(
        self, push: str, *, where: Callable[[Any], object] | None = None, timeout: float = PUSH_SECONDS
    ) -> Any: ...

    async def expect_push(
        self, push: Any, *, where: Callable[[Any], object] | None = None, timeout: float = PUSH_SECONDS
    ) -> Any:
        """The next push of a class or a route, for which `where` is true; others stay for later.

        A class gives the push as that class, a route its body as plain data. Raises AssertionError, with what came
        instead, when none comes within `timeout` virtual seconds or before the connection ends.
        """
        route: str = push if isinstance(push, str) else push.route
        seen = 0
        try:
            async with asyncio.timeout(timeout):
                while True:
                    for index in range(seen, len(self._unmatched)):
                        body = self._fits(index, route, push, where)
                        if body is not None:
                            del self._unmatched[index]
                            return body
                    seen = len(self._unmatched)
                    found = await anext(self._stream)
                    self._unmatched.append((found.route, found.body))
        except (TimeoutError, StopAsyncIteration, ConnectionLost) as error:
            came = "".join(f"\n  {route} {body}" for route, body in self._unmatched) or " nothing"
            why = f"within {timeout:g} s" if isinstance(error, TimeoutError) else "before the connection ended"
            raise AssertionError(f"{self.name}: no fitting push {route} {why}; what came:{came}") from error

    def _fits(self, index: int, route: str, push: Any, where: Callable[[Any], object] | None) -> Any:
        came, body = self._unmatched[index]
        if came != route:
            return None
        if not isinstance(push, str):
            body = push.model_validate(body)
        return body if where is None or where(body) else None

    async def expect_no_push(self, push: type[Push] | str, *, seconds: float = 1.0) -> None:
        """Fail if such a push comes within so many virtual seconds, or has come and was not expected."""
        route = push if isinstance(push, str) else push.route
        try:
            body = await self.expect_push(route, timeout=seconds)
        except AssertionError:
            return
        raise AssertionError(f"{self.name}: push {route} came, which should not: {body}")

    # -- trouble ---------------------------------------------------------------------------------------------

    def cut(self, *, at_frame: int | None = None, noticed: bool = True) -> None:
        """Break the connection: now, or instead of the frame that is the so-and-so-many-th from now, both ways.

        Without `noticed` the gateway takes it for alive still, as when a phone leaves its network.
        """
        if at_frame is None:
            self.link.cut(noticed=noticed)
        else:
            self.link.cut_at, self.link.cut_noticed = self.link.frames + at_frame, noticed

    async def resume(self) -> bool:
        """Come back after a `cut`, at once. True when it is the same session, with nothing lost; False for a new one.

        Raises ConnectionLost when the player does not come back: let it `connect` with `reconnect=BY_HAND`, or with a
        `Reconnect` of which this does not wait for the delay.
        """
        while not self.connected or self.link.broken:
            if self.client.closed:
                raise self.client.lost or ConnectionLost(1000, "closed by this player")
            self._changed.clear()
            if not self.connected:  # else it has not noticed yet
                self.client.retry()
            await self._changed.wait()
        return self.client.recovered is not False

    def stall(self) -> None:
        """Stop reading, until `read_again`: what the gateway sends waits at its side."""
        self.link.stall()

    def read_again(self) -> None:
        """End `stall`."""
        self.link.read_again()

    async def close(self) -> None:
        """Leave."""
        await self.client.close()
