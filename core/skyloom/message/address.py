"""Where a service lives."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

HANDLE_MAX: Final = 0xFFFF_FFFF

_PRINTED = re.compile(r":([0-9a-f]{8})@([A-Za-z0-9_.-]{1,64})")


class Address(NamedTuple):
    """The address of one service: immutable, hashable, and itself a value that may be sent.

    ``node`` is the node's name, ``handle`` a uint32 that the node never gives out twice while it lives.
    Printed as ``:0000002a@game-1``.
    """

    node: str
    handle: int

    def __str__(self) -> str:
        return f":{self.handle:08x}@{self.node}"

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read back what ``str(address)`` printed. Raises ValueError for anything else."""
        found = _PRINTED.fullmatch(text)
        if found is None:
            raise ValueError(f"not an address: {text[:80]!r}; one looks like ':0000002a@game-1'")
        return cls(found[2], int(found[1], 16))
