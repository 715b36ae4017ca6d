"""Thousands of runs, in which services fail on purpose: their logs are nobody's reading."""

from collections.abc import Iterator
from typing import NoReturn

import pytest
import structlog


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Drop what is logged. To capture it would keep every traceback, and with it the whole world of each run."""
    processors = structlog.get_config()["processors"]  # this very list is what loggers made before now use
    before = list(processors)
    processors[:] = [_drop]
    yield
    processors[:] = before


def _drop(*_: object) -> NoReturn:
    raise structlog.DropEvent
