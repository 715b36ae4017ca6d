"""Every example in docs/examples that has an `async def main()` runs, and says something."""

import importlib.util
import sys
from pathlib import Path

import pytest

from skyloom import Node

EXAMPLES = Path(__file__).resolve().parents[2] / "docs" / "examples"
RUNNABLE = sorted(path for path in EXAMPLES.glob("*.py") if "\nasync def main() -> None:" in path.read_text("utf-8"))


@pytest.mark.parametrize("path", RUNNABLE, ids=lambda path: path.stem)
async def test_an_example_runs(path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    spec = importlib.util.spec_from_file_location(f"example_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setattr(Node, "watch_loop", lambda _: None)  # a thread in real time, for which the virtual clock waits
    monkeypatch.setitem(sys.modules, spec.name, module)  # so that its classes can travel
    spec.loader.exec_module(module)
    await module.main()
    assert capsys.readouterr().out.strip()


def test_there_are_examples() -> None:
    assert RUNNABLE
