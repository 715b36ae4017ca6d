"""A network in memory that loses, delays, reorders and parts, all drawn from a seed.

    network = SimNet(random.Random(7))
    network.faults(loss=0.01, delay=(0.001, 0.2))
    async with Node("a", transport=network.transport()) as a, Node("b", transport=network.transport()) as b:
        network.partition({"a"}, {"b"})
        network.isolate("a")  # from the keeper of the leases
        network.heal()

What it keeps is what `Transport` promises: order within each pair of nodes, at most once, and after a loss of a peer
nothing more of what was under way. Everything else is chance: a message may vanish, take its time, and overtake those
of other pairs.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, TypeVar

from skyloom.cluster.keeper import LeaseKeeper
from skyloom.cluster.transport import NotConnected

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterable

    from skyloom.message.address import Address

DELAY_SECONDS: Final = (0.0005, 0.005)
"""Least and greatest time of a message on its way, unless told otherwise."""

DETECT_SECONDS: Final = 1.0
"""Time after which a node sees that a peer is cut off or has crashed; meanwhile what it sends there vanishes."""

Pair = tuple[str, str]

T = TypeVar("T")


class SimNet:
    """See the module's docstring. `rng` decides; `note` is told of each message's fate, for a trace."""

    def __init__(self, rng: random.Random, note: Callable[[str, str, str, bytes], object] = lambda *_: None) -> None:
        self._rng = rng
        self._note = note
        self._members: dict[str, SimTransport] = {}
        self._names: dict[str, Address] = {}
        self._parted: set[Pair] = set()
        self._unseen: set[Pair] = set()
        self._epochs: dict[Pair, int] = {}
        self._last: dict[Pair, float] = {}
        self._faults: dict[Pair | None, tuple[float, tuple[float, float]]] = {None: (0.0, DELAY_SECONDS)}
        self._paused: dict[str, list[Callable[[], None]]] = {}
        self._isolated: set[str] = set()
        self.leases = LeaseKeeper()
        self.in_flight = 0
        """Messages on their way."""
        self.lost = 0
        """Messages that vanished."""

    def transport(self) -> SimTransport:
        """A transport for one more node."""
        return SimTransport(self)

    # -- trouble ---------------------------------------------------------------------------------------------

    def faults(
        self, *, loss: float = 0.0, delay: tuple[float, float] = DELAY_SECONDS, pair: Pair | None = None
    ) -> None:
        """Lose messages with a probability of `loss`, and let the others take `delay` (least, greatest seconds).

        Holds for messages from now on, everywhere, or from ``pair[0]`` to ``pair[1]`` only.
        """
        if not 0.0 <= loss <= 1.0 or not 0.0 <= delay[0] <= delay[1]:
            raise ValueError(f"faults: loss is 0 to 1, delay (least, greatest) seconds; got {loss}, {delay}")
        self._faults[pair] = (loss, delay)

    def partition(self, *groups: Iterable[str], detect: float = DETECT_SECONDS) -> None:
        """Part the nodes of each group from those of the others; each side sees it after `detect` seconds."""
        sides = [sorted(group) for group in groups]
        for side in sides:
            for other in sides:
                if side is not other:
                    for one in side:
                        for peer in other:
                            self._part(one, peer, detect)

    def isolate(self, name: str) -> None:
        """Part a node from the keeper of the leases, not from other nodes: its questions and their answers are lost."""
        self._isolated.add(name)

    def rejoin(self, name: str) -> None:
        """Take back `isolate`."""
        self._isolated.discard(name)

    def heal(self) -> None:
        """Join all nodes again. A peer that was seen as lost is a new peer."""
        self._isolated.clear()
        for one, peer in sorted(self._parted & self._unseen):
            self._lose(one, peer)  # what vanished meanwhile must not be followed by what comes now
        self._parted.clear()
        self._unseen.clear()

    def crash(self, name: str, *, detect: float = DETECT_SECONDS) -> None:
        """Take a node off the network without a word; its peers see it after `detect` seconds."""
        self._members.pop(name, None)
        self._paused.pop(name, None)
        for peer in sorted(self._members):
            self._part(peer, name, detect)
        asyncio.get_running_loop().call_later(detect, self._forget, name)

    def pause(self, name: str) -> None:
        """Let what arrives at a node wait."""
        self._paused.setdefault(name, [])

    def resume(self, name: str) -> None:
        """Deliver what waited."""
        for deliver in self._paused.pop(name, ()):
            deliver()

    def _part(self, one: str, peer: str, detect: float) -> None:
        """From now on nothing comes from `peer` to `one`, which sees the loss after a while."""
        pair = (one, peer)
        if pair in self._parted:
            return
        self._parted.add(pair)
        self._unseen.add(pair)
        self._epochs[pair] = epoch = self._epochs.get(pair, 0) + 1

        def seen() -> None:
            if pair in self._unseen and self._epochs[pair] == epoch:
                self._lose(one, peer)

        asyncio.get_running_loop().call_later(detect, seen)

    def _lose(self, one: str, peer: str) -> None:
        self._unseen.discard((one, peer))
        self._epochs[one, peer] = self._epochs.get((one, peer), 0) + 1
        member = self._members.get(one)
        if member is not None:
            self._when_awake(one, lambda: member.peer_lost(peer))

    def _forget(self, name: str) -> None:
        if name not in self._members:
            self._names = {key: address for key, address in self._names.items() if address.node != name}
            self._parted = {pair for pair in self._parted if pair[1] != name}

    def _when_awake(self, name: str, deliver: Callable[[], None]) -> None:
        if name in self._paused:
            self._paused[name].append(deliver)
        else:
            deliver()

    # -- the transports' side --------------------------------------------------------------------------------

    def join(self, name: str, member: SimTransport) -> None:
        if name in self._members:
            raise ValueError(f"the network has a node {name!r} already")
        for one, peer in sorted(self._unseen):
            if peer == name:
                self._lose(one, peer)  # its predecessor, before anybody takes the new one for it
        self._members[name] = member
        self._isolated.discard(name)
        self._parted = {pair for pair in self._parted if name not in pair}
        self._unseen = {pair for pair in self._unseen if name not in pair}

    def seen_by(self, name: str) -> list[str]:
        """The nodes that another one can reach."""
        return [peer for peer in sorted(self._members) if peer != name and self.reaches(name, peer)]

    def leave(self, name: str, member: SimTransport) -> None:
        if self._members.get(name) is not member:
            return
        del self._members[name]
        if name not in self._isolated:
            self.leases.leave(member)
        self._forget(name)
        for peer in sorted(self._members):
            self._lose(peer, name)

    def has(self, name: str, member: SimTransport) -> bool:
        """Whether this transport is the node's, and the node has not crashed."""
        return self._members.get(name) is member

    def reaches(self, one: str, peer: str) -> bool:
        """Whether `one` believes that it is connected to `peer`."""
        pair = (one, peer)
        return pair in self._unseen or (peer in self._members and pair not in self._parted)

    def carry(self, source: str, peer: str, data: bytes) -> None:
        """Send a message on its way."""
        loss, (least, greatest) = self._faults.get((source, peer)) or self._faults[None]
        # Both are drawn whatever comes of them, so that a change of one leaves the rest of the run alike.
        chance, seconds = self._rng.random(), self._rng.uniform(least, greatest)
        self._note("send", source, peer, data)
        if chance < loss or (peer, source) in self._parted or peer not in self._members:
            self.lost += 1
            self._note("lose", source, peer, data)
            return
        loop = asyncio.get_running_loop()
        # Not before the one before it, and never at the same moment, for timers due together have no order.
        when = max(loop.time() + seconds, self._last.get((source, peer), 0.0) + 1e-9)
        self._last[source, peer] = when
        self.in_flight += 1
        epoch = self._epochs.get((peer, source), 0)
        loop.call_at(when, self._land, source, self._members[peer], peer, data, epoch)

    def _land(self, source: str, member: SimTransport, peer: str, data: bytes, epoch: int) -> None:
        self.in_flight -= 1

        def deliver() -> None:
            if self._members.get(peer) is not member or epoch != self._epochs.get((peer, source), 0):
                self.lost += 1
                self._note("lose", source, peer, data)
                return
            self._note("arrive", source, peer, data)
            member.receive(source, data)

        self._when_awake(peer, deliver)

    @property
    def next_arrival(self) -> float | None:
        """When the last message now under way will have arrived; None when there is none. In loop seconds."""
        return max(self._last.values()) if self.in_flight else None

    def announce(self, name: str, address: Address) -> None:
        self._names[name] = address

    def withdraw(self, name: str, address: Address) -> None:
        if self._names.get(name) == address:
            del self._names[name]

    def resolve(self, asker: str, name: str) -> Address | None:
        address = self._names.get(name)
        return address if address is not None and self.reaches(asker, address.node) else None

    def ask_keeper(self, name: str, member: SimTransport, question: Callable[[float], T]) -> asyncio.Future[T]:
        """Bring a question to the keeper of the leases, and the answer back. Both take their time and may get lost:
        then the future raises NotConnected after `DETECT_SECONDS` more, whether the keeper was asked or not.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        loss, (least, greatest) = self._faults[None]
        lost, lost_back = (self._rng.random() < loss for _ in range(2))
        there, back = (self._rng.uniform(least, greatest) for _ in range(2))

        def arrive() -> None:
            if not lost and name not in self._isolated and self.has(name, member):
                answer = question(loop.time())
                loop.call_later(back, land, answer)

        def land(answer: T) -> None:
            if not lost_back and name not in self._isolated and not future.done():
                future.set_result(answer)

        def give_up() -> None:
            if not future.done():
                future.set_exception(NotConnected(f"the leases are not known: no word came back to node {name!r}"))

        loop.call_later(there, arrive)
        loop.call_later(there + back + DETECT_SECONDS, give_up)
        return future


class SimTransport:
    """One node's end of a `SimNet`; a `skyloom.Transport`."""

    def __init__(self, network: SimNet) -> None:
        self._network = network
        self._node = ""
        self.receive: Callable[[str, bytes], None]
        self.peer_lost: Callable[[str], None]

    async def start(self, node: str, receive: Callable[[str, bytes], None], lost: Callable[[str], None]) -> None:
        self._node, self.receive, self.peer_lost = node, receive, lost
        self._network.join(node, self)

    def send(self, node: str, data: bytes) -> None:
        if not self._network.has(self._node, self) or not self._network.reaches(self._node, node):
            raise NotConnected(f"node {node!r} is not connected")
        self._network.carry(self._node, node, data)

    def nodes(self) -> list[str]:
        return self._network.seen_by(self._node)

    def announce(self, name: str, address: Address) -> None:
        self._network.announce(name, address)

    def withdraw(self, name: str, address: Address) -> None:
        self._network.withdraw(name, address)

    async def resolve(self, name: str) -> Address | None:
        return self._network.resolve(self._node, name)

    async def hold(self, key: str) -> int:
        leases = self._network.leases
        return await self._network.ask_keeper(self._node, self, lambda now: leases.hold(key, self, now))

    async def release(self, key: str) -> None:
        leases = self._network.leases
        await self._network.ask_keeper(self._node, self, lambda _: leases.release(key, self))

    async def stop(self) -> None:
        self._network.leave(self._node, self)
