"""A shop that is killed at random moments, while people buy, loses nothing and doubles nothing.

`SHOP_KILLS=full` kills it 100 times on each database, otherwise a few times.
"""

import asyncio
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.e2e.bank import UNLUCKY
from tests.e2e.shop_process import (
    DATABASES,
    FULL,
    Buyer,
    Items,
    ShopProcess,
    check,
    end_well,
    make_database,
    stock_up,
)

ROUNDS: Final = 10 if FULL else 1
KILLS: Final = 10 if FULL else 4  # in a row, before all has to end
BUYERS: Final = 12
LIFE_SECONDS: Final = (0.0, 0.6)

pytestmark = [pytest.mark.ci, pytest.mark.timeout(1800 if FULL else 300)]


def goods(rng: random.Random) -> Iterator[Items]:
    while True:
        wanted = rng.sample([("potion", 1), ("torch", 1), ("sword", 1), ("dragon-egg", 1), ("arrows", 9)], 2)
        yield tuple(wanted)


@pytest.mark.parametrize("database", DATABASES)
async def test_killed_at_random_moments_under_load_it_finishes_every_order(
    database: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    url = make_database(request, database, tmp_path)
    await stock_up(url, "arrows", 10_000)
    shop, rng = ShopProcess(tmp_path, url), random.Random(5)
    buyer = Buyer(shop)
    for at in range(ROUNDS):
        await kill_at_random(shop, url, buyer, rng, at)
    await shop.start()
    await buyer.ask_all_again()
    await shop.stop()
    answered = [code for _, (code, _, _) in buyer.answers.values()]
    assert answered.count("") >= KILLS * ROUNDS


async def kill_at_random(shop: ShopProcess, url: str, buyer: Buyer, rng: random.Random, number: int) -> None:
    """Kill it a few times in a row while these people buy; then all that they ordered ends."""
    is_over = False

    async def shopper(user: str) -> None:
        for order, wanted in enumerate(goods(random.Random(user))):
            if is_over:
                return
            await buyer.buy(user, f"o{order}", wanted)

    kinds = ["shopper"] * (BUYERS - 2) + [UNLUCKY] * 2
    names = [f"{kind}{number}-{at}" for at, kind in enumerate(kinds)]
    buying: list[asyncio.Task[object]] = [asyncio.create_task(shopper(name)) for name in names]
    try:
        for _ in range(KILLS):
            await shop.start()
            await asyncio.sleep(rng.uniform(*LIFE_SECONDS))
            await shop.kill()
            await check(url, all_ended=False)
        is_over = True
        await end_well(shop, url, buying)
    finally:
        for task in buying:
            task.cancel()
        await shop.stop()
