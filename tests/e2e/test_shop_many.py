"""Several processes of the gateway on one database, and many clients who want the same."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from skyloom_gateway.client import Client
from tests.e2e.shop_process import (
    DATABASES,
    Answer,
    Buyer,
    ShopProcess,
    check,
    codes,
    look,
    make_database,
    pieces,
    place,
    running_shops,
    stock_up,
)

BUYERS = 200
PIECES = 50
AT_ONCE = 50
TABS = 5

pytestmark = [pytest.mark.ci, pytest.mark.timeout(240)]


@pytest.fixture(params=DATABASES)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return make_database(request, request.param, tmp_path)


@pytest.fixture
def new_shop(url: str, tmp_path: Path) -> Callable[[], ShopProcess]:
    return lambda: ShopProcess(tmp_path, url, "skyloom_shop:app")


async def test_two_hundred_buyers_get_the_fifty_that_there_are(url: str, new_shop: Callable[[], ShopProcess]) -> None:
    await stock_up(url, "dragon-egg", PIECES - 3)
    shops = [new_shop(), new_shop(), new_shop()]
    async with running_shops(*shops):
        buyers = [Buyer(*shops[number % 3 :], *shops[: number % 3]) for number in range(BUYERS)]

        async def all_buy() -> list[Answer]:
            wanted = (("dragon-egg", 1),)
            return await asyncio.gather(*(buyer.buy(f"user{at}", "o", wanted) for at, buyer in enumerate(buyers)))

        answers = await all_buy()
        assert codes(answers).count("") == PIECES
        assert codes(answers).count("shop.out_of_stock") == BUYERS - PIECES
        assert len({transaction for _, transaction, _ in answers}) == PIECES + 1  # and "" for those without
        await check(url, all_ended=True)
        assert await look(url, pieces, "dragon-egg") == (0, 0, PIECES)


async def test_one_order_placed_fifty_times_at_once_is_one_order(url: str, new_shop: Callable[[], ShopProcess]) -> None:
    shops = [new_shop(), new_shop()]
    sword = (("sword", 1),)
    first: set[Answer] = set()
    for _ in range(2):  # and once more after a restart
        async with running_shops(*shops):
            tabs: list[Client] = [await shops[number % 2].client("ada") for number in range(TABS)]
            answers = await asyncio.gather(*(place(tabs[at % TABS], "o1", sword) for at in range(AT_ONCE)))
            first = first or {answers[0]}
            assert set(answers) == first
            assert answers[0][0] == ""
            assert await place(tabs[0], "o1", (("sword", 2),)) == ("shop.order_mismatch", "", 0)
            assert await place(tabs[1], "o1", (("potion", 1),)) == ("shop.order_mismatch", "", 0)
            assert await tabs[0].request("shop.balance") == {"balance": 10_000 - 2_500}
            assert await look(url, pieces, "sword") == (39, 0, 1)
            for tab in tabs:
                await tab.close()
        await check(url, all_ended=True)
