"""The page about attackers says what is so: the defaults are the settings', and the tests are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from skyloom_gateway.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "operate" / "security.md").read_text(encoding="utf-8")
DEFAULTS = re.findall(r"`(gateway|log)\.(\w+)` (\d[\d,.]*\d|\d)", PAGE)
TESTS = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)


def test_the_page_names_settings_and_tests() -> None:
    assert len(DEFAULTS) > 30
    assert len(TESTS) > 25


@pytest.mark.parametrize(("section", "name", "value"), DEFAULTS)
def test_a_default_is_the_settings(section: str, name: str, value: str) -> None:
    assert getattr(getattr(Settings(), section), name) == float(value.replace(",", ""))


@pytest.mark.parametrize(("file", "name"), TESTS)
def test_a_test_is_there(file: str, name: str) -> None:
    assert re.search(rf"^(?:async )?def {name}\(", (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE)


def test_every_row_has_a_test() -> None:
    rows = [row for row in PAGE.splitlines() if row.startswith("|") and not re.match(r"\|(?: threat|---)", row)]
    assert len(rows) > 25
    assert [row for row in rows if "::" not in row] == []
