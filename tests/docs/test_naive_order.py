"""The seeds find the naive order's two faults, and the page quotes the commands that replay them."""

from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from docs.examples import naive_order
from skyloom.testing import Sim, simulate

EXAMPLE = "docs/examples/naive_order.py"
PAGE = Path(__file__).resolve().parents[2] / "docs/why/orders.md"


@pytest.mark.parametrize(
    "test", [naive_order.test_no_more_is_sold_than_there_is, naive_order.test_an_order_is_charged_once]
)
def test_a_fault_is_found_at_the_seed_that_the_page_names(test: Callable[[Sim], Coroutine[Any, Any, None]]) -> None:
    tried: list[int] = []

    async def one(sim: Sim) -> None:
        tried.append(sim.seed)
        await test(sim)

    with pytest.raises(AssertionError):
        simulate(one, seeds=range(200))
    assert f"{EXAMPLE}::{test.__name__} --seed {tried[-1]}\n" in PAGE.read_text("utf-8")
