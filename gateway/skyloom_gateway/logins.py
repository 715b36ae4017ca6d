"""How many clients may be authenticated at once, and how often an address may be denied.

hello --admit()--> [too many of its address, or denied too often: refused] --turn()--> authenticator
                                          wait in line for one of `at_once_max` --'       |
                                 a denial stays counted for a while <---------------------+
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from skyloom_gateway.auth import Denied
from skyloom_gateway.session.buckets import Buckets
from skyloom_gateway.wire import ErrorKind, WireError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

ADDRESSES_MAX: Final = 10_000
"""Addresses whose denials are remembered."""

_MINUTE_SECONDS: Final = 60.0

_CROWDED: Final = WireError(
    "gateway.too_many_logins",
    ErrorKind.RESOURCE_EXHAUSTED,
    "too many logins from this address at once: try again in a moment",
    retryable=True,
)


class Refused(Exception):
    """The client may not be authenticated now; `error` is what it is told."""

    def __init__(self, error: WireError) -> None:
        super().__init__(error.message)
        self.error = error


class Logins:
    """Bounds authentications, in all and of each address.

    Args:
        at_once_max: authentications under way; more wait for their turn.
        per_address_max: authentications of one address under way or waiting; more are refused.
        denials_per_minute: denials of one address in the long run and at once; more are not even looked at.
    """

    def __init__(self, at_once_max: int, per_address_max: int, denials_per_minute: int) -> None:
        self._turns = asyncio.Semaphore(at_once_max)
        self._per_address_max = per_address_max
        self._under_way: dict[str, int] = {}
        self._denials = Buckets(denials_per_minute / _MINUTE_SECONDS, denials_per_minute, ADDRESSES_MAX)

    @asynccontextmanager
    async def turn(self, address: str | None, now: float) -> AsyncIterator[None]:
        """Wait for the turn of a client, and authenticate it inside; what `Denied` leaves it counts as a denial.

        Args:
            address: what the client is counted under, None when it is not counted by address.
            now: seconds on a clock that never goes back.

        Raises:
            Refused: there are too many of its address, or it was denied too often.
        """
        if address is None:
            async with self._turns:
                yield
            return
        under_way = self._under_way.get(address, 0)
        if under_way >= self._per_address_max:
            raise Refused(_CROWDED)
        denials = self._denials.of(address)
        wait = denials.take(now)
        if wait:
            raise Refused(_denied_too_often(wait))
        self._under_way[address] = under_way + 1
        is_denied = False
        try:
            async with self._turns:
                yield
        except Denied:
            is_denied = True
            raise
        finally:
            if not is_denied:
                denials.give_back()
            self._leave(address)

    def _leave(self, address: str) -> None:
        left = self._under_way[address] - 1
        if left:
            self._under_way[address] = left
        else:
            del self._under_way[address]


def _denied_too_often(wait: float) -> WireError:
    return WireError(
        "gateway.too_many_denials",
        ErrorKind.RESOURCE_EXHAUSTED,
        "too many denied logins from this address: try again later",
        retryable=True,
        details={"retry_after": round(wait + 0.05, 1)},
    )
