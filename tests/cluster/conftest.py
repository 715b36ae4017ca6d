"""Nodes joined by a real NATS server."""

from collections.abc import AsyncIterator, Iterator
from itertools import count

import pytest

from skyloom import Node
from skyloom.cluster.nats import NatsTransport
from tests.behaviour.world import World
from tests.nats import NatsServer, running_nats

_numbers = count(1)


@pytest.fixture(scope="session")
def nats() -> Iterator[NatsServer]:
    with running_nats() as server:
        yield server


@pytest.fixture
def cluster() -> str:
    """The name of a cluster of the test's own."""
    return f"test-{next(_numbers)}"


@pytest.fixture
async def world(nats: NatsServer, cluster: str) -> AsyncIterator[World]:
    async with (
        Node("there", watch_loop=False, transport=NatsTransport(nats.url, cluster=cluster)) as there,
        Node("here", watch_loop=False, transport=NatsTransport(nats.url, cluster=cluster)) as here,
    ):
        yield World(here, there, None)
