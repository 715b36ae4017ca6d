"""One connection of a client: greeted, then carried to its end."""

import asyncio
from collections.abc import Callable, Mapping

from skyloom_gateway.client.conversation import PONG_SECONDS, Begun, Complaint, Conversation, Event
from skyloom_gateway.client.errors import ConnectFailed, ConnectionLost, HelloRefused, ProtocolViolation
from skyloom_gateway.client.transport import CLOSE_TIMEOUT_SECONDS, Transport, TransportClosed

CLIENT_NAME = "skyloom-python"


class Line:
    """A transport, and the conversation on it.

        greet --> carry: one task reads, one sends what waited for the connection, one keeps it awake --> the end

    `flowing` says that all that waited has been sent, so that what comes now is next.
    """

    def __init__(self, transport: Transport, conversation: Conversation, hear: Callable[[Event], None]) -> None:
        self.transport = transport
        self.flowing = asyncio.Event()
        self._conversation = conversation
        self._hear = hear
        self._stir = asyncio.Event()
        self._fault: str | None = None
        self._now = asyncio.get_running_loop().time

    async def greet(self, auth: Mapping[str, object]) -> Begun:
        """Say hello and wait for the welcome; raises HelloRefused, or ConnectFailed when the answer is not the
        protocol's.
        """
        conversation, transport = self._conversation, self.transport
        try:
            await transport.send(conversation.connected(auth, {"name": CLIENT_NAME}, self._now()))
            while True:
                event = conversation.receive(await transport.receive(), self._now())
                if isinstance(event, Begun):
                    return event
                if isinstance(event, Complaint):
                    raise HelloRefused(event.error, await self._close_code())
                for frame in conversation.tick(self._now()).frames:
                    await transport.send(frame)
        except TransportClosed as closed:
            raise HelloRefused(conversation.complaint, closed.code, closed.reason) from closed
        except ProtocolViolation as violation:
            raise ConnectFailed(f"the gateway does not speak the protocol: {violation}") from violation

    async def _close_code(self) -> int | None:
        """The code of the close that follows an error, None when none comes soon."""
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_SECONDS):
                await self.transport.receive()
        except TransportClosed as closed:
            return self._conversation.lost(closed.code, closed.reason).code
        except TimeoutError:
            return None
        return None

    async def carry(self) -> ConnectionLost:
        """Use the connection to its end; returns why it ended, raises ProtocolViolation."""
        loop = asyncio.get_running_loop()
        helpers = [loop.create_task(self._repeat()), loop.create_task(self._keep_awake())]
        try:
            return await self._read()
        finally:
            for helper in helpers:
                helper.cancel()
            await asyncio.gather(*helpers, return_exceptions=True)
            self.flowing.set()  # who still waits for it learns that it has ended
            # The writing half must go too, also when the peer never closes its own.
            self.transport.abort()

    async def flush(self) -> None:
        """Send the requests that wait. What the connection's end cuts short is repeated on the next one."""
        try:
            while (frame := self._conversation.take()) is not None:
                await self.transport.send(frame)
        except TransportClosed:
            pass  # the reader, which may still hold frames that came before the end, says so

    async def _read(self) -> ConnectionLost:
        conversation, receive, now, hear = self._conversation, self.transport.receive, self._now, self._hear
        try:
            while True:
                data = await receive()
                due = conversation.due
                hear(conversation.receive(data, now()))
                if conversation.due < due:
                    self._stir.set()
        except TransportClosed as closed:
            return conversation.lost(closed.code, self._fault or closed.reason)

    async def _repeat(self) -> None:
        await self.flush()
        self.flowing.set()

    async def _keep_awake(self) -> None:
        """Answer pings, acknowledge pushes, ping a silent gateway, and give it up when it stays silent."""
        while True:
            tick = self._conversation.tick(self._now())
            if tick.dead:
                silent = self._conversation.heartbeat_seconds + PONG_SECONDS
                self._fault = f"the gateway sent nothing for {silent:g} s, not even a pong"
                self.transport.abort()
                return
            self._stir.clear()
            try:
                async with asyncio.timeout(tick.wait_seconds):
                    for frame in tick.frames:
                        await self.transport.send(frame)
                    await self._stir.wait()
            except TimeoutError:
                continue
            except TransportClosed:
                return  # the reader learns the same, and says so
