"""What a node logs where nobody has set structlog up: where it went wrong, and not what was in the variables there."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import structlog

from skyloom import Failed, Node, Service, rpc
from tests.core.cast import start


@pytest.fixture
def untouched() -> Iterator[structlog.dev.ConsoleRenderer]:
    """structlog as it comes; what this process has made of it is put back."""
    renderer = structlog.dev.ConsoleRenderer.get_active()
    kept = renderer.exception_formatter
    renderer.exception_formatter = structlog.dev.default_exception_formatter
    yield renderer
    renderer.exception_formatter = kept


class Careless(Service):
    """Has a secret at hand where it breaks."""

    @rpc
    async def work(self, password: str) -> None:
        raise RuntimeError("broken" + password[:0])


async def break_it() -> None:
    async with Node("log", watch_loop=False) as node:
        careless = await start(node, Careless)
        with pytest.raises(Failed):
            await node.call(careless.address, "lua", "work", "hunter2")


async def test_a_traceback_has_no_variables(
    untouched: structlog.dev.ConsoleRenderer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(structlog, "is_configured", lambda: False)
    await break_it()
    printed = capsys.readouterr().out
    assert "handler failed" in printed
    assert "RuntimeError: broken" in printed
    assert "hunter2" not in printed


async def test_who_has_set_structlog_up_is_not_overruled(
    untouched: structlog.dev.ConsoleRenderer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(structlog, "is_configured", lambda: True)
    await break_it()
    assert "hunter2" in capsys.readouterr().out
