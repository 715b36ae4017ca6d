"""Random schemas, changes to them, and values that fit them, for the tests of what breaks clients."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import strategies as st
from jsonschema import Draft7Validator

from skyloom_gateway.contract.schema import REFERENCE, Schema

NAMES = ("a", "b", "c")
REFERRED = ("game.One", "game.Two")
Draw = st.DrawFn


def scalars() -> st.SearchStrategy[Schema]:
    edges = st.integers(-3, 6)
    lengths = st.integers(0, 3)
    numbers = st.fixed_dictionaries(
        {"type": st.sampled_from(["integer", "number"])},
        optional={
            "minimum": edges,
            "exclusiveMinimum": edges,
            "maximum": edges.map(lambda edge: edge + 3),
            "exclusiveMaximum": edges.map(lambda edge: edge + 3),
            "multipleOf": st.sampled_from([1, 2, 4]),
        },
    )
    strings = st.fixed_dictionaries(
        {"type": st.just("string")},
        optional={"minLength": lengths, "maxLength": lengths, "pattern": st.sampled_from(["^a", "b$"])},
    )
    values = st.lists(
        st.sampled_from([1, 2, 3.0, "a", "ab", "abc", None, True, False]), min_size=1, max_size=4, unique_by=repr
    )
    return st.one_of(
        numbers,
        strings,
        st.sampled_from([{"type": "boolean"}, {"type": "null"}, {"type": ["string", "null"]}, {}]),
        values.map(lambda values: {"enum": values}),
        st.sampled_from([1, "a", True, None]).map(lambda value: {"const": value}),
        st.sampled_from(REFERRED).map(lambda name: {"$ref": REFERENCE + name}),
    )


def _composed(inner: st.SearchStrategy[Schema]) -> st.SearchStrategy[Schema]:
    lengths = st.integers(0, 3)
    extra = st.one_of(st.booleans(), inner)
    objects = st.fixed_dictionaries(
        {"type": st.just("object"), "properties": st.dictionaries(st.sampled_from(NAMES), inner, max_size=3)},
        optional={
            "required": st.lists(st.sampled_from(NAMES), max_size=2, unique=True),
            "additionalProperties": extra,
            "minProperties": lengths,
            "maxProperties": lengths,
        },
    )
    arrays = st.fixed_dictionaries(
        {"type": st.just("array")},
        optional={
            "items": st.one_of(inner, st.lists(inner, min_size=1, max_size=2)),
            "additionalItems": extra,
            "minItems": lengths,
            "maxItems": lengths,
            "uniqueItems": st.booleans(),
        },
    )
    unions = st.lists(inner, min_size=1, max_size=3).map(lambda choices: {"anyOf": choices})
    both = st.tuples(inner, inner).map(lambda parts: {"allOf": list(parts)})
    carried = inner.map(lambda schema: {"allOf": [schema], "description": "words"})
    negated = inner.map(lambda schema: {"type": "integer", "not": schema})
    return st.one_of(objects, objects, arrays, unions, both, carried, negated)


def objects() -> st.SearchStrategy[Schema]:
    """Objects of plain fields, which are what most bodies are."""
    return st.fixed_dictionaries(
        {"type": st.just("object"), "properties": st.dictionaries(st.sampled_from(NAMES), scalars(), max_size=3)},
        optional={
            "required": st.lists(st.sampled_from(NAMES), min_size=1, max_size=2, unique=True),
            "additionalProperties": st.one_of(st.booleans(), scalars()),
        },
    )


def schemas() -> st.SearchStrategy[Schema]:
    return st.recursive(scalars(), _composed, max_leaves=6)


def named() -> st.SearchStrategy[dict[str, Schema]]:
    """What references lead to: objects, so that nothing refers to itself at once; they may refer to each other."""
    return st.fixed_dictionaries(
        {
            name: st.fixed_dictionaries(
                {
                    "type": st.just("object"),
                    "properties": st.dictionaries(st.sampled_from(NAMES), schemas(), max_size=2),
                },
                optional={"required": st.lists(st.sampled_from(NAMES), max_size=1)},
            )
            for name in REFERRED
        }
    )


def _places(schema: Any) -> list[dict[str, Any]]:
    """All maps in a schema, the schema itself included."""
    if isinstance(schema, dict):
        return [schema, *(place for child in schema.values() for place in _places(child))]
    return [place for child in schema for place in _places(child)] if isinstance(schema, list) else []


@st.composite
def changed(draw: Draw, base: Any) -> Any:
    """The schema, or schemas, with a few changes at random: keywords taken away, changed, or put in."""
    new = copy.deepcopy(base)
    for _ in range(draw(st.integers(0, 3))):
        place = draw(st.sampled_from(_places(new)))
        if not place:
            continue
        key = draw(st.sampled_from(sorted(place)))
        value = place[key]
        if key in REFERRED:
            continue
        if key in NAMES and isinstance(value, dict):
            place[key] = draw(scalars())
        elif isinstance(value, bool):
            place[key] = not value
        elif isinstance(value, int) and key not in ("multipleOf", "const"):
            place[key] = max(0, value + draw(st.sampled_from([-1, 1])))
        elif key in ("required", "enum", "anyOf") and isinstance(value, list) and len(value) > 1:
            place[key] = value[1:]
        elif key not in ("properties", "anyOf", "allOf", "enum", "type", "not"):
            del place[key]
    return new


def validator(schema: Schema, names: dict[str, Schema]) -> Draft7Validator:
    return Draft7Validator({"allOf": [schema], "components": {"schemas": names}})


@st.composite
def values(draw: Draw, schema: Any, names: dict[str, Schema], depth: int = 4) -> Any:
    """A value that most often fits, and never has a field that its schema does not speak of."""
    if not isinstance(schema, dict) or not schema or depth == 0:
        return draw(st.sampled_from([None, 0, 1, "a", "abb", True, [], {}]))
    if "$ref" in schema:
        return draw(values(names[schema["$ref"].removeprefix(REFERENCE)], names, depth - 1))
    for keyword in ("anyOf", "allOf", "enum"):
        if keyword in schema:
            chosen = draw(st.sampled_from(schema[keyword]))
            return chosen if keyword == "enum" else draw(values(chosen, names, depth))
    if "const" in schema:
        return schema["const"]
    kind = schema.get("type")
    kind = draw(st.sampled_from(kind)) if isinstance(kind, list) else kind
    if kind == "object":
        return draw(_objects(schema, names, depth))
    if kind == "array":
        items = schema.get("items", {})
        given = items if isinstance(items, list) else [items] * draw(st.integers(0, 4))
        rest = [schema.get("additionalItems", {})] * draw(st.integers(0, 2)) if isinstance(items, list) else []
        return [draw(values(item, names, depth - 1)) for item in (given + rest)[: draw(st.integers(0, 4))]]
    plain: dict[Any, st.SearchStrategy[Any]] = {
        "integer": st.integers(-4, 10),
        "number": st.one_of(st.integers(-4, 10), st.floats(-4, 10)),
        "string": st.text("ab", max_size=4),
        "boolean": st.booleans(),
        "null": st.none(),
    }
    return draw(plain.get(kind, st.sampled_from([None, 1, "a", {}])))


@st.composite
def _objects(draw: Draw, schema: Schema, names: dict[str, Schema], depth: int) -> dict[str, Any]:
    fields = schema.get("properties", {})
    made = {
        name: draw(values(child, names, depth - 1))
        for name, child in fields.items()
        if name in schema.get("required", ()) or draw(st.booleans())
    }
    extra = schema.get("additionalProperties", False)
    if extra is not False:
        for name in draw(st.lists(st.sampled_from([*NAMES, "z"]), max_size=2)):
            if name not in fields:
                made[name] = draw(values(extra, names, depth - 1))
    return made
