"""Batches: when they run, whom they answer and in which order."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from structlog.testing import capture_logs

from skyloom import Address, CallError, Expired, Failed, Node, NotExecuted, Service, Unknown, rpc
from skyloom.patterns.batcher import BATCH_REQUESTS_MAX, Batcher, BatchExpired, batched
from tests.core.cast import start

Order = tuple[str, int]


@pytest.fixture
async def node() -> AsyncIterator[Node]:
    async with Node("batch", watch_loop=False) as node:
        yield node


class NotSold(Failed, code="test.not_sold", kind="not_found"):
    """Nobody sells a negative number."""


class Shop(Service):
    """The exercise's service: prices of fish and wood, each kind in batches of its own."""

    def __init__(self) -> None:
        self.batches: list[tuple[float, list[Order]]] = []
        self.seconds = {"fish": 0.0, "wood": 0.0}
        self.ended: list[str] = []
        self.stubborn = False

    @rpc
    @batched(max_size=10, max_wait=0.1, key=lambda order: order[0], timeout=1.0)
    async def price(self, orders: list[Order]) -> list[int | Failed]:
        self.batches.append((self.clock.now(), list(orders)))
        kind = orders[0][0]
        try:
            await self.sleep(self.seconds[kind])
        except asyncio.CancelledError:
            if not self.stubborn:
                self.ended.append("cancelled")
                raise
            await self.sleep(5)
            self.ended.append("late")
        return [NotSold("no") if number < 0 else number * 2 for _, number in orders]

    @rpc
    @batched()
    async def size(self, orders: list[int]) -> list[int]:
        if 13 in orders:
            raise RuntimeError("thirteen")
        return [len(orders)] * len(orders)

    @rpc
    @batched(alone_on_error=True)
    async def fragile(self, orders: list[int]) -> list[int]:
        if 13 in orders:
            raise NotSold("thirteen")
        return orders

    @rpc
    @batched()
    async def short(self, orders: list[int]) -> list[int]:
        return orders[1:]

    @rpc
    @batched()
    async def suicidal(self, orders: list[int]) -> list[int]:
        raise asyncio.CancelledError

    @rpc
    async def two(self) -> int:
        return await self.size(1) + await self.size(2)


class Client(Service):
    """Sends requests and writes down in which order the answers came."""

    def __init__(self) -> None:
        self.answers: list[object] = []

    async def ask(self, shop: Address, order: Order, timeout: float | None = None) -> None:
        try:
            await Shop.at(self, shop, timeout=timeout).price(order)
        except CallError as error:
            self.answers.append((order, type(error)))
        else:
            self.answers.append(order)


async def ask(node: Node, shop: Shop, *orders: Order) -> list[asyncio.Task[int]]:
    tasks = [asyncio.ensure_future(node.call(shop.address, "lua", "price", order)) for order in orders]
    await asyncio.sleep(0)
    return tasks


async def test_a_batch_runs_when_ten_requests_are_in(node: Node) -> None:
    shop = await start(node, Shop)
    await asyncio.gather(*await ask(node, shop, ("fish", 0)))
    await asyncio.sleep(0.01)
    tasks = await ask(node, shop, *(("fish", number) for number in range(9)))
    await asyncio.sleep(0.01)
    assert len(shop.batches) == 1
    now = node.now()
    assert await asyncio.gather(*tasks, *await ask(node, shop, ("fish", 9))) == [0, 2, 4, 6, 8, 10, 12, 14, 16, 18]
    assert shop.batches[1] == (now, [("fish", number) for number in range(10)])


async def test_a_batch_runs_100_ms_after_the_last_one(node: Node) -> None:
    shop = await start(node, Shop)
    first = node.now()
    await asyncio.gather(*await ask(node, shop, ("fish", 0)))
    for wait in (0.03, 0.03, 0.03, 0.03):
        await asyncio.sleep(wait)
        await ask(node, shop, ("fish", 1))
    await asyncio.sleep(1)
    assert [time - first for time, _ in shop.batches] == pytest.approx([0, 0.1, 0.2])
    assert [len(orders) for _, orders in shop.batches] == [1, 3, 1]


