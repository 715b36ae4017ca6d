"""What `Transport` promises of leases, kept by every network in memory."""

import asyncio
import random

import pytest

from skyloom import Address, MemoryNetwork
from skyloom.cluster.transport import LEASE_SECONDS, RENEW_SECONDS, NotConnected
from skyloom.testing import Sim
from skyloom.testing.network import DETECT_SECONDS, SimNet, SimTransport

ON_ITS_WAY = 0.1


@pytest.fixture(params=["memory", "simulated"])
def network(request: pytest.FixtureRequest) -> MemoryNetwork | SimNet:
    return MemoryNetwork() if request.param == "memory" else SimNet(random.Random(7))


async def join(network: MemoryNetwork | SimNet, *names: str) -> list[SimTransport]:
    transports = []
    for name in names:
        transport = network.transport()
        await transport.start(name, lambda *_: None, lambda _: None)
        transports.append(transport)
    return transports  # type: ignore[return-value]  # of either kind, and one is as good as the other


async def test_one_holds_a_lease_and_the_others_do_not(network: MemoryNetwork | SimNet) -> None:
    a, b = await join(network, "a", "b")
    token = await a.hold("k")
    assert token > 0
    assert await b.hold("k") == 0
    assert await b.hold("another") > 0


async def test_a_lease_lasts_as_long_as_it_is_renewed_and_then_has_a_higher_token(
    network: MemoryNetwork | SimNet,
) -> None:
    a, b = await join(network, "a", "b")
    token = await a.hold("k")
    for _ in range(10):
        await asyncio.sleep(RENEW_SECONDS)
        assert await a.hold("k") == token
    await asyncio.sleep(LEASE_SECONDS - ON_ITS_WAY)
    assert await b.hold("k") == 0
    await asyncio.sleep(ON_ITS_WAY)
    later = await b.hold("k")
    assert later > token
    await asyncio.sleep(LEASE_SECONDS)
    assert await b.hold("k") > later, "taken anew, not renewed: another might have had it in between"


async def test_a_lease_given_back_is_free_at_once_but_only_by_its_holder(network: MemoryNetwork | SimNet) -> None:
    a, b = await join(network, "a", "b")
    token = await a.hold("k")
    await b.release("k")
    await b.release("none")
    assert await b.hold("k") == 0
    await a.release("k")
    assert await b.hold("k") > token
    await a.release("k")
    assert await a.hold("k") == 0


async def test_a_node_that_leaves_gives_back_all_it_has(network: MemoryNetwork | SimNet) -> None:
    a, b = await join(network, "a", "b")
    await a.hold("k")
    await b.hold("b")
    await a.stop()
    with pytest.raises(NotConnected):
        await a.hold("k")
    assert await b.hold("k") > 0
    (c,) = await join(network, "c")
    assert await c.hold("b") == 0


async def test_who_comes_back_under_a_name_is_another_holder(network: MemoryNetwork | SimNet) -> None:
    (a,) = await join(network, "a")
    token = await a.hold("k")
    network.isolate("a")  # so that the keeper does not hear of its end
    await a.stop()
    network.rejoin("a")
    (a,) = await join(network, "a")
    assert await a.hold("k") == 0
    await asyncio.sleep(LEASE_SECONDS)
    assert await a.hold("k") > token


async def test_who_is_isolated_learns_nothing_and_keeps_nothing(network: MemoryNetwork | SimNet) -> None:
    a, b = await join(network, "a", "b")
    token = await a.hold("k")
    network.isolate("a")
    for attempt in (a.hold, a.release):
        with pytest.raises(NotConnected):
            await attempt("k")
    assert await b.hold("k") == 0
    network.rejoin("a")
    assert await a.hold("k") == token
    network.isolate("a")
    await asyncio.sleep(LEASE_SECONDS)
    assert await b.hold("k") > token


async def test_the_newest_announcement_of_a_name_counts(network: MemoryNetwork | SimNet) -> None:
    a, b, c = await join(network, "a", "b", "c")
    a.announce("WORLD", Address("a", 7))
    b.announce("WORLD", Address("b", 8))
    a.withdraw("WORLD", Address("a", 7))
    assert await c.resolve("WORLD") == Address("b", 8)


async def test_questions_take_the_networks_time(sim: Sim) -> None:
    a, b = await join(sim.network, "a", "b")
    sim.network.faults(delay=(0.4, 0.5))
    began = sim.now()
    assert await a.hold("k") > 0
    assert 0.8 <= sim.now() - began <= 1.0
    await asyncio.sleep(5)
    asking = asyncio.ensure_future(a.hold("k"))
    await asyncio.sleep(0.7)
    sim.network.isolate("a")
    with pytest.raises(NotConnected):
        await asking
    await asyncio.sleep(LEASE_SECONDS - 3)
    assert await b.hold("k") == 0, "the keeper has renewed it; the answer was lost"


async def test_what_is_lost_on_its_way_is_not_known(sim: Sim) -> None:
    (a,) = await join(sim.network, "a")
    sim.network.faults(loss=1.0)
    began = sim.now()
    with pytest.raises(NotConnected):
        await a.hold("k")
    assert sim.now() >= began + DETECT_SECONDS
