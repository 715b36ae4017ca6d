"""Connections that are kept open and lent out, so many at most.

What to write::

    self.pool = ConnectionPool(self, connect, close=Connection.close, check=Connection.ping, max_size=10)
    async with self.pool.connection() as connection:
        await connection.execute("...")

Who comes when all are lent waits in a line, first come first served, and gets NotExecuted (code
``skyloom.pool_exhausted``) at the `acquire_seconds`, or at the deadline of the request being handled. A connection is
closed instead of being lent again when it is older than `max_age_seconds`, when `check` says that it is dead (asked
after `check_idle_seconds` of rest), and when the block that used it was cancelled: nobody knows what it was in the
middle of. After a block that raised it is checked first, or closed if there is no `check`.

Opening, checking and closing happen in tasks of the service's own, never in that of the one who waits. So cancelling
the latter at any moment loses no connection: what was opened for it goes to the next in line, or rests.

    waiting -> [ line ] -> opening or checking -> lent -> resting -> ...
                           `--------- at most max_size, with those being closed ---------'
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

import structlog

from skyloom.message.errors import CallError, NotExecuted

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

    from skyloom.node.clock import Timer
    from skyloom.service.service import Service

C = TypeVar("C")

POOL_SIZE: Final = 10
"""Connections of one pool."""

POOL_WAITERS_MAX: Final = 1_000
"""Those who may wait in line; more are refused."""

ACQUIRE_SECONDS: Final = 5.0
CONNECT_SECONDS: Final = 5.0
CHECK_SECONDS: Final = 1.0
CLOSE_SECONDS: Final = 1.0
CHECK_IDLE_SECONDS: Final = 30.0
MAX_AGE_SECONDS: Final = 3_600.0

log = structlog.get_logger("skyloom.pool")


@dataclass(slots=True, eq=False)
class _Open(Generic[C]):
    """An open connection."""

    connection: C
    opened: float
    used: float
    doubtful: bool = False


class _Waiter(Generic[C]):
    __slots__ = ("future", "timer")

    def __init__(self, future: asyncio.Future[_Open[C]]) -> None:
        self.future = future
        self.timer: Timer | None = None


class ConnectionPool(Generic[C]):
    """A pool of what `connect` opens; see the module's docstring. All times are in seconds.

    ``await connect()`` gives a connection, ``await close(connection)`` ends it, ``await check(connection)`` is False,
    or raises, when it is dead. `max_size` bounds the connections, those being opened and closed included, and
    `POOL_WAITERS_MAX` those who wait. The pool belongs to `service`, and closes with `aclose`, best from its `on_stop`.
    """

    def __init__(
        self,
        service: Service,
        connect: Callable[[], Coroutine[Any, Any, C]],
        *,
        close: Callable[[C], Coroutine[Any, Any, object]],
        check: Callable[[C], Coroutine[Any, Any, bool]] | None = None,
        max_size: int = POOL_SIZE,
        acquire_seconds: float = ACQUIRE_SECONDS,
        connect_seconds: float = CONNECT_SECONDS,
        check_seconds: float = CHECK_SECONDS,
        close_seconds: float = CLOSE_SECONDS,
        check_idle_seconds: float = CHECK_IDLE_SECONDS,
        max_age_seconds: float = MAX_AGE_SECONDS,
    ) -> None:
        if max_size < 1:
            raise ValueError("max_size: at least 1 connection is needed")
        self._service, self._connect, self._close, self._check = service, connect, close, check
        self._max_size, self._acquire_seconds = max_size, acquire_seconds
        self._connect_seconds, self._check_seconds, self._close_seconds = connect_seconds, check_seconds, close_seconds
        self._check_idle_seconds, self._max_age_seconds = check_idle_seconds, max_age_seconds
        self._resting: list[_Open[C]] = []
        self._lent: dict[int, _Open[C]] = {}
        self._line: deque[_Waiter[C]] = deque()
        self._preparing = 0
        self._closing = 0
        self._closed = False
        self._emptied: asyncio.Future[None] | None = None

    # -- who watches -----------------------------------------------------------------------------------------

    @property
    def size(self) -> int:
        """Connections that there are, those being opened and closed included; never more than `max_size`."""
        return len(self._resting) + len(self._lent) + self._preparing + self._closing

    @property
    def resting(self) -> int:
        """Open connections that nobody uses."""
        return len(self._resting)

    @property
    def lent(self) -> int:
        """Connections in use."""
        return len(self._lent)

    @property
    def waiting(self) -> int:
        """Those who wait in line."""
        return len(self._line)

    # -- who uses --------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[C]:
        """Borrow a connection for a block. Raises as `acquire`."""
        connection = await self.acquire()
        try:
            yield connection
        except Exception:
            self.release(connection, doubtful=True)
            raise
        except BaseException:
            self.release(connection, broken=True)
            raise
        self.release(connection)

    async def acquire(self) -> C:
        """Borrow a connection, until `release`. Raises NotExecuted, or the error of `connect`."""
        if self._closed:
            raise NotExecuted("the pool is closed", code="skyloom.pool_closed")
        if not self._line and self._resting and not self._worn(self._resting[-1]):
            return self._lend(self._resting.pop()).connection
        if len(self._line) >= POOL_WAITERS_MAX:
            raise self._exhausted(f"{len(self._line)} wait for a connection")
        service = self._service
        future: asyncio.Future[_Open[C]] = service.node.loop.create_future()
        waiter = _Waiter(future)
        deadline = min(service.clock.now() + self._acquire_seconds, service.deadline)
        waiter.timer = service.clock.call_at(deadline, self._expire, waiter)
        self._line.append(waiter)
        try:
            self._prepare()
            return (await future).connection
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and future.exception() is None:
                self.release(future.result().connection)  # it was ours already; the next one gets it
            elif waiter in self._line:
                self._line.remove(waiter)
            raise
        finally:
            waiter.timer.cancel()

    def release(self, connection: C, *, doubtful: bool = False, broken: bool = False) -> None:
        """Give a connection back; `doubtful` has it checked before it is lent again, `broken` closed.

        Raises ValueError for one that is not lent.
        """
        lent = self._lent.pop(id(connection), None)
        if lent is None:
            raise ValueError("release: this connection is not lent by this pool, or was given back before")
        now = self._service.clock.now()
        lent.used = now
        lent.doubtful = doubtful
        if broken or self._closed or (doubtful and self._check is None) or now >= lent.opened + self._max_age_seconds:
            self._discard(lent)
        elif self._line and not doubtful:
            self._hand(lent)
        else:
            self._resting.append(lent)
            self._prepare()

    async def aclose(self) -> None:
        """Refuse who waits and who comes, close what rests, and wait until what is lent is back and closed."""
        self._closed = True
        while self._line:
            self._refuse(self._line.popleft(), NotExecuted("the pool is closed", code="skyloom.pool_closed"))
        while self._resting:
            self._discard(self._resting.pop())
        if self.size:
            if self._emptied is None:
                self._emptied = self._service.node.loop.create_future()
            await asyncio.shield(self._emptied)

    # -- inside ----------------------------------------------------------------------------------------------

    def _exhausted(self, reason: str) -> NotExecuted:
        return NotExecuted(f"no connection is free: {reason}", code="skyloom.pool_exhausted", kind="resource_exhausted")

    def _expire(self, waiter: _Waiter[C]) -> None:
        if not waiter.future.done():
            self._line.remove(waiter)
            text = f"{len(self._lent)} of {self._max_size} are lent, {len(self._line)} others wait"
            waiter.future.set_exception(self._exhausted(text))

    @staticmethod
    def _refuse(waiter: _Waiter[C], error: BaseException) -> None:
        if not waiter.future.done():
            waiter.future.set_exception(error)

    def _worn(self, entry: _Open[C]) -> bool:
        """Whether it must be closed, or checked, before it is lent."""
        now = self._service.clock.now()
        if now >= entry.opened + self._max_age_seconds:
            return True
        return self._check is not None and (entry.doubtful or now >= entry.used + self._check_idle_seconds)

    def _lend(self, entry: _Open[C]) -> _Open[C]:
        self._lent[id(entry.connection)] = entry
        return entry

    def _hand(self, entry: _Open[C]) -> None:
        """Give a good connection to the first in line, or let it rest."""
        while self._line:
            waiter = self._line.popleft()
            if not waiter.future.done():
                waiter.future.set_result(self._lend(entry))
                return
        self._resting.append(entry)

    def _prepare(self) -> None:
        """Get a connection ready for everybody in line, as far as there is room."""
        while self._preparing < len(self._line):
            entry = self._resting.pop() if self._resting else None
            if entry is not None and not self._worn(entry):
                self._hand(entry)
                continue
            if entry is None and self.size >= self._max_size:
                return
            self._preparing += 1
            preparing = self._get_ready(entry)
            try:
                self._service.fork(preparing)
            except NotExecuted as ended:
                self._preparing -= 1
                self._refuse(self._line.popleft(), ended)

    async def _get_ready(self, entry: _Open[C] | None) -> None:
        """In a task of its own: check or open a connection and hand it to the first in line."""
        error: BaseException | None = None
        ready: _Open[C] | None = None
        try:
            if entry is not None and await self._good(entry):
                ready = entry
            else:
                if entry is not None:
                    await self._end(entry.connection)
                async with asyncio.timeout(self._connect_seconds):
                    connection = await self._connect()
                now = self._service.clock.now()
                ready = _Open(connection, now, now)
        except CallError as failed:
            error = failed
        except TimeoutError:
            text = f"connecting took longer than {self._connect_seconds} s"
            error = NotExecuted(text, code="skyloom.pool_connect")
        except Exception as failed:  # noqa: BLE001  # the one who waits gets it
            error = NotExecuted(f"connecting failed: {failed!r}", code="skyloom.pool_connect")
            error.__cause__ = failed
        except asyncio.CancelledError:
            error = NotExecuted("connecting was cancelled", code="skyloom.pool_connect")
            raise
        finally:
            self._preparing -= 1
            if ready is None:
                self._failed(error)
            elif self._closed:
                self._discard(ready)
            else:
                ready.doubtful = False
                self._hand(ready)
            self._changed()

    def _failed(self, error: BaseException | None) -> None:
        """Opening failed: the first in line learns it, the others are tried for anew."""
        while self._line:
            waiter = self._line.popleft()
            if not waiter.future.done():
                self._refuse(waiter, error or NotExecuted("connecting failed", code="skyloom.pool_connect"))
                return

    async def _good(self, entry: _Open[C]) -> bool:
        if self._service.clock.now() >= entry.opened + self._max_age_seconds:
            return False
        if self._check is None:
            return True
        try:
            async with asyncio.timeout(self._check_seconds):
                return await self._check(entry.connection)
        except Exception as error:  # noqa: BLE001  # it is dead, whatever it says
            log.info("a connection is dead", service=self._service.title, error=repr(error))
            return False

    async def _end(self, connection: C) -> None:
        try:
            async with asyncio.timeout(self._close_seconds):
                await self._close(connection)
        except Exception as error:  # noqa: BLE001  # there is no more to be done for it
            log.warning("a connection did not close", service=self._service.title, error=repr(error))

    def _discard(self, entry: _Open[C]) -> None:
        """Close a connection in a task of its own; it counts until it is closed."""

        async def discard() -> None:
            try:
                await self._end(entry.connection)
            finally:
                self._closing -= 1
                self._changed()

        self._closing += 1
        closing = discard()
        try:
            self._service.fork(closing)
        except NotExecuted:  # the service has ended, and with it all that could close anything
            self._closing -= 1

    def _changed(self) -> None:
        if self._closed:
            if self._emptied is not None and not self.size and not self._emptied.done():
                self._emptied.set_result(None)
        else:
            self._prepare()
