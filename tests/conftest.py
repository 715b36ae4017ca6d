"""Which event loop a test runs on, and how much Hypothesis tries."""

import asyncio
from collections.abc import Callable, Mapping

import pytest
import structlog

import tests.examples  # noqa: F401  # its profile must be there before the tests are
from skyloom.testing import SimLoop
from tests.quiet_loop import QuietLoop

pytest_plugins = ["tests.postgres"]

# These talk to other processes, which know nothing of virtual time.
REAL_TIME_FOLDERS = {"cluster", "e2e", "packaging"}


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Give `real_time` tests and those of REAL_TIME_FOLDERS a real loop, `quiet_time` ones a `QuietLoop`, all others
    a virtual one.
    """
    folders = item.path.relative_to(config.rootpath).parts[:-1]
    if item.get_closest_marker("quiet_time"):
        return {"quiet": QuietLoop}
    if item.get_closest_marker("real_time") or REAL_TIME_FOLDERS.intersection(folders):
        return {"real": asyncio.new_event_loop}
    return {"virtual": SimLoop}


def pytest_runtest_teardown() -> None:
    """Undo what a command set up for its whole process: the next tests want to capture their logs."""
    if structlog.get_config()["cache_logger_on_first_use"]:
        structlog.reset_defaults()
