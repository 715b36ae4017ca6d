"""What a schema says, in words for people."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from skyloom_gateway.contract.schema import REFERENCE

if TYPE_CHECKING:
    from skyloom_gateway.contract.schema import Schema

VALUES_MAX: Final = 8
"""Values of an enumeration that are named."""

CHARS_MAX: Final = 100
"""The longest text for one value or keyword."""

_TYPES: Final = {
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "null": "null",
    "array": "a list",
    "object": "an object",
}


def describe(schema: Any) -> str:
    """A few words for a schema: what kind of value it wants."""
    if not isinstance(schema, dict):
        return "anything" if schema else "nothing"
    if "$ref" in schema:
        return f"a {schema['$ref'].removeprefix(REFERENCE).partition('.')[2]}"
    if "const" in schema:
        return _value(schema["const"])
    if "enum" in schema:
        named = [_value(value) for value in schema["enum"][:VALUES_MAX]]
        return " or ".join([*named, "others"] if len(schema["enum"]) > VALUES_MAX else named)
    for keyword, between in (("anyOf", " or "), ("oneOf", " or "), ("allOf", " and ")):
        if schema.get(keyword):
            return _cut(between.join(describe(part) for part in schema[keyword]))
    if "type" not in schema:
        return "not just anything" if "not" in schema else "anything"
    kinds: list[str] = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    return " or ".join(_TYPES.get(kind, kind) for kind in kinds)


def keyword_value(schema: Schema, keyword: str) -> str:
    """What a schema says by a keyword."""
    return f"{keyword} {_value(schema[keyword])}" if keyword in schema else f"without {keyword}"


def presence(schema: Schema, name: str) -> str:
    """Whether a field of an object has to be there."""
    if name in schema.get("required", ()):
        return "always there"
    return "there or not" if name in schema.get("properties", ()) else "not there"


def field_path(path: str, name: str) -> str:
    """How the field of an object at `path` is called; odd names are quoted."""
    shown = name if name.isidentifier() and len(name) <= CHARS_MAX else _value(name)
    return f"{path}.{shown}"


def _value(value: object) -> str:
    # ASCII only, so that what a foreign file holds does nothing to a terminal.
    return _cut(json.dumps(value))


def _cut(text: str) -> str:
    return text if len(text) <= CHARS_MAX else f"{text[: CHARS_MAX - 1]}…"