async def test_the_last_batch_counts_not_the_last_request_also_when_it_was_full(node: Node) -> None:
    shop = await start(node, Shop)
    started = node.now()
    await ask(node, shop, ("fish", 0))
    await asyncio.sleep(0.05)
    await ask(node, shop, *[("fish", 1)] * 11)
    await asyncio.sleep(1)
    assert [time - started for time, _ in shop.batches] == pytest.approx([0, 0.05, 0.15])


async def test_the_first_after_a_quiet_time_does_not_wait_and_takes_its_moment_along(node: Node) -> None:
    shop = await start(node, Shop)
    for _ in range(3):
        now = node.now()
        await asyncio.gather(*await ask(node, shop, ("fish", 1), ("fish", 2), ("fish", 3)))
        assert shop.batches.pop() == (now, [("fish", 1), ("fish", 2), ("fish", 3)])
        assert node.now() == now
        await asyncio.sleep(0.11)


async def test_different_kinds_are_batched_apart(node: Node) -> None:
    shop = await start(node, Shop)
    orders: list[Order] = [("fish", 1), ("wood", 1), ("fish", 2), ("wood", 2)]
    await asyncio.gather(*await ask(node, shop, *orders))
    assert sorted(orders for _, orders in shop.batches) == [[("fish", 1), ("fish", 2)], [("wood", 1), ("wood", 2)]]


async def test_one_clients_answers_come_in_the_order_of_its_requests_even_across_kinds(node: Node) -> None:
    shop = await start(node, Shop)
    shop.seconds = {"fish": 0.5, "wood": 0.0}
    slow, other = await start(node, Client), await start(node, Client)
    orders: list[Order] = [("wood", 0), ("fish", 1), ("wood", 2), ("fish", -3), ("wood", 4)]
    for order in orders:
        slow.fork(slow.ask(shop.address, order))
    other.fork(other.ask(shop.address, ("wood", 9)))
    await asyncio.sleep(0.2)
    assert slow.answers == [("wood", 0)]
    assert other.answers == [("wood", 9)]
    await asyncio.sleep(0.5)
    assert slow.answers == [("wood", 0), ("fish", 1), ("wood", 2), (("fish", -3), NotSold), ("wood", 4)]


async def test_the_answers_of_a_batch_to_one_client_are_given_in_one_turn(node: Node) -> None:
    shop, client = await start(node, Shop), await start(node, Client)
    heard: list[int] = []
    turns = 0

    async def ask(number: int) -> None:
        await Shop.at(client, shop.address).fragile(number)
        heard.append(turns)

    async def count() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    counting = client.fork(count())
    await asyncio.gather(*(client.fork(ask(number)) for number in range(20, 30)))
    counting.cancel()
    assert heard[-1] == heard[0]


async def test_the_order_holds_across_the_batched_methods_of_a_service(node: Node) -> None:
    shop, client = await start(node, Shop), await start(node, Client)
    shop.seconds["fish"] = 0.5
    done: list[str] = []

    async def size() -> None:
        await Shop.at(client, shop.address).size(1)
        done.append("size")

    async def price() -> None:
        await Shop.at(client, shop.address).price(("fish", 1))
        done.append("price")

    client.fork(price())
    client.fork(size())
    await asyncio.sleep(1)
    assert done == ["price", "size"]


async def test_a_batch_that_takes_too_long_answers_its_callers_with_a_timeout_error(node: Node) -> None:
    shop = await start(node, Shop)
    shop.seconds["fish"] = 2.0
    started = node.now()
    with pytest.raises(BatchExpired) as caught:
        await node.call(shop.address, "lua", "price", ("fish", 1))
    assert isinstance(caught.value, TimeoutError)
    assert caught.value.kind == "deadline_exceeded"
    assert node.now() - started == pytest.approx(1.0)
    assert shop.ended == ["cancelled"]


