"""Whether what a file calls JSON schemas are such, as far as contracts use them."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

from skyloom_gateway.contract.contract import ContractError
from skyloom_gateway.contract.schema import REFERENCE, map_children

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_TYPES: Final = frozenset({"string", "integer", "number", "boolean", "null", "array", "object"})
_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,200}")
_NUMBERS: Final = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
_COUNTS: Final = ("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties")
_LISTS: Final = ("anyOf", "allOf", "oneOf")
_MAPS: Final = ("properties", "patternProperties", "definitions")
# Keywords whose schemas are about the same value and not about a part of it.
_SAME_VALUE: Final = frozenset({*_LISTS, "not", "if", "then", "else"})


def check_schemas(named: Mapping[str, Any], others: Mapping[str, Any]) -> None:
    """Look at all schemas of a document.

    Args:
        named: those that references lead to.
        others: those of bodies and answers, by what they are called.

    Raises:
        ContractError: one is wrong; says which, and what about it.
    """
    for name, schema in named.items():
        if not _NAME.fullmatch(name):
            raise ContractError(f"components.schemas: {json.dumps(name[:100])} is no name: letters, digits, _ . -")
        _check(schema, f"components.schemas.{name}", named)
    for where, schema in others.items():
        _check(schema, where, named)
    _check_loops(named)


def _check(schema: Any, where: str, named: Mapping[str, Any]) -> None:
    if isinstance(schema, bool):
        return
    if not isinstance(schema, dict):
        raise ContractError(f"{where}: a schema is an object, true or false")
    for keyword, value in schema.items():
        rule = _RULES.get(keyword)
        if rule is not None and not rule(value):
            raise ContractError(f"{where}: {keyword} has a value that it may not have")
    reference = schema.get("$ref")
    if reference is not None and reference.removeprefix(REFERENCE) not in named:
        raise ContractError(f"{where}: $ref {json.dumps(reference[:100])} leads nowhere")

    def check_part(part: Any) -> Any:
        _check(part, where, named)
        return part

    map_children(schema, check_part)


def _check_loops(named: Mapping[str, Any]) -> None:
    """Refuse a type that is itself, with nothing between: no value could be told to be one."""
    same = {name: _same_value(schema) for name, schema in named.items()}
    while ready := [name for name, others in same.items() if not others & same.keys()]:
        for name in ready:
            del same[name]
    if same:
        raise ContractError(f"components.schemas.{min(same)}: it refers to itself, with nothing between")


def _same_value(schema: Any) -> set[str]:
    """The names that a schema refers to for the very value that it is about."""
    if not isinstance(schema, dict):
        return set()
    found = {schema["$ref"].removeprefix(REFERENCE)} if "$ref" in schema else set()
    for keyword in _SAME_VALUE & schema.keys():
        parts = schema[keyword]
        for part in parts if isinstance(parts, list) else [parts]:
            found |= _same_value(part)
    return found


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def _is_type(value: Any) -> bool:
    kinds = value if isinstance(value, list) and value else [value]
    return all(isinstance(each, str) and each in _TYPES for each in kinds)


def _is_values(value: Any) -> bool:
    return isinstance(value, list) and len(value) > 0


def _is_step(value: Any) -> bool:
    return _is_number(value) and value > 0


_RULES: Final[Mapping[str, Callable[[Any], bool]]] = {
    **dict.fromkeys(_NUMBERS, _is_number),
    **dict.fromkeys(_COUNTS, _is_count),
    **dict.fromkeys(_LISTS, _is_values),
    **dict.fromkeys(_MAPS, lambda value: isinstance(value, dict)),
    **dict.fromkeys(("$ref", "pattern", "format", "title", "description"), lambda value: isinstance(value, str)),
    "required": _is_names,
    "type": _is_type,
    "enum": _is_values,
    "multipleOf": _is_step,
    "uniqueItems": lambda value: isinstance(value, bool),
}
