"""One node in virtual time, or two."""

from collections.abc import AsyncIterator

import pytest

from skyloom import MemoryNetwork, Node
from skyloom.patterns.saga_store import MemorySagaStore
from tests.patterns.saga_world import Order, World


@pytest.fixture
async def node() -> AsyncIterator[Node]:
    async with Node("solo", watch_loop=False) as node:
        yield node


@pytest.fixture
async def nodes() -> AsyncIterator[tuple[Node, Node, MemoryNetwork]]:
    """Two nodes, and the network between them."""
    network = MemoryNetwork()
    async with (
        Node("one", watch_loop=False, transport=network.transport()) as one,
        Node("two", watch_loop=False, transport=network.transport()) as two,
    ):
        yield one, two, network


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def store() -> MemorySagaStore[Order]:
    return MemorySagaStore()
