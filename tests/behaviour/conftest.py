"""Every behaviour is tested within one node and between two."""

from collections.abc import AsyncIterator

import pytest

from skyloom import MemoryNetwork, Node
from tests.behaviour.world import World


@pytest.fixture(params=["one_node", "two_nodes"])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    if request.param == "one_node":
        async with Node("only", watch_loop=False) as node:
            yield World(node, node, None)
    else:
        network = MemoryNetwork()
        async with (
            Node("there", watch_loop=False, transport=network.transport()) as there,
            Node("here", watch_loop=False, transport=network.transport()) as here,
        ):
            yield World(here, there, network)
