"""The keywords of JSON schema that bound a value, and when one bound lies within another."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, floor
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from skyloom_gateway.contract.schema import Schema

_NUMBERS: Final = frozenset({"integer", "number"})
_INFINITE: Final = float("inf")


@dataclass(frozen=True, slots=True)
class Bound:
    """One keyword: the types that it is about, and how it reads.

    `words` are followed by the keyword's value; `none` is said where it is absent.
    """

    types: frozenset[str]
    words: str
    none: str
    within: Callable[[Schema, Any], bool]
    """Whether what a sender's schema allows is within this value of the keyword."""

    def describe(self, schema: Schema, keyword: str) -> str:
        """What a schema says by the keyword."""
        return f"{self.words} {schema[keyword]}".strip() if keyword in schema else self.none


def lowest(schema: Schema) -> tuple[float, bool]:
    """The edge below which no number of a schema lies, and whether the edge itself is out."""
    inclusive, exclusive = schema.get("minimum", -_INFINITE), schema.get("exclusiveMinimum", -_INFINITE)
    edge, is_out = (exclusive, True) if exclusive >= inclusive else (inclusive, False)
    if schema.get("type") == "integer" and edge != -_INFINITE:
        return (floor(edge) + 1 if is_out else ceil(edge)), False
    return edge, is_out


def highest(schema: Schema) -> tuple[float, bool]:
    """The edge above which no number of a schema lies, and whether the edge itself is out."""
    turned = {"type": schema.get("type")}
    if "maximum" in schema:
        turned["minimum"] = -schema["maximum"]
    if "exclusiveMaximum" in schema:
        turned["exclusiveMinimum"] = -schema["exclusiveMaximum"]
    edge, is_out = lowest(turned)
    return -edge, is_out


def _at_least(sent: Schema, edge: Any) -> bool:
    return bool(lowest(sent)[0] >= edge)


def _above(sent: Schema, edge: Any) -> bool:
    low, is_out = lowest(sent)
    return bool(low > edge or (low == edge and is_out))


def _at_most(sent: Schema, edge: Any) -> bool:
    return bool(highest(sent)[0] <= edge)


def _below(sent: Schema, edge: Any) -> bool:
    high, is_out = highest(sent)
    return bool(high < edge or (high == edge and is_out))


def _multiple(sent: Schema, step: Any) -> bool:
    own = sent.get("multipleOf", 1 if sent.get("type") == "integer" else None)
    return own == step or (isinstance(own, int) and isinstance(step, int) and own % step == 0)


def _minimum_of(keyword: str) -> Callable[[Schema, Any], bool]:
    return lambda sent, least: bool(sent.get(keyword, 0) >= least)


def _maximum_of(keyword: str) -> Callable[[Schema, Any], bool]:
    return lambda sent, most: bool(sent.get(keyword, _INFINITE) <= most)


def _fields_at_least(sent: Schema, least: Any) -> bool:
    return bool(max(sent.get("minProperties", 0), len(set(sent.get("required", ())))) >= least)


def _fields_at_most(sent: Schema, most: Any) -> bool:
    # An object that does not speak of other fields has no more than it names: see `Subset`.
    closed = not sent.get("additionalProperties", False) and "patternProperties" not in sent
    named = len(sent.get("properties", ())) if closed and sent.get("type") == "object" else _INFINITE
    return bool(min(sent.get("maxProperties", _INFINITE), named) <= most)


def _distinct(sent: Schema, wanted: Any) -> bool:
    return not wanted or sent.get("uniqueItems") is True or sent.get("maxItems", 2) < 2


_STRING: Final = frozenset({"string"})
_ARRAY: Final = frozenset({"array"})
_OBJECT: Final = frozenset({"object"})

BOUNDS: Final[Mapping[str, Bound]] = {
    "minimum": Bound(_NUMBERS, "at least", "without a lowest value", _at_least),
    "exclusiveMinimum": Bound(_NUMBERS, "more than", "without a lowest value", _above),
    "maximum": Bound(_NUMBERS, "at most", "without a highest value", _at_most),
    "exclusiveMaximum": Bound(_NUMBERS, "less than", "without a highest value", _below),
    "multipleOf": Bound(_NUMBERS, "a multiple of", "any number", _multiple),
    "minLength": Bound(_STRING, "of a length of at least", "of any small length", _minimum_of("minLength")),
    "maxLength": Bound(_STRING, "of a length of at most", "of any length", _maximum_of("maxLength")),
    "minItems": Bound(_ARRAY, "of a length of at least", "of any small length", _minimum_of("minItems")),
    "maxItems": Bound(_ARRAY, "of a length of at most", "of any length", _maximum_of("maxItems")),
    "uniqueItems": Bound(_ARRAY, "of distinct items:", "of any items", _distinct),
    "minProperties": Bound(_OBJECT, "of a number of fields of at least", "of few fields", _fields_at_least),
    "maxProperties": Bound(_OBJECT, "of a number of fields of at most", "of many fields", _fields_at_most),
}
