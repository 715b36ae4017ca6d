"""The pytest plugin: runs every ``async def`` test that takes `sim` once for each of many seeds.

    async def test_transfer(sim: Sim) -> None:  # a new world for each seed
        node = await sim.node("bank")
        ...

    pytest --seeds 1000                      as many seeds for each of these tests, instead of the marker's or 20
    pytest tests/test_bank.py --seed 17      only that seed, once: to replay a failure, under a debugger if wished

``@pytest.mark.sim(seeds=300)`` gives a test a number of its own. The first seed runs twice, and both runs must have
the same trace. A failure names its seed and the command that replays it.

A test runs on the simulation's loop and no other plugin's, pytest-asyncio included. The test's other fixtures are made
once, not once for each seed: make what a run changes within the run. Fixtures that need a loop of their own (``async
def`` ones) do not go together with `sim`. In a plain ``def`` test `sim` is a `Seeds`: call ``sim.run(main)``.

It is loaded by the package's entry point; ``-p no:skyloom.testing.plugin`` leaves it out.
"""

from __future__ import annotations

import inspect
import os
import shlex
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from skyloom.testing.sim import Run, Sim

SEEDS_DEFAULT: Final = 20
"""Seeds for each test, unless the command line or the marker says otherwise."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--seeds` and `--seed`."""
    group = parser.getgroup("skyloom", "Skyloom's simulator")
    group.addoption("--seeds", type=int, metavar="N", help=f"seeds for each test that takes `sim` [{SEEDS_DEFAULT}]")
    group.addoption("--seed", type=int, metavar="S", help="run the tests that take `sim` once, with this seed")


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known, and refuse an option that makes no sense."""
    config.addinivalue_line("markers", "sim(seeds): how many seeds a test that takes `sim` runs with")
    seeds = config.getoption("--seeds")
    if seeds is not None and seeds < 1:
        raise pytest.UsageError("--seeds: at least 1")


class Seeds:
    """The seeds of one test; what `sim` is in a test that is not ``async def``."""

    def __init__(self, item: pytest.Item) -> None:
        self._item = item

    def run(self, main: Callable[[Sim], Coroutine[Any, Any, object]]) -> list[Run]:
        """Run `main` for each seed; see `skyloom.testing.simulate`. A failure says how to replay it."""
        from skyloom.testing.sim import simulate

        config = self._item.config
        only: int | None = config.getoption("--seed")
        marker = self._item.get_closest_marker("sim")
        count = config.getoption("--seeds") or (marker.kwargs.get("seeds", SEEDS_DEFAULT) if marker else SEEDS_DEFAULT)
        running = 0

        async def one(sim: Sim) -> None:
            nonlocal running
            running = sim.seed
            await main(sim)

        try:
            return simulate(one, seeds=range(count) if only is None else [only], twice=only is None)
        except Exception as error:
            error.add_note(f"replay it with: {replay_command(self._item, running)}")
            raise


def replay_command(item: pytest.Item, seed: int) -> str:
    """The command that runs a test with one seed, from the folder where pytest was started."""
    path = os.path.relpath(item.path, item.config.invocation_params.dir)
    words = ["python", "-m", "pytest", "::".join([path, *item.nodeid.split("::")[1:]]), "--seed", str(seed)]
    hash_seed = os.environ.get("PYTHONHASHSEED")
    return ("" if hash_seed is None else f"PYTHONHASHSEED={shlex.quote(hash_seed)} ") + shlex.join(words)


@pytest.fixture
def sim(request: pytest.FixtureRequest) -> Seeds:
    """A simulated world, new for each seed: `skyloom.testing.Sim` (in an ``async def`` test)."""
    return Seeds(request.node)


def pytest_itemcollected(item: pytest.Item) -> None:
    """Let simulated tests be run by us alone, whatever class another plugin gave them."""
    if not isinstance(item, pytest.Function) or not inspect.iscoroutinefunction(item.obj):
        return
    if "sim" in inspect.signature(item.obj).parameters:
        item.setup = partial(pytest.Function.setup, item)  # type: ignore[method-assign]  # for this one item
        item.runtest = partial(_run, item)  # type: ignore[method-assign]  # for this one item


def _run(item: pytest.Function) -> None:
    names = [name for name in inspect.signature(item.obj).parameters if name in item.funcargs]
    others = {name: item.funcargs[name] for name in names if name != "sim"}
    seeds = item.funcargs["sim"]
    if not isinstance(seeds, Seeds):
        raise pytest.UsageError("the fixture `sim` is not Skyloom's: another plugin or conftest has one of that name")
    seeds.run(lambda sim: item.obj(sim=sim, **others))
