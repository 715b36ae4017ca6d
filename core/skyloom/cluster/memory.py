"""The transport's in-memory twin: several nodes in one process, joined by a `MemoryNetwork`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from skyloom.cluster.keeper import LeaseKeeper
from skyloom.cluster.transport import NotConnected

if TYPE_CHECKING:
    from collections.abc import Callable

    from skyloom.message.address import Address


class MemoryNetwork:
    """Joins the nodes whose transports it made::

        network = MemoryNetwork()
        async with Node("a", transport=network.transport()) as a, Node("b", transport=network.transport()) as b:
            ...

    Messages are bytes and arrive one turn of the event loop later, in order for each pair. `cut` parts two nodes
    until `mend`. `isolate` parts a node from the keeper of the leases alone, until `rejoin`.
    """

    def __init__(self) -> None:
        self.members: dict[str, MemoryTransport] = {}
        self.names: dict[str, Address] = {}
        self.leases = LeaseKeeper()
        self._cuts: set[frozenset[str]] = set()
        self._isolated: set[str] = set()

    def transport(self) -> MemoryTransport:
        """A transport for one more node."""
        return MemoryTransport(self)

    def connected(self, one: str, other: str) -> bool:
        return one in self.members and other in self.members and frozenset((one, other)) not in self._cuts

    def cut(self, one: str, other: str) -> None:
        """Part two nodes: each sees the other as lost."""
        self._cuts.add(frozenset((one, other)))
        for here, peer in ((one, other), (other, one)):
            member = self.members.get(here)
            if member is not None:
                member.peer_lost(peer)

    def mend(self, one: str, other: str) -> None:
        """Join again what `cut` parted."""
        self._cuts.discard(frozenset((one, other)))

    def isolate(self, node: str) -> None:
        """Part a node from the keeper of the leases: it can neither renew one nor give one back."""
        self._isolated.add(node)

    def rejoin(self, node: str) -> None:
        """Take back `isolate`."""
        self._isolated.discard(node)

    def has_leases(self, node: str) -> bool:
        """Whether a node reaches the keeper of the leases."""
        return node in self.members and node not in self._isolated


class MemoryTransport:
    """One node's end of a `MemoryNetwork`."""

    def __init__(self, network: MemoryNetwork) -> None:
        self._network = network
        self._node = ""
        # How often each peer was lost: what was under way from before a loss does not arrive.
        self._losses: dict[str, int] = {}

    async def start(self, node: str, receive: Callable[[str, bytes], None], lost: Callable[[str], None]) -> None:
        if node in self._network.members:
            raise ValueError(f"the network has a node {node!r} already")
        self._loop = asyncio.get_running_loop()
        self._node, self._receive, self._lost = node, receive, lost
        self._network.members[node] = self

    def send(self, node: str, data: bytes) -> None:
        if not self._network.connected(self._node, node):
            raise NotConnected(f"node {node!r} is not connected")
        peer = self._network.members[node]
        self._loop.call_soon(peer.arrive, self._node, data, peer._losses.get(self._node, 0))

    def arrive(self, peer: str, data: bytes, losses: int) -> None:
        """Take in what a peer sent, unless the peer was lost in between."""
        if losses == self._losses.get(peer, 0) and self._network.connected(self._node, peer):
            self._receive(peer, data)

    def peer_lost(self, peer: str) -> None:
        self._losses[peer] = self._losses.get(peer, 0) + 1
        self._lost(peer)

    def nodes(self) -> list[str]:
        return [
            name for name in self._network.members if self._network.connected(self._node, name) and name != self._node
        ]

    def announce(self, name: str, address: Address) -> None:
        self._network.names[name] = address

    def withdraw(self, name: str, address: Address) -> None:
        if self._network.names.get(name) == address:
            del self._network.names[name]

    async def resolve(self, name: str) -> Address | None:
        address = self._network.names.get(name)
        if address is None or not self._network.connected(self._node, address.node):
            return None
        return address

    async def hold(self, key: str) -> int:
        self._reach_leases(key)
        return self._network.leases.hold(key, self, self._loop.time())

    async def release(self, key: str) -> None:
        self._reach_leases(key)
        self._network.leases.release(key, self)

    def _reach_leases(self, key: str) -> None:
        if not self._network.has_leases(self._node):
            raise NotConnected(f"the lease {key!r} is not known: node {self._node!r} is isolated")

    async def stop(self) -> None:
        if self._network.has_leases(self._node):
            self._network.leases.leave(self)
        self._network.members.pop(self._node, None)
        for name, address in list(self._network.names.items()):
            if address.node == self._node:
                del self._network.names[name]
        for peer in list(self._network.members.values()):
            peer.peer_lost(self._node)