async def test_a_late_result_harms_nobody(node: Node) -> None:
    shop = await start(node, Shop)
    shop.seconds["fish"], shop.stubborn = 2.0, True
    with pytest.raises(BatchExpired):
        await node.call(shop.address, "lua", "price", ("fish", 1))
    shop.seconds["fish"] = 0.0
    with capture_logs() as logs:
        assert await node.call(shop.address, "lua", "price", ("fish", 5)) == 10
        await asyncio.sleep(10)
    assert shop.ended == ["late"]
    assert logs == []
    assert node.counters["late_answers"] == 0


async def test_those_who_wait_behind_a_late_batch_get_their_answers_when_it_has_expired(node: Node) -> None:
    shop, client = await start(node, Shop), await start(node, Client)
    shop.seconds["fish"] = 100.0
    for order in (("fish", 1), ("wood", 2)):
        client.fork(client.ask(shop.address, order))
    await asyncio.sleep(1.01)
    assert client.answers == [(("fish", 1), BatchExpired), ("wood", 2)]


async def test_a_request_whose_deadline_passed_is_in_no_batch_and_holds_nobody_up(node: Node) -> None:
    shop, client = await start(node, Shop), await start(node, Client)
    await client.ask(shop.address, ("fish", 0))
    client.fork(client.ask(shop.address, ("fish", 1), timeout=0.05))
    await asyncio.sleep(0.2)
    assert [len(orders) for _, orders in shop.batches] == [1]
    assert client.answers == [("fish", 0), (("fish", 1), Expired)]
    shop.seconds["fish"] = 0.9
    client.fork(client.ask(shop.address, ("fish", 2), timeout=0.3))
    client.fork(client.ask(shop.address, ("wood", 3)))
    await asyncio.sleep(0.31)
    assert client.answers[2:] == [(("fish", 2), Expired), ("wood", 3)]


async def test_one_bad_request_fails_alone(node: Node) -> None:
    shop = await start(node, Shop)
    tasks = await ask(node, shop, ("fish", 1), ("fish", -1), ("fish", 3))
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(results[1], NotSold)
    assert [results[0], results[2]] == [2, 6]


async def test_one_bad_request_fails_alone_where_the_batch_raises_and_may_run_again(node: Node) -> None:
    shop = await start(node, Shop)
    calls = (node.call(shop.address, "lua", "fragile", number) for number in (12, 13, 14))
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(results[1], NotSold)
    assert [results[0], results[2]] == [12, 14]


async def test_a_batch_that_raises_fails_all_and_is_logged_once(node: Node) -> None:
    shop = await start(node, Shop)
    with capture_logs() as logs:
        calls = (node.call(shop.address, "lua", "size", number) for number in (12, 13, 14))
        results = await asyncio.gather(*calls, return_exceptions=True)
    assert [getattr(result, "code", None) for result in results] == ["skyloom.internal"] * 3
    assert [entry["event"] for entry in logs] == ["batch failed"]


async def test_a_batch_with_too_few_answers_fails_all(node: Node) -> None:
    shop = await start(node, Shop)
    results = await asyncio.gather(
        *(node.call(shop.address, "lua", "short", number) for number in range(3)), return_exceptions=True
    )
    assert [getattr(result, "code", None) for result in results] == ["skyloom.batch_answers"] * 3


async def test_a_batch_that_is_cancelled_answers_everybody(node: Node) -> None:
    shop = await start(node, Shop)
    results = await asyncio.gather(
        *(node.call(shop.address, "lua", "suicidal", number) for number in range(3)), return_exceptions=True
    )
    assert [getattr(result, "code", None) for result in results] == ["skyloom.batch_cancelled"] * 3


@pytest.mark.parametrize("how", ["exit", "kill"])
async def test_the_end_of_the_service_answers_everybody_at_once(node: Node, how: str) -> None:
    shop = await start(node, Shop)
    shop.seconds["fish"] = 0.9
    running = await ask(node, shop, ("fish", 1), ("fish", 2))
    await asyncio.sleep(0.01)
    waiting = await ask(node, shop, ("fish", 3))
    now = node.now()
    if how == "exit":
        shop.exit()
    else:
        node.kill(shop.address)
    results = await asyncio.gather(*running, *waiting, return_exceptions=True)
    assert [type(result) for result in results] == [Unknown] * 3
    assert node.now() == now
    await asyncio.sleep(10)


