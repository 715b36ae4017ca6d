"""One node in virtual time."""

from collections.abc import AsyncIterator

import pytest

from skyloom import Node


@pytest.fixture
async def node() -> AsyncIterator[Node]:
    async with Node("core", watch_loop=False) as node:
        yield node
