"""The names under which services are found."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Final

from skyloom.message.errors import NameTaken

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterator

    from skyloom.message.address import Address

NAME_CHARS_MAX: Final = 128
NAMES_MAX: Final = 100_000
NAMES_COMPARED_MAX: Final = 200


class Names:
    """The names of one node: each stands for one living service."""

    def __init__(self) -> None:
        self._addresses: dict[str, Address] = {}
        self._names: dict[Address, list[str]] = {}
        self._waiting: dict[str, list[asyncio.Future[Address]]] = {}

    def near(self, name: str) -> str | None:
        """The name that is most like one that is not there; None on a node that has too many to look."""
        if len(self._addresses) > NAMES_COMPARED_MAX:
            return None
        return next(iter(difflib.get_close_matches(name, self._addresses, n=1)), None)

    def register(self, name: str, address: Address) -> None:
        """Give `address` a name. Raises NameTaken when another service has it, ValueError for a bad name."""
        if not 0 < len(name) <= NAME_CHARS_MAX or not name.isprintable():
            raise ValueError(f"name: 1 to {NAME_CHARS_MAX} printable characters are needed, got {len(name)}")
        holder = self._addresses.get(name)
        if holder is not None and holder != address:
            raise NameTaken(f"name {name!r} is taken by {holder}")
        if len(self._addresses) >= NAMES_MAX:
            raise ValueError(f"names: this node has {NAMES_MAX} already")
        if holder is None:
            self._addresses[name] = address
            self._names.setdefault(address, []).append(name)
        for future in self._waiting.pop(name, ()):
            if not future.done():
                future.set_result(address)

    def of(self, address: Address) -> list[str]:
        """The names that a service has."""
        return self._names.get(address, [])

    def find(self, name: str) -> Address | None:
        return self._addresses.get(name)

    def wait(self, name: str, future: asyncio.Future[Address]) -> None:
        """Have `future` filled when somebody registers the name; the one who waits bounds the time."""
        self._waiting.setdefault(name, []).append(future)

    def stop_waiting(self, name: str, future: asyncio.Future[Address]) -> None:
        futures = self._waiting.get(name)
        if futures is not None and future in futures:
            futures.remove(future)
            if not futures:
                del self._waiting[name]

    def forget(self, address: Address) -> list[str]:
        """Drop every name of a service that ended; returns them."""
        gone = self._names.pop(address, [])
        for name in gone:
            del self._addresses[name]
        return gone

    def __len__(self) -> int:
        return len(self._addresses)

    def __iter__(self) -> Iterator[tuple[str, Address]]:
        return iter(self._addresses.items())
