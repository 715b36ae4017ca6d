"""A TCP proxy that breaks connections in mid-byte, as a bad network does."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

READ_BYTES = 4096


class CuttingProxy:
    """Forwards connections to a port of this machine; the next ones are cut after so many bytes as `budget` says, None
    for never, counted both ways.
    """

    def __init__(self, target: int) -> None:
        self.port = 0
        self.budget: Callable[[], int | None] = lambda: None
        self._target = target
        self._links: set[_Link] = set()

    def cut_all(self) -> None:
        """Break every connection now."""
        for link in list(self._links):
            link.abort()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        other_reader, other_writer = await asyncio.open_connection("127.0.0.1", self._target)
        link = _Link(self.budget(), (writer, other_writer))
        self._links.add(link)
        try:
            await asyncio.gather(link.pump(reader, other_writer), link.pump(other_reader, writer))
        finally:
            self._links.discard(link)
            link.abort()


class _Link:
    def __init__(self, left: int | None, writers: tuple[asyncio.StreamWriter, asyncio.StreamWriter]) -> None:
        self._left, self._writers = left, writers

    async def pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(READ_BYTES):
                if self._left is not None:
                    data, self._left = data[: self._left], self._left - len(data)
                writer.write(data)
                await writer.drain()
                if self._left is not None and self._left <= 0:
                    self.abort()
                    return
            writer.write_eof()
        except OSError:
            self.abort()  # one side broke off: so does the other

    def abort(self) -> None:
        for writer in self._writers:
            writer.transport.abort()


@asynccontextmanager
async def cutting_proxy(target: int) -> AsyncIterator[CuttingProxy]:
    proxy = CuttingProxy(target)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        proxy.cut_all()
        await server.wait_closed()


def at_random(seed: int, most_bytes: int) -> Callable[[], int]:
    """A budget for each connection, from a seed."""
    chance = random.Random(seed)
    return lambda: chance.randint(1, most_bytes)
