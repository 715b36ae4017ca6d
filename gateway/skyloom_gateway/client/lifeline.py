"""What keeps a client connected: one connection after another, until it is closed or there is no hope."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

from skyloom_gateway.client.conversation import Begun, Conversation, Event
from skyloom_gateway.client.errors import ConnectFailed, ConnectionLost, HelloRefused, ProtocolViolation
from skyloom_gateway.client.line import Line
from skyloom_gateway.client.reconnecting import FINAL_CLOSE_CODES, STABLE_SECONDS, Backoff, Reconnect
from skyloom_gateway.client.status import Status
from skyloom_gateway.client.transport import Transport
from skyloom_gateway.wire.frame import Drain

Auth = Mapping[str, object] | Callable[[], Awaitable[Mapping[str, object]]]
Dial = Callable[[], Awaitable[Transport]]


class Owner(Protocol):
    """Whom a lifeline tells; a `Client`."""

    def hear(self, event: Event) -> None:
        """Something came from the gateway."""

    def begun(self, begun: Begun) -> None:
        """The client is back after a loss."""

    def become(self, status: Status) -> None:
        """The connection is doing otherwise."""

    def report(self, error: Exception) -> None:
        """Something went wrong that no caller waits for."""

    def ended(self, lost: ConnectionLost) -> None:
        """The client does not come back."""


class Lifeline:
    """See the module. `status` is how it is doing, `drain` the gateway's notice that it will close this connection,
    and setting `hurry` ends the wait before the next attempt.
    """

    def __init__(
        self,
        owner: Owner,
        conversation: Conversation,
        dial: Dial,
        auth: Auth,
        *,
        address: str,
        connect_timeout: float,
        reconnect: Reconnect | None,
        rng: random.Random,
    ) -> None:
        self.status = Status("connecting")
        self.drain: Drain | None = None
        self.hurry = asyncio.Event()
        self._owner = owner
        self._conversation = conversation
        self._dial = dial
        self._auth = auth
        self._address = address
        self._connect_timeout = connect_timeout
        self._reconnect = reconnect
        self._backoff = Backoff(reconnect or Reconnect(), rng)
        self._line: Line | None = None

    @property
    def line(self) -> Line | None:
        """The connection, while there is one."""
        return self._line if self.status.state == "connected" else None

    async def connect(self) -> Line:
        """One attempt. Raises ConnectFailed, HelloRefused, and what `auth` raises."""
        transport: Transport | None = None
        deadline = asyncio.timeout(self._connect_timeout)
        try:
            async with deadline:
                auth = await self._auth() if callable(self._auth) else self._auth
                transport = await self._dial()
                line = Line(transport, self._conversation, self._hear)
                begun = await line.greet(auth)
        except BaseException as error:
            if transport is not None:
                transport.abort()
            if isinstance(error, TimeoutError) and deadline.expired():
                raise ConnectFailed(f"no welcome from {self._address} within {self._connect_timeout:g} s") from error
            raise
        returns = self._line is not None
        self._line, self.drain = line, None
        self.become(Status("connected"))
        if returns:
            self._owner.begun(begun)
        return line

    async def live(self, line: Line) -> None:
        """Carry one connection after another, and tell the owner when that has come to an end."""
        now = asyncio.get_running_loop().time
        try:
            while True:
                since = now()
                lost = await line.carry()
                if now() - since >= STABLE_SECONDS:
                    self._backoff.reset()
                if self.status.state == "closed" or self._reconnect is None or lost.code in FINAL_CLOSE_CODES:
                    break
                back = await self._come_back(lost, now() + self._reconnect.give_up_seconds)
                if isinstance(back, ConnectionLost):
                    lost = back
                    break
                line = back
        except ProtocolViolation as violation:
            self._owner.report(violation)
            lost = ConnectionLost(None, str(violation))
        self._owner.ended(lost)

    async def _come_back(self, lost: ConnectionLost, until: float) -> Line | ConnectionLost:
        """Try until the gateway lets the client in; why not, when there is no hope or no time left."""
        now = asyncio.get_running_loop().time
        reason = lost.reason
        # The gateway spreads the returns of its clients itself.
        delay = self._backoff.next() if self.drain is None else self.drain.reconnect_in
        while now() + delay <= until:
            self.become(Status("suspended", reason, lost.code, delay))
            await self._pause(delay)
            self.become(Status("suspended", reason, lost.code))
            try:
                return await self.connect()
            except HelloRefused as refused:
                if refused.close_code in FINAL_CLOSE_CODES:
                    return ConnectionLost(refused.close_code, refused.message)
                reason = str(refused)
            except ConnectFailed as failed:
                reason = str(failed)
            except Exception as error:  # noqa: BLE001 - reported, not swallowed: the application's own `auth` failed
                self._owner.report(error)
                reason = f"there is no auth for the hello: {error}"
            delay = self._backoff.next()
        return ConnectionLost(lost.code, f"gave up coming back: {reason}", error=lost.error)

    async def _pause(self, seconds: float) -> None:
        self.hurry.clear()
        try:
            async with asyncio.timeout(seconds):
                await self.hurry.wait()
        except TimeoutError:
            pass

    def become(self, status: Status) -> None:
        """Take on a status, and tell of it. "closed" is the last."""
        if self.status.state == "closed":
            return
        self.status = status
        self._owner.become(status)

    def _hear(self, event: Event) -> None:
        if isinstance(event, Drain):
            self.drain = event
        self._owner.hear(event)
