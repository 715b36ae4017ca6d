"""No gap means that no value is lost; and a gap is found where one is, with what was and what is."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skyloom_gateway.contract.schema import Schema
from skyloom_gateway.contract.subset import Subset, TooInvolved
from tests.examples import examples
from tests.gateway.contract.schemas import changed, named, objects, scalars, schemas, validator, values

ROUGH = settings(examples(400), suppress_health_check=list(HealthCheck))
VALUES = 6


def gaps(sent: Any, taken: Any, sent_names: Any = None, taken_names: Any = None, *, new: bool = True) -> list[str]:
    subset = Subset(sent_names or {}, taken_names or {}, taken_is_new=new)
    return [str(gap) for gap in subset.gaps(sent, taken, "body") if not gap.is_harmless]


def holds(data: st.DataObject, sent: Schema, names: Any, taken: Schema, taken_names: Any, *, new: bool) -> None:
    if gaps(sent, taken, names, taken_names, new=new):
        return
    sends, takes = validator(sent, names), validator(taken, taken_names)
    for value in data.draw(st.lists(values(sent, names), min_size=1, max_size=VALUES)):
        assert takes.is_valid(value) or not sends.is_valid(value), (sent, names, taken, taken_names, value)


@ROUGH
@given(st.data(), st.one_of(schemas(), objects()), named(), st.booleans(), st.booleans())
def test_every_value_of_one_version_is_one_of_the_other_without_gaps(
    data: st.DataObject, base: Schema, names: dict[str, Schema], new: bool, turned: bool
) -> None:
    versions = [(base, names), (data.draw(changed(base)), data.draw(changed(names)))]
    sent, taken = reversed(versions) if turned else versions
    holds(data, *sent, *taken, new=new)


@ROUGH
@given(st.data(), scalars(), scalars(), named())
def test_every_value_of_one_is_one_of_another_without_gaps(
    data: st.DataObject, sent: Schema, taken: Schema, names: dict[str, Schema]
) -> None:
    holds(data, sent, names, taken, names, new=True)


@ROUGH
@given(schemas(), named())
def test_nothing_is_lost_where_nothing_changes(schema: Schema, names: dict[str, Schema]) -> None:
    assert gaps(schema, schema, names, names) == []


def obj(fields: dict[str, Any], *required: str, **more: Any) -> Schema:
    return {"type": "object", "properties": fields, "required": list(required), **more}


TEXT: Schema = {"type": "string"}
WHOLE: Schema = {"type": "integer"}
NUMBER: Schema = {"type": "number"}
LINE: Schema = {"type": "string", "maxLength": 80}
MAYBE: Schema = {"anyOf": [TEXT, {"type": "null"}]}


def items(schema: Any, **more: Any) -> Schema:
    return {"type": "array", "items": schema, **more}


# What is sent, what is taken, and the gap, if the one who takes is new; the other way round there is none.
NARROWED: list[tuple[Schema, Schema, str]] = [
    (obj({}), obj({"a": TEXT}, "a"), "body.a: was not there, is always there"),
    (obj({"a": TEXT}), obj({"a": TEXT}, "a"), "body.a: was there or not, is always there"),
    (obj({"a": MAYBE}, "a"), obj({"a": TEXT}, "a"), "body.a: was null, is text"),
    (obj({"a": NUMBER}), obj({"a": WHOLE}), "body.a: was a number, is a whole number"),
    (obj({"x y": TEXT}), obj({"x y": LINE}), 'body."x y": was of any length, is of a length of at most 80'),
    (obj({}), obj({}, additionalProperties=False), "body: was open to fields that it does not name, is closed to them"),
    (obj({}, additionalProperties=True), obj({"a": TEXT}), "body.a: was anything, is text"),
    (
        obj({}, additionalProperties=TEXT),
        obj({}, additionalProperties=LINE),
        "body{}: was of any length, is of a length",
    ),
    (
        obj({"a": TEXT}, maxProperties=2),
        obj({"a": TEXT}, minProperties=1),
        "was of few fields, is of a number of fields",
    ),
    (obj({}, additionalProperties=TEXT), {"type": "object", "maxProperties": 0}, "was of many fields, is of a number"),
    ({"enum": ["a", "b"]}, {"enum": ["a"]}, 'body: was "b", is "a"'),
    (TEXT, {"enum": ["a"]}, 'body: was text, is "a"'),
    ({"type": ["string", "null"]}, TEXT, "body: was null, is text"),
    ({}, TEXT, "body: was anything, is text"),
    ({"type": "boolean"}, {"const": True}, "body: was false, is true"),
    (WHOLE, {"type": "integer", "minimum": 1}, "body: was without a lowest value, is at least 1"),
    ({**WHOLE, "minimum": 0}, {**WHOLE, "exclusiveMinimum": 0}, "body: was without a lowest value, is more than 0"),
    ({**NUMBER, "minimum": 0}, {**NUMBER, "exclusiveMinimum": 0}, "is more than 0"),
    ({**NUMBER, "maximum": 9}, {**NUMBER, "maximum": 8}, "body: was at most 9, is at most 8"),
    ({**NUMBER, "maximum": 9}, {**NUMBER, "exclusiveMaximum": 9}, "is less than 9"),
    ({**WHOLE, "multipleOf": 2}, {**WHOLE, "multipleOf": 4}, "body: was a multiple of 2, is a multiple of 4"),
    (TEXT, {**TEXT, "pattern": "^a$"}, 'body: was without pattern, is pattern "^a$"'),
    (
        {**TEXT, "minLength": 1},
        {**TEXT, "minLength": 2},
        "body: was of a length of at least 1, is of a length of at least 2",
    ),
    (TEXT, {**TEXT, "format": "uuid"}, 'body: was without format, is format "uuid"'),
    (items(TEXT), items(LINE), "body[]: was of any length, is of a length of at most 80"),
    (items(TEXT), items(TEXT, maxItems=3), "body: was of any length, is of a length of at most 3"),
    (items(TEXT), items(TEXT, minItems=1), "body: was of any small length, is of a length of at least 1"),
    (items([TEXT]), items([TEXT], additionalItems=False), "body[]: was an item may be there, is none may"),
    (items([TEXT], additionalItems=TEXT), items([TEXT], additionalItems=LINE), "body[]: was of any length"),
    ({"anyOf": [TEXT, WHOLE]}, TEXT, "body: was a whole number, is text"),
    ({"anyOf": [TEXT, WHOLE]}, {"anyOf": [LINE, WHOLE]}, "body: was of any length, is of a length of at most 80"),
    (TEXT, {"allOf": [TEXT, LINE]}, "body: was of any length, is of a length of at most 80"),
    (WHOLE, {**WHOLE, "not": {"const": 3}}, 'body: was without not, is not {"const": 3}'),
    (TEXT, {"not": {}}, "body: was without not, is not {}"),
]


@pytest.mark.parametrize(("wide", "narrow", "said"), NARROWED, ids=range(len(NARROWED)))
def test_a_gap_is_found_and_named(wide: Schema, narrow: Schema, said: str) -> None:
    found = gaps(wide, narrow)
    assert len(found) == 1
    assert said in found[0]
    assert gaps(narrow, wide) == []


# The same, where neither is within the other, or more than one thing is wrong.
CHANGED: list[tuple[Schema, Schema, str]] = [
    (
        obj({"a": TEXT}),
        obj({}, additionalProperties=False),
        "body.a: was a field that may be there, is one that may not",
    ),
    (obj({"a": TEXT}), obj({}, additionalProperties=WHOLE), "body.a: was text, is a whole number"),
    ({"enum": [1, "x"]}, WHOLE, 'body: was "x", is a whole number'),
    ({"enum": ["abc"]}, {"type": "string", "maxLength": 2}, 'body: was "abc", is of a length of at most 2'),
    ({"enum": [7]}, {"type": "integer", "maximum": 6}, "body: was 7, is at most 6"),
    ({"const": {"a": 1}}, obj({"a": TEXT}), 'body: was {"a": 1}, is an object'),
    (items(TEXT, maxItems=2), items(TEXT, uniqueItems=True), "body: was of any items, is of distinct items: True"),
    (items([TEXT, WHOLE]), items([TEXT, TEXT]), "body[1]: was a whole number, is text"),
    ({"const": 1}, {"const": True}, "body: was 1, is true"),
    ({**WHOLE, "exclusiveMinimum": 0}, {**WHOLE, "minimum": 2}, "is at least 2"),
    ({"properties": {"a": TEXT}}, {"properties": {"a": LINE}}, "body.a: was of any length"),
    ({"items": TEXT}, {"items": LINE}, "body[]: was of any length"),
    (
        {"type": "object", "patternProperties": {"^a": TEXT}},
        {"type": "object", "patternProperties": {"^a": TEXT}, "properties": {"ab": LINE}},
        "body: was an object, is an object",
    ),
    (
        obj({"kind": {"const": "x"}, "a": TEXT}, "kind"),
        {"anyOf": [obj({"kind": {"const": "y"}, "b": WHOLE}, "kind", "b"), obj({"kind": {"const": "x"}, "a": LINE})]},
        "body.a: was of any length, is of a length of at most 80",
    ),
]


@pytest.mark.parametrize(("sent", "taken", "said"), CHANGED, ids=range(len(CHANGED)))
def test_a_gap_is_found_among_others(sent: Schema, taken: Schema, said: str) -> None:
    assert any(said in gap for gap in gaps(sent, taken))


ALIKE: list[tuple[Schema, Schema]] = [
    (TEXT, {"type": ["string", "null"]}),
    (TEXT, {**TEXT, "title": "T", "default": "x", "x-mine": 1}),
    ({**TEXT, "pattern": "^a"}, TEXT),
    ({**WHOLE, "exclusiveMinimum": 0}, {**WHOLE, "minimum": 1}),
    ({**WHOLE, "minimum": 1}, {**WHOLE, "exclusiveMinimum": 0}),
    (WHOLE, {**NUMBER, "multipleOf": 1}),
    ({"enum": [1]}, {"enum": [1.0, 2]}),
    ({"enum": ["a", None]}, MAYBE),
    (obj({"a": TEXT}, "a"), obj({}, minProperties=1)),
    ({"allOf": [{"type": "string"}], "description": "words"}, TEXT),
    (items(TEXT, maxItems=1), items([TEXT], additionalItems=False)),
    ({"oneOf": [LINE, WHOLE]}, {"anyOf": [TEXT, WHOLE]}),
    (obj({"a": TEXT}), obj({"a": TEXT, "b": WHOLE})),
    (obj({"a": TEXT, "b": WHOLE}), obj({"a": TEXT})),
]


@pytest.mark.parametrize(("sent", "taken"), ALIKE, ids=range(len(ALIKE)))
def test_what_only_looks_narrower_has_no_gap(sent: Schema, taken: Schema) -> None:
    assert gaps(sent, taken) == []


def test_the_old_comes_first_whoever_sends() -> None:
    assert gaps(TEXT, WHOLE, new=False) == ["body: was a whole number, is text"]
    closed = obj({}, additionalProperties=False)
    assert gaps(obj({}), closed, new=False) == []  # a server that no longer promises to say nothing else, and does not


def tree(leaf: Schema) -> dict[str, Schema]:
    inner = {"type": "array", "items": {"$ref": "#/components/schemas/game.Tree"}}
    return {"game.Tree": obj({"leaf": leaf, "behind": inner}, "leaf")}


def test_recursive_types_are_compared_to_the_end() -> None:
    root = {"$ref": "#/components/schemas/game.Tree"}
    assert gaps(root, root, tree(LINE), tree(TEXT)) == []
    assert gaps(root, root, tree(TEXT), tree(LINE)) == [
        "body.leaf: was of any length, is of a length of at most 80",
    ]
    # Named at every other step on each side, so that no two names ever meet.
    apart = {"x": obj({"y": {"$ref": "#/components/schemas/game.Odd"}})}
    odd = {"game.Odd": obj({"x": obj({"y": {"$ref": "#/components/schemas/game.Odd"}})})}
    assert gaps(obj(apart), {"$ref": "#/components/schemas/game.Odd"}, odd, {**odd, "game.Extra": TEXT}) == []


def test_a_comparison_that_has_no_end_in_sight(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skyloom_gateway.contract.subset.COMPARISONS_MAX", 2_000)

    def layered(leaf: Schema) -> dict[str, Schema]:
        layers = {"game.L0": leaf}
        for depth in range(1, 30):
            below = {"type": "array", "items": {"$ref": f"#/components/schemas/game.L{depth - 1}"}}
            layers[f"game.L{depth}"] = {"anyOf": [{**below, "minItems": 2}, {**below, "maxItems": 1}]}
        return layers

    top = {"$ref": "#/components/schemas/game.L29"}
    with pytest.raises(TooInvolved, match="more than 2,000 steps"):
        gaps(top, top, layered(TEXT), layered(LINE))
