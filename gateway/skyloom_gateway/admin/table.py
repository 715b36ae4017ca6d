"""A console's results as text for people. What came from clients cannot drive the terminal: see `log.clean_text`."""

from __future__ import annotations

import json
from typing import Any, Final

from skyloom_gateway.log import clean_text

CELL_CHARS_MAX: Final = 500
GAP: Final = "  "


def as_text(result: object) -> str:
    """Text as it is, rows as a table with the note below, other fields one to a line."""
    if isinstance(result, dict):
        if isinstance(rows := result.get("rows"), list):
            return "\n".join([*_rows(rows), *([_cell(note)] if (note := result.get("note")) else [])])
        return "\n".join(_fields(result))
    return _cell(result)


def _fields(fields: dict[str, Any]) -> list[str]:
    width = max((len(name) for name in fields), default=0)
    lines = []
    for name, value in fields.items():
        if isinstance(value, list) and value and all(isinstance(row, dict) for row in value):
            lines += [clean_text(name), *(GAP + line for line in _rows(value))]
        else:
            lines.append(f"{clean_text(name).ljust(width)}{GAP}{_cell(value)}")
    return lines


def _rows(rows: list[dict[str, Any]]) -> list[str]:
    """A table; a cell that is a list of texts, such as a stack, stands below its row, a line for each."""
    if not rows:
        return []
    below = [name for name in rows[0] if all(_is_lines(row.get(name)) for row in rows)]
    columns = [name for name in rows[0] if name not in below]
    lines = [[*map(clean_text, columns)], *([_cell(row.get(name)) for name in columns] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(columns))]
    right = [all(_is_number(row.get(name)) for row in rows) for name in columns]
    shown = []
    for number, line in enumerate(lines):
        cells = zip(line, widths, right, strict=True)
        padded = [cell.rjust(width) if flush else cell.ljust(width) for cell, width, flush in cells]
        shown.append(GAP.join(padded).rstrip())
        if number:
            shown += [2 * GAP + clean_text(each, CELL_CHARS_MAX) for name in below for each in rows[number - 1][name]]
    return shown


def _is_lines(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def _is_number(value: object) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.10g}"
    if isinstance(value, list) and _is_lines(value):
        value = ", ".join(value)
    return clean_text(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False), CELL_CHARS_MAX)
