"""Who is in the cluster, as one node sees it; no I/O, and time only as ticks.

A node's connection to the others is an *incarnation*: a number, higher each time it joins anew. A node that was lost
stays lost: what an incarnation sends after that is refused, for its calls have been failed and its watchers forgotten,
and only a later incarnation is a member again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from skyloom.message.address import Address

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

SILENT_TICKS_MAX: Final = 5
"""Ticks without a word after which a node is lost."""

GONE_MAX: Final = 10_000
"""Nodes that have left whose last incarnation is remembered; the oldest are forgotten first."""


class Member:
    """Another node."""

    __slots__ = ("incarnation", "names", "silent")

    def __init__(self, incarnation: int) -> None:
        self.incarnation = incarnation
        self.names: dict[str, tuple[int, int]] = {}  # handle, and how many names had been heard before
        self.silent = 0


class Members:
    """The other nodes. ``lost(node)`` is called for each that has gone, before anything of its next life."""

    def __init__(self, lost: Callable[[str], None]) -> None:
        self._lost = lost
        self._members: dict[str, Member] = {}
        self._gone: dict[str, int] = {}
        self._heard = 0

    def __contains__(self, node: str) -> bool:
        return node in self._members

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def incarnation(self, node: str) -> int:
        """The incarnation of a member, 0 for a node that is none."""
        member = self._members.get(node)
        return 0 if member is None else member.incarnation

    def admit(self, node: str, incarnation: int) -> bool:
        """Whether what this incarnation says may be heard; one that is new becomes a member."""
        member = self._members.get(node)
        if member is not None and member.incarnation == incarnation:
            member.silent = 0
            return True
        if incarnation <= max(self.incarnation(node), self._gone.get(node, 0)):
            return False
        if member is not None:
            self.lose(node)
        self._members[node] = Member(incarnation)
        return True

    def named(self, node: str, names: Mapping[str, int]) -> None:
        """A member says what names its services have: each with its handle."""
        member = self._members[node]
        known, member.names = member.names, {}
        for name, handle in names.items():
            found = known.get(name)
            if found is None or found[0] != handle:
                self._heard += 1
                found = handle, self._heard
            member.names[name] = found

    def left(self, node: str, incarnation: int) -> None:
        """A node says goodbye."""
        if self.incarnation(node) == incarnation:
            self.lose(node)

    def tick(self) -> list[str]:
        """Count the silence of all; those that were silent for too long are lost, and returned."""
        silent = []
        for node, member in self._members.items():
            member.silent += 1
            if member.silent > SILENT_TICKS_MAX:
                silent.append(node)
        for node in silent:
            self.lose(node)
        return silent

    def lose(self, node: str) -> None:
        """A member is gone, and its incarnation for good."""
        member = self._members.pop(node)
        self._gone.pop(node, None)
        self._gone[node] = member.incarnation
        if len(self._gone) > GONE_MAX:
            del self._gone[next(iter(self._gone))]
        self._lost(node)

    def find(self, name: str) -> Address | None:
        """The service of that name; of several the one that was heard of last."""
        newest, address = 0, None
        for node, member in self._members.items():
            handle, heard = member.names.get(name, (0, 0))
            if heard > newest:
                newest, address = heard, Address(node, handle)
        return address
