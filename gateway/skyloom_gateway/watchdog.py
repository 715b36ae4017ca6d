"""An app's watchdog: a service that is told of its clients' connections."""

from __future__ import annotations

from typing import TYPE_CHECKING

from skyloom import Service

if TYPE_CHECKING:
    from skyloom import Address


class Watchdog(Service):
    """Subclass it, and give it to `App` as `watchdog`. It gets the gate's SOCKET messages."""

    async def on_start(self) -> None:
        """Begin to listen; call this when you override it."""
        self.dispatch("socket", self._on_socket)

    async def on_open(self, session: str, user: str, peer: str) -> None:
        """A client was let in; `peer` is its network address."""

    async def on_close(self, session: str, code: int, reason: str) -> None:
        """Its connection is gone; `code` is the close code."""

    async def on_warning(self, session: str, what: str) -> None:
        """It was told off: over a rate limit, for example."""

    async def _on_socket(self, session: int, source: Address, event: str, *args: object) -> None:
        handler = {"open": self.on_open, "close": self.on_close, "warning": self.on_warning}[event]
        await handler(*args)  # type: ignore[operator]  # the gate sends what the handlers take
