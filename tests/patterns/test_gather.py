"""gather and select: each rule of the pattern by its name."""

import asyncio
from typing import assert_type

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyloom import Address, Answer, CallError, Expired, Failed, MemoryNetwork, Node, NotExecuted, Service, rpc
from skyloom.patterns.gather import Gathered, gather, gather_calls
from skyloom.testing import SimLoop
from tests.core.cast import start
from tests.examples import examples


class Nope(Failed, code="test.nope"):
    """A refusal."""


class Source(Service):
    def __init__(self, value: int, seconds: float = 0.0, fails: bool = False) -> None:
        self.value, self.seconds, self.fails, self.asked = value, seconds, fails, 0
        self.left = 0.0

    @rpc
    async def price(self, factor: int) -> int:
        self.asked += 1
        self.left = self.request.deadline - self.clock.now()
        if self.seconds:
            await self.sleep(self.seconds)
        if self.fails:
            raise Nope(str(self.value))
        return self.value * factor


class Asker(Service):
    @rpc
    async def total(self, sources: list[Address]) -> int:
        gathered = await gather(self, sources, "lua", "price", 10, timeout=100)
        return sum(gathered.answers.values())


async def test_answers_by_source(node: Node) -> None:
    sources = [await start(node, Source, value) for value in range(3)]
    gathered = await gather(node.root, [source.address for source in sources], "lua", "price", 10)
    assert gathered.answers == {source.address: source.value * 10 for source in sources}
    assert (gathered.errors, gathered.complete) == ({}, True)
    assert gathered.all() is gathered.answers


async def test_errors_by_source_and_partial_results(node: Node) -> None:
    good, bad, slow = [await start(node, Source, n, s, f) for n, s, f in [(1, 0, False), (2, 1, True), (3, 9, False)]]
    dead = Address("solo", 999)
    gathered = await gather(node.root, [good.address, bad.address, slow.address, dead], "lua", "price", 10, timeout=2)
    assert gathered.answers == {good.address: 10}
    assert {source: type(error) for source, error in gathered.errors.items()} == {
        bad.address: Nope,
        slow.address: Expired,
        dead: NotExecuted,
    }
    assert not gathered.complete
    with pytest.raises(NotExecuted):
        gathered.all()


async def test_one_deadline_for_all(node: Node) -> None:
    sources = [await start(node, Source, n, 3600.0) for n in range(20)]
    clock = node.clock
    before = clock.now()
    gathered = await gather(node.root, [source.address for source in sources], "lua", "price", 1, timeout=2)
    assert clock.now() - before == 2
    assert len(gathered.errors) == 20
    assert {source.left for source in sources} == {2}


async def test_the_deadline_is_never_later_than_the_requests(node: Node) -> None:
    source, asker = await start(node, Source, 1, 3600.0), await start(node, Asker)
    with pytest.raises(Expired):
        await node.call(asker.address, "lua", "total", [source.address], timeout=1)
    assert source.left == 1


async def test_all_are_asked_at_once_and_each_only_once(node: Node) -> None:
    sources = [await start(node, Source, n, 1.0) for n in range(50)]
    addresses = [source.address for source in sources]
    before = node.clock.now()
    gathered = await gather(node.root, addresses * 2, "lua", "price", 1)
    assert node.clock.now() - before == 1
    assert (len(gathered.answers), {source.asked for source in sources}) == (50, {1})


async def test_between_nodes_and_a_lost_node_is_an_error_of_its_sources(
    nodes: tuple[Node, Node, MemoryNetwork],
) -> None:
    here, there, network = nodes
    near, far = await start(here, Source, 1, 1.0), await start(there, Source, 2, 1.0)
    here.loop.call_later(0.5, network.cut, "one", "two")
    gathered = await gather(here.root, [near.address, far.address], "lua", "price", 10)
    assert gathered.answers == {near.address: 10}
    assert gathered.errors[far.address].code == "skyloom.peer_lost"


