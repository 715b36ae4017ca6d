"""What a node logs where nobody has set structlog up: where it went wrong, and not what was in the variables there."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import structlog
from structlog.dev import ConsoleRenderer, RichTracebackFormatter

from skyloom import Failed, Node, Service, rpc
from skyloom.node import plain_log
from tests.core.cast import start


@pytest.fixture(autouse=True)
def as_it_comes() -> Iterator[ConsoleRenderer]:
    """structlog as it comes; what this process has made of it is put back."""
    structlog.reset_defaults()
    ((renderer, formatter),) = plain_log._AS_IT_COMES
    assert isinstance(formatter, RichTracebackFormatter)
    assert formatter.show_locals
    kept, renderer.exception_formatter = renderer.exception_formatter, formatter
    yield renderer
    renderer.exception_formatter = kept
    structlog.reset_defaults()


class Careless(Service):
    """Has a secret at hand where it breaks."""

    @rpc
    async def work(self, password: str) -> None:
        raise RuntimeError("broken" + password[:0])


async def logged(capsys: pytest.CaptureFixture[str]) -> str:
    async with Node("log", watch_loop=False) as node:
        careless = await start(node, Careless)
        with pytest.raises(Failed):
            await node.call(careless.address, "lua", "work", "hunter2")
    printed = capsys.readouterr().out
    assert "handler failed" in printed
    assert "broken" in printed
    return printed


async def test_a_traceback_has_no_variables(capsys: pytest.CaptureFixture[str]) -> None:
    printed = await logged(capsys)
    assert "RuntimeError: broken" in printed
    assert "hunter2" not in printed


async def test_nor_has_it_when_only_the_level_was_set(capsys: pytest.CaptureFixture[str]) -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("info"))
    assert "hunter2" not in await logged(capsys)


async def test_a_renderer_of_the_programs_own_is_left_alone(capsys: pytest.CaptureFixture[str]) -> None:
    structlog.configure(processors=[ConsoleRenderer()])
    assert "hunter2" in await logged(capsys)


async def test_so_is_a_formatter_of_its_own(as_it_comes: ConsoleRenderer, capsys: pytest.CaptureFixture[str]) -> None:
    as_it_comes.exception_formatter = RichTracebackFormatter(show_locals=True, color_system="auto")
    assert "hunter2" in await logged(capsys)
