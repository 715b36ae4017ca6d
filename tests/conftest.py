"""Which event loop a test runs on."""

import asyncio
from collections.abc import Callable, Mapping

import pytest

from tests.virtual_loop import VirtualLoop

# These talk to other processes, which know nothing of virtual time.
REAL_TIME_FOLDERS = {"e2e", "packaging"}


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Give `real_time` tests and those of REAL_TIME_FOLDERS a real loop, all others a virtual one."""
    folders = item.path.relative_to(config.rootpath).parts[:-1]
    if item.get_closest_marker("real_time") or REAL_TIME_FOLDERS.intersection(folders):
        return {"real": asyncio.new_event_loop}
    return {"virtual": VirtualLoop}