async def test_typed_calls_under_keys_of_ones_own(node: Node) -> None:
    source = await start(node, Source, 4)
    at = Source.at(node.root, source.address)
    gathered = await gather_calls(node.root, {"twice": at.price(2), "thrice": at.price(3)})
    assert_type(gathered, Gathered[str, int])
    assert gathered.answers == {"twice": 8, "thrice": 12}


@pytest.mark.parametrize(("timeout", "seconds"), [(0.5, 0.5), (None, 5.0)])
async def test_calls_of_ones_own_end_by_the_deadline_whatever_their_own_is(
    node: Node, timeout: float | None, seconds: float
) -> None:
    hanging, quick = await start(node, Source, 1, 3600.0), await start(node, Source, 2)
    calls = {
        "hanging": node.root.call(hanging.address, "lua", "price", 1, timeout=60),
        "quick": node.root.call(quick.address, "lua", "price", 1, timeout=60),
    }
    before = node.clock.now()
    gathered = await gather_calls(node.root, calls, timeout=timeout)
    assert node.clock.now() - before == pytest.approx(seconds)
    assert gathered.answers == {"quick": 2}
    assert type(gathered.errors["hanging"]) is Expired


async def test_arguments_that_cannot_cross_are_an_error_of_the_caller(node: Node) -> None:
    source = await start(node, Source, 4)
    with pytest.raises(TypeError):
        await gather(node.root, [source.address], "lua", "price", object())


async def test_of_no_sources(node: Node) -> None:
    assert await gather(node.root, [], "lua", "price", 1) == Gathered()


async def test_too_many_sources_are_refused(node: Node) -> None:
    with pytest.raises(ValueError, match="10000"):
        await gather(node.root, [Address("solo", n) for n in range(10_001)], "lua", "price", 1)


async def ended(delays: list[int], timeout: float | None) -> list[tuple[int, bool]]:
    """Select over sources of these delays: their numbers in the order given, and whether they answered."""
    found = []
    async with Node("solo", watch_loop=False) as node:
        sources = {n: (await start(node, Source, n, float(delay))).address for n, delay in enumerate(delays)}
        calls = {n: node.root.call(source, "lua", "price", 1, timeout=1000) for n, source in sources.items()}
        answer: Answer[int, int]
        async for answer in node.root.select(calls, timeout=timeout):
            assert answer.error is None or isinstance(answer.error, CallError)
            assert answer.error is not None or answer.value == answer.key
            found.append((answer.key, answer.error is None))
    return found


@examples(60)
@given(st.lists(st.integers(0, 9), max_size=12), st.one_of(st.none(), st.just(4.5)))
def test_property_select_gives_answers_in_completion_order(delays: list[int], timeout: float | None) -> None:
    with asyncio.Runner(loop_factory=SimLoop) as runner:
        found = runner.run(ended(delays, timeout))
    in_time = [n for n in range(len(delays)) if timeout is None or delays[n] < timeout]
    late = [n for n in range(len(delays)) if n not in in_time]
    answered = [n for n, ok in found if ok]
    assert sorted(answered) == in_time
    assert [delays[n] for n in answered] == sorted(delays[n] for n in in_time)
    assert found[len(in_time) :] == [(n, False) for n in late]


async def test_answers_that_come_in_one_turn_come_in_their_order(node: Node) -> None:
    futures = {key: node.loop.create_future() for key in "abc"}

    async def waiting(key: str) -> str:
        answer: str = await futures[key]
        return answer

    def settle() -> None:
        for key in "cab":
            futures[key].set_result(key)

    node.clock.call_at(node.now() + 1, settle)
    answers = [answer.key async for answer in node.root.select({key: waiting(key) for key in futures})]
    assert answers == ["c", "a", "b"]


async def test_a_select_of_many_calls_costs_each_the_same(node: Node) -> None:
    # Quadratic, it would wake some 50 million times and run into the test's time limit.
    sources = [await node.spawn(Source, n, 1.0 + n / 1000) for n in range(10_000)]
    gathered = await gather(node.root, sources, "lua", "price", 1, timeout=100)
    assert list(gathered.answers.values()) == list(range(10_000))
