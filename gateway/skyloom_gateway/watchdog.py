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
        """Its session has ended; `code` is the close code of the connection that ended it, or was lost before."""

    async def on_suspend(self, session: str, code: int, reason: str) -> None:
        """Its connection is lost, with that close code; the session waits for it."""

    async def on_resume(self, session: str, peer: str) -> None:
        """It came back, from that network address."""

    async def on_warning(self, session: str, what: str) -> None:
        """It was told off: over a rate limit, for example."""

    async def _on_socket(self, session: int, source: Address, event: str, *args: object) -> None:
        handler = {
            "open": self.on_open,
            "suspend": self.on_suspend,
            "resume": self.on_resume,
            "close": self.on_close,
            "warning": self.on_warning,
        }[event]
        await handler(*args)  # type: ignore[operator]  # the gate sends what the handlers take
