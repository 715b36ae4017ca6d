"""JSON schemas as contracts hold them: draft 07, as AsyncAPI has it by default.

Source: https://json-schema.org/draft-07 and https://www.asyncapi.com/docs/reference/specification/v3.0.0#schemaObject
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable

Schema: TypeAlias = dict[str, Any]

REFERENCE: Final = "#/components/schemas/"
"""What a `$ref` begins with, before the name of a schema."""

ANY_OBJECT: Final[Schema] = {"type": "object"}
"""What goes where a handler takes no body or gives no answer."""

WORDS: Final = frozenset({"title", "description", "examples", "deprecated", "$comment"})
"""Keywords for people."""

_MAPS: Final = frozenset({"properties", "patternProperties", "definitions"})
_LISTS: Final = frozenset({"allOf", "anyOf", "oneOf", "prefixItems", "items"})
_SINGLE: Final = frozenset(
    {"items", "additionalItems", "additionalProperties", "not", "contains", "propertyNames", "if", "then", "else"}
)


def map_children(schema: Schema, change: Callable[[Any], Any]) -> Schema:
    """A copy of a schema with `change` done to the schemas directly in it."""
    changed: Schema = {}
    for keyword, value in schema.items():
        if keyword in _MAPS and isinstance(value, dict):
            changed[keyword] = {name: change(child) for name, child in value.items()}
        elif keyword in _LISTS and isinstance(value, list):
            changed[keyword] = [change(child) for child in value]
        elif keyword in _SINGLE:
            changed[keyword] = change(value)
        else:
            changed[keyword] = value
    return changed


def references(schema: Any) -> set[str]:
    """The names of the schemas that a schema refers to, itself and in its parts."""
    found: set[str] = set()

    def visit(part: Any) -> Any:
        if isinstance(part, dict):
            if isinstance(part.get("$ref"), str):
                found.add(part["$ref"].removeprefix(REFERENCE))
            map_children(part, visit)
        return part

    visit(schema)
    return found


def wordless(schema: Any) -> Any:
    """The schema without what is for people, and in one order where order means nothing."""
    if not isinstance(schema, dict):
        return schema
    bare = map_children({key: value for key, value in schema.items() if key not in WORDS}, wordless)
    for keyword in ("required", "enum"):
        if isinstance(bare.get(keyword), list):
            bare[keyword] = sorted(bare[keyword], key=json.dumps)
    return bare


def draft07(schema: Any) -> Any:
    """A schema as pydantic writes it (draft 2020-12), as draft 07 has it.

    A union that a field tells apart becomes a plain one: the field is in each of its parts anyhow.
    """
    if not isinstance(schema, dict):
        return schema
    new = map_children(schema, draft07)
    if new.pop("discriminator", None) is not None and "oneOf" in new:
        new["anyOf"] = new.pop("oneOf")
    if (prefix := new.pop("prefixItems", None)) is not None:
        if "items" in new:
            new["additionalItems"] = new["items"]
        elif new.get("maxItems") == len(prefix):
            new["additionalItems"] = False
        new["items"] = prefix
    if "$ref" in new and len(new) > 1:  # what stands beside a $ref counts for nothing
        new = {"allOf": [{"$ref": new.pop("$ref")}], **new}
    return new
