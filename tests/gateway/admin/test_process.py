"""What the console says of, and does to, the process that it runs in."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from skyloom import Node
from skyloom_gateway.admin.console import Console
from skyloom_gateway.log import configure
from skyloom_gateway.settings import LogSettings


async def run(node: Node, *words: str) -> Any:
    await node.unique(Console)
    return await node.call("CONSOLE", "lua", "run", list(words))


async def test_memory(gate_node: Node) -> None:
    found = await run(gate_node, "mem")
    assert len(found["gc_collections"]) == 3
    if "resident_bytes" in found:
        assert 10_000_000 < found["resident_bytes"] <= found["resident_bytes_peak"]


async def test_garbage_is_collected(gate_node: Node) -> None:
    ring: list[object] = []
    ring.append(ring)
    del ring
    found = await run(gate_node, "gc")
    assert found["unreachable_objects"] > 0
    assert found["seconds"] >= 0


@pytest.fixture
def lines() -> Iterator[io.BytesIO]:
    """What is logged, from `info` on; afterwards the log is as it was."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    file = io.BytesIO()
    configure(LogSettings(format="json"), file)
    yield file
    structlog.reset_defaults()
    logging.captureWarnings(False)
    root.handlers[:] = handlers
    root.setLevel(level)


async def test_the_level_changes_for_loggers_that_are_there_already(gate_node: Node, lines: io.BytesIO) -> None:
    logger = structlog.get_logger("old")
    logger.info("first")  # from here on it keeps its class
    logger.debug("unseen")
    bound = logger.bind(session=1)
    assert await run(gate_node, "log", "debug") == "logging from debug on"
    logger.debug("second")
    bound.debug("third")
    await run(gate_node, "log", "error")
    logger.warning("unseen")
    bound.error("fourth")
    events = [json.loads(line)["event"] for line in lines.getvalue().splitlines()]
    assert [event for event in events if event != "console: log"] == ["first", "second", "third", "fourth"]
