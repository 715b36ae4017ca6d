"""What the transport promises holds whatever happens to the server and to the nodes."""

import asyncio
import random
from contextlib import suppress

import pytest

from skyloom.cluster.nats import NatsTransport
from skyloom.cluster.nats_life import STALLED_SECONDS
from skyloom.cluster.transport import NotConnected
from tests.nats import running_nats
from tests.quiet_loop import QuietLoop

pytestmark = [pytest.mark.quiet_time, pytest.mark.ci]

NAMES = ("a", "b.1", "c")
STEPS = 25


class End:
    """One node's end: it numbers what it sends, and checks what comes."""

    def __init__(self, name: str, url: str) -> None:
        self.name = name
        self.transport = NatsTransport(url, cluster="chaos")
        self.sent = 0
        self.last: dict[str, tuple[int, int]] = {}  # incarnation and number of the last message of each peer
        self.ended: dict[str, tuple[int, int]] = {}  # this one's and the peer's incarnation, when it was lost last
        self.losses = 0
        self.faults: list[str] = []

    @property
    def incarnation(self) -> int:
        life = self.transport._life
        return 0 if life is None else life._incarnation

    async def start(self) -> None:
        await self.transport.start(self.name, self.receive, self.lost)

    def receive(self, peer: str, data: bytes) -> None:
        meant, incarnation, number = map(int, data.split())
        before = self.last.get(peer, (0, 0))
        if (incarnation, number) <= before:
            self.faults.append(f"{self.name}: {peer} {incarnation} {number} after {before}")
        if meant != self.incarnation:
            self.faults.append(f"{self.name}: {peer} {number} was for {meant}, and this is {self.incarnation}")
        if (meant, incarnation) == self.ended.get(peer):
            self.faults.append(f"{self.name}: {peer} {incarnation} {number} after it was lost")
        if before[0] not in (0, incarnation) and self.ended.get(peer, (0, 0))[1] < before[0]:
            self.faults.append(f"{self.name}: {peer} {incarnation} before {before[0]} was lost")
        self.last[peer] = incarnation, number

    def lost(self, peer: str) -> None:
        self.losses += 1
        self.ended[peer] = self.incarnation, self.last.get(peer, (0, 0))[0]

    def tell(self, peer: str) -> None:
        self.sent += 1
        life = self.transport._life
        with suppress(NotConnected):
            meant = 0 if life is None else life.members.incarnation(peer)
            self.transport.send(peer, f"{meant} {self.incarnation} {self.sent}".encode())


async def all_hear_all(ends: list[End]) -> None:
    """Wait until each hears what each other one sends now."""
    floor = {end.name: end.sent for end in ends}
    async with asyncio.timeout(120):
        while any(end.last.get(peer, (0, 0))[1] <= floor[peer] for end in ends for peer in floor if peer != end.name):
            for end in ends:
                for peer in NAMES:
                    if peer != end.name:
                        end.tell(peer)
            await asyncio.sleep(0.5)


@pytest.mark.parametrize("seed", range(4))
async def test_in_order_once_and_nothing_of_a_life_that_was_lost(seed: int) -> None:
    rng = random.Random(seed)
    loop = asyncio.get_running_loop()
    assert isinstance(loop, QuietLoop)
    with running_nats() as server:
        ends = [End(name, server.url) for name in NAMES]
        for end in ends:
            await end.start()
        try:
            for _ in range(STEPS):
                for _ in range(rng.randrange(60)):
                    end, peer = rng.sample(ends, 2)
                    end.tell(peer.name)
                    if rng.random() < 0.2:
                        await asyncio.sleep(0)
                trouble = rng.randrange(9)
                end, peer = rng.sample(ends, 2)
                life = end.transport._life
                if trouble == 0:
                    server.kill()
                    await asyncio.sleep(rng.random() * 3)
                    server.start()
                elif trouble == 1:
                    server.freeze()
                    await asyncio.sleep(rng.random() * 10)
                    server.thaw()
                elif trouble == 2:
                    loop.stand_still(rng.random() * 2 * STALLED_SECONDS)
                elif trouble == 3 and life is not None:
                    life._cut()  # its connection is reset
                elif trouble == 4 and life is not None and peer.name in life.members:
                    life.members.lose(peer.name)  # as if it had been silent
                elif trouble == 5:
                    await end.transport.stop()
                    end.last.clear()  # who leaves is not told of losses
                    await end.start()
                else:
                    await asyncio.sleep(rng.random() * 2)
            await all_hear_all(ends)
        finally:
            server.thaw()
            for end in ends:
                await end.transport.stop()
        assert [fault for end in ends for fault in end.faults] == []
        assert sum(end.losses for end in ends) > 0
