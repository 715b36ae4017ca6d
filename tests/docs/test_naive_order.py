"""The seeds find the naive order's two faults, and the page quotes the commands that replay them."""

import importlib
from pathlib import Path

import pytest

from docs.examples import naive_order
from skyloom.testing import Sim, simulate

EXAMPLE = "docs/examples/naive_order.py"
PAGE = Path(__file__).resolve().parents[2] / "docs/why/orders.md"


@pytest.mark.parametrize("test", ["test_no_more_is_sold_than_there_is", "test_an_order_is_charged_once"])
def test_a_fault_is_found_at_the_seed_that_the_page_names(test: str) -> None:
    module = importlib.reload(naive_order)  # another test loads it too, and the last one to do so owns its error's code
    tried: list[int] = []

    async def one(sim: Sim) -> None:
        tried.append(sim.seed)
        await getattr(module, test)(sim)

    with pytest.raises(AssertionError):
        simulate(one, seeds=range(200))
    assert f"{EXAMPLE}::{test} --seed {tried[-1]}\n" in PAGE.read_text("utf-8")
