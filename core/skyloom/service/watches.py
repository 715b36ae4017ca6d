"""Who in a service wants to know of the end of which other service."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from skyloom.message.address import Address
    from skyloom.service.service import Service


class Watches:
    """Lets several parts of one service monitor the same address, each with a callback of its own."""

    __slots__ = ("_callbacks", "_service")

    def __init__(self, service: Service) -> None:
        self._service = service
        self._callbacks: dict[Address, list[Callable[[Address, str], Awaitable[None]]]] = {}

    def add(self, address: Address, callback: Callable[[Address, str], Awaitable[None]]) -> None:
        """Call back once, when that service ends."""
        callbacks = self._callbacks.get(address)
        if callbacks is None:
            self._callbacks[address] = [callback]
            self._service.node.services.monitor(self._service.address, address)
        elif callback not in callbacks:
            callbacks.append(callback)

    def remove(self, address: Address, callback: Callable[[Address, str], Awaitable[None]]) -> None:
        """Take back `add`: the callback does not come, even if the end was under way already."""
        callbacks = self._callbacks.get(address)
        if callbacks is None or callback not in callbacks:
            return
        callbacks.remove(callback)
        if not callbacks:
            del self._callbacks[address]
            self._service.node.services.unmonitor(self._service.address, address)

    async def down(self, address: Address, how: str) -> None:
        """Handle the word of a service's end."""
        for callback in self._callbacks.pop(address, ()):
            await callback(address, how)
