"""The page about clusters says what is so: its limits are the code's."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from skyloom.cluster import members, nats, nats_life, transport

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "operate" / "cluster.md").read_text(encoding="utf-8")
LIMITS = re.findall(r"^\| `([A-Z_]+)` \| ([\d,.]+) \|", PAGE, re.MULTILINE)


def test_the_page_has_the_limits() -> None:
    assert len(LIMITS) > 8


@pytest.mark.parametrize(("name", "value"), LIMITS)
def test_a_limit_is_the_codes(name: str, value: str) -> None:
    found = {getattr(module, name) for module in (members, nats, nats_life, transport) if hasattr(module, name)}
    assert found == {float(value.replace(",", ""))}
