"""One gate for each test, in virtual time."""

import random
from collections.abc import AsyncIterator

import pytest

from skyloom import Node
from tests.gateway.cast import Dog, EchoAgent
from tests.gateway.players import World, open_gate


@pytest.fixture
async def gate_node() -> AsyncIterator[Node]:
    EchoAgent.reset()
    Dog.events.clear()
    async with Node("gate", rng=random.Random(3), watch_loop=False) as node:
        yield node


@pytest.fixture
async def world(gate_node: Node) -> World:
    return await open_gate(gate_node)