async def test_who_waits_outside_of_the_service_is_answered_when_it_ends(node: Node) -> None:
    shop = await start(node, Shop)
    batcher: Batcher[int, int] = Batcher(shop, shop.size.__wrapped__)  # type: ignore[attr-defined]  # never runs
    waiting = asyncio.ensure_future(batcher.submit(1))
    await asyncio.sleep(0)
    node.kill(shop.address)
    with pytest.raises(NotExecuted):
        await waiting
    assert batcher.unanswered == 0


async def test_a_cancelled_request_leaves_the_batch_and_the_line(node: Node) -> None:
    shop = await start(node, Shop)
    seen: list[list[int]] = []

    async def run(items: list[int]) -> list[int]:
        seen.append(items)
        await shop.sleep(0.05)
        return items

    batcher: Batcher[int, int] = Batcher(shop, run)
    await batcher.submit(0, client="ann")
    tasks = [shop.fork(batcher.submit(number, client="ann")) for number in range(1, 5)]
    await asyncio.sleep(0)
    tasks[0].cancel()  # it waits for its batch
    await asyncio.sleep(0.06)
    assert seen == [[0], [2, 3, 4]]
    tasks[1].cancel()  # its batch runs
    assert await asyncio.gather(*tasks[2:]) == [3, 4]
    assert batcher.unanswered == 0


async def test_the_place_of_a_cancelled_request_is_free_for_another(node: Node) -> None:
    shop = await start(node, Shop)
    seen: list[list[int]] = []

    async def run(items: list[int]) -> list[int]:
        seen.append(items)
        return items

    batcher: Batcher[int, int] = Batcher(shop, run, max_size=3, max_wait=10)
    await batcher.submit(0)
    tasks = [shop.fork(batcher.submit(number)) for number in (1, 2)]
    await asyncio.sleep(0.01)
    tasks[1].cancel()
    tasks.append(shop.fork(batcher.submit(3)))
    await asyncio.sleep(0.01)
    assert seen == [[0]]
    assert [*await asyncio.gather(tasks[0], tasks[2], shop.fork(batcher.submit(4)))] == [1, 3, 4]
    assert seen == [[0], [1, 3, 4]]


async def test_a_service_may_call_its_own_batched_method(node: Node) -> None:
    shop = await start(node, Shop)
    assert await node.call(shop.address, "lua", "two") == 2


async def test_there_is_a_limit(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    assert BATCH_REQUESTS_MAX == 10_000
    monkeypatch.setattr("skyloom.patterns.batcher.BATCH_REQUESTS_MAX", 2)
    shop = await start(node, Shop)

    async def run(items: list[int]) -> list[int]:
        return items

    batcher: Batcher[int, int] = Batcher(shop, run)
    results = await asyncio.gather(*(batcher.submit(number) for number in range(3)), return_exceptions=True)
    assert results[:2] == [0, 1]
    assert isinstance(results[2], NotExecuted)
    assert results[2].code == "skyloom.overloaded"


async def test_kinds_are_forgotten(node: Node) -> None:
    shop = await start(node, Shop)

    async def run(items: list[int]) -> list[int]:
        return items

    batcher: Batcher[int, int] = Batcher(shop, run, key=lambda item: item)
    await asyncio.gather(*(batcher.submit(number, client=number) for number in range(100)))
    assert len(batcher._kinds) == 100
    await asyncio.sleep(0.11)
    assert len(batcher._kinds) == len(batcher._order) == 0


@pytest.mark.parametrize("settings", [{"max_size": 0}, {"max_wait": -1}, {"timeout": 0}, {"timeout": float("inf")}])
def test_settings_that_cannot_be(settings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        batched(**settings)  # type: ignore[arg-type]  # wrong on purpose
