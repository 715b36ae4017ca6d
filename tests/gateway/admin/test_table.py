"""What a console prints."""

from __future__ import annotations

import datetime
from dataclasses import dataclass

import pytest
from pydantic import BaseModel

from skyloom import Address
from skyloom_gateway.admin.shown import shown
from skyloom_gateway.admin.table import CELL_CHARS_MAX, as_text


class Model(BaseModel):
    name: str


@dataclass
class Point:
    x: int
    at: Address


def test_a_table_has_its_numbers_on_the_right() -> None:
    rows = [{"name": "ada", "count": 5, "is": True}, {"name": "bartholomew", "count": 1_000, "is": None}]
    assert as_text({"rows": rows, "note": "and more"}).splitlines() == [
        "name         count  is",
        "ada              5  yes",
        "bartholomew   1000  -",
        "and more",
    ]


def test_a_stack_stands_below_its_row() -> None:
    rows = [{"what": "one", "frames": ["a", "b"], "left": 1.5}, {"what": "two", "frames": [], "left": None}]
    assert as_text({"rows": rows, "note": ""}).splitlines() == [
        "what  left",
        "one    1.5",
        "    a",
        "    b",
        "two      -",
    ]


def test_fields_stand_one_to_a_line() -> None:
    fields = {"a": 1, "long name": ["x", "y"], "inner": {"b": [1]}, "children": [{"id": "x"}]}
    assert as_text(fields).splitlines() == [
        "a          1",
        "long name  x, y",
        'inner      {"b": [1]}',
        "children",
        "  id",
        "  x",
    ]
    assert as_text({"rows": [], "note": ""}) == ""
    assert as_text("done") == "done"


@pytest.mark.parametrize("evil", ["\x1b[2J", "two\nlines", "\u202eright", "\x9b31m"])
def test_nothing_drives_the_terminal(evil: str) -> None:
    for result in (
        evil,
        {"rows": [{"a": evil, evil: 1}], "note": evil},
        {"a": evil, "b": [evil]},
        {"c": [{"d": [evil]}]},
    ):
        text = as_text(result)
        assert evil not in text
        assert all(line.isprintable() for line in text.splitlines())


def test_a_long_cell_is_cut() -> None:
    assert len(as_text({"a": "x" * 100_000})) < CELL_CHARS_MAX + 50


def test_any_value_has_a_form() -> None:
    address = Address("a", 42)
    assert shown({address: (1, {2}), 3: Point(1, address), "m": Model(name="x")}) == {
        ":0000002a@a": [1, [2]],
        "3": {"x": 1, "at": ":0000002a@a"},
        "m": {"name": "x"},
    }
    assert shown([b"\xff", datetime.date(2026, 1, 2), float("inf"), object]) == [
        "\\xff",
        "2026-01-02",
        float("inf"),
        "<class 'object'>",
    ]
    deep: list[object] = []
    for _ in range(100):
        deep = [deep]
    assert "..." in str(shown(deep))
