"""Whether every value of one schema is a value of another, and if not, where.

`sent` is the schema of those who write, `taken` of those who read: for bodies the old and the new one, since clients
stay as they are while the server changes, for answers and pushes the other way round. What is reported is sound: no gap
means that no value is lost. It is not complete: two schemas that say the same in very different words may be told
apart.

Who sends follows the contract: a field that an object does not name, and does not speak of, is not sent.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from skyloom_gateway.contract.bounds import BOUNDS
from skyloom_gateway.contract.schema import REFERENCE, WORDS, Schema, references, wordless
from skyloom_gateway.contract.wording import describe, field_path, keyword_value, presence

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

COMPARISONS_MAX: Final = 200_000
"""Pairs of schemas that are looked at for one contract: an honest one has some thousands."""

ANYTHING: Final[Schema] = {}
NEVER: Final[Schema] = {"not": {}}
"""The schemas of every value, and of none."""

_NOT_ASSERTED: Final = WORDS | {"default", "readOnly", "writeOnly"}
_UNDERSTOOD: Final = frozenset(BOUNDS) | {
    *("$ref", "type", "enum", "const", "anyOf", "allOf", "items", "additionalItems"),
    *("properties", "required", "additionalProperties"),
}
_JSON_TYPES: Final = {
    str: "string",
    bool: "boolean",
    int: "integer",
    float: "number",
    type(None): "null",
    list: "array",
}


class TooInvolved(ValueError):
    """Two contracts whose comparison would take too long."""


@dataclass(frozen=True, slots=True)
class Gap:
    """A place where what is sent may not be taken: what was said of it, and what is said now.

    One that is harmless is a field that only one side names: it is not sent, or not read.
    """

    path: str
    was: str
    now: str
    is_harmless: bool = False

    def __str__(self) -> str:
        return f"{self.path}: was {self.was}, is {self.now}"


class Subset:
    """Compares the schemas of two contracts; see the module's docstring.

    Args:
        sent, taken: the named schemas that each side's `$ref`s lead to.
        taken_is_new: True for bodies, False for answers and pushes.
    """

    def __init__(self, sent: Mapping[str, Schema], taken: Mapping[str, Schema], *, taken_is_new: bool) -> None:
        self._sent = sent
        self._taken = taken
        self._taken_is_new = taken_is_new
        self._unchanged = _unchanged(sent, taken)
        self._open: set[tuple[int, int]] = set()
        self._left = COMPARISONS_MAX

    def gaps(self, sent: object, taken: object, path: str) -> list[Gap]:
        """Where a value of `sent` may be none of `taken`; `path` is how the place is called. Raises TooInvolved."""
        self._left -= 1
        if self._left < 0:
            raise TooInvolved(f"comparing takes more than {COMPARISONS_MAX:,} steps: the schemas are too involved")
        source, target = _resolve(sent, self._sent), _resolve(taken, self._taken)
        if source == NEVER or source.get("enum") == [] or not _asserts(target) or self._is_same(source, target):
            return []
        pair = (id(source), id(target))
        if pair in self._open:  # a recursive type: values are finite, so it is enough to look once
            return []
        self._open.add(pair)
        try:
            return self._compare(source, target, path)
        finally:
            self._open.discard(pair)

    def _compare(self, sent: Schema, taken: Schema, path: str) -> list[Gap]:
        parts = _parts(sent)
        if parts is not None:
            return [gap for part in parts for gap in self.gaps(part, taken, path)]
        for keyword in ("anyOf", "oneOf", "allOf"):
            if keyword in sent:
                return self._composed(sent, keyword, taken, path)
        found: list[Gap] = []
        for each in taken.get("allOf", ()):
            found += self.gaps(sent, each, path)
        if "anyOf" in taken:
            found += self._into_union(sent, taken, path)
        rest = {key: value for key, value in taken.items() if key not in ("allOf", "anyOf")}
        return found + list(self._into(sent, rest, path))

    def _composed(self, sent: Schema, keyword: str, taken: Schema, path: str) -> list[Gap]:
        """A sender's `anyOf`, `oneOf` (as wide) or `allOf`, and whatever stands beside it."""
        rest = {key: value for key, value in sent.items() if key != keyword}
        beside = self.gaps(rest, taken, path) if _asserts(rest) else None
        if beside is not None and not _harm(beside):
            return beside
        each = [self.gaps(part, taken, path) for part in sent[keyword]]
        if keyword == "allOf":
            tries = each if beside is None else [*each, beside]
            return min(tries, key=_harm, default=[Gap(path, *self._both(sent, taken))])
        return [gap for gaps in each for gap in gaps]

    def _into_union(self, sent: Schema, taken: Schema, path: str) -> list[Gap]:
        alike: list[list[Gap]] = []
        for choice in taken["anyOf"]:
            gaps = self.gaps(sent, choice, path)
            if not _harm(gaps):
                return gaps
            if sent.get("type") is not None and _resolve(choice, self._taken).get("type") == sent["type"]:
                alike.append(gaps)
        # What is wrong with the likeliest choice of its kind says most.
        return min(alike, key=_harm, default=[Gap(path, *self._both(sent, taken))])

    def _into(self, sent: Schema, taken: Schema, path: str) -> Iterator[Gap]:
        for keyword in sorted(key for key in taken if key not in _UNDERSTOOD and _is_assertion(key)):
            if not self._demands_the_same(keyword, sent, taken):
                yield Gap(path, *self._order(keyword_value(sent, keyword), keyword_value(taken, keyword)))
        if not _is_among(sent, taken) or not _is_type(sent, taken):
            yield Gap(path, *self._both(sent, taken))
        elif "enum" in sent:
            yield from self._value_into(sent["enum"][0], taken, path)
        else:
            kind = sent.get("type")
            yield from self._bounds(sent, sent, taken, path)
            if kind in (None, "array"):
                yield from self._items(sent, taken, path)
            if kind in (None, "object"):
                yield from self._fields(sent, taken, path)

    def _is_same(self, sent: object, taken: object) -> bool:
        return _text(sent) == _text(taken) and references(taken) <= self._unchanged

    def _demands_the_same(self, keyword: str, sent: Schema, taken: Schema) -> bool:
        """Of a keyword whose meaning is not looked into: whether it was there before, and the same."""
        if keyword == "pattern" and sent.get("type") not in (None, "string"):
            return True
        return keyword in sent and self._is_same({keyword: sent[keyword]}, {keyword: taken[keyword]})

    def _bounds(self, exact: Schema, sent: Schema, taken: Schema, path: str) -> Iterator[Gap]:
        for keyword, bound in BOUNDS.items():
            applies = exact.get("type") is None or exact["type"] in bound.types
            if keyword in taken and applies and not bound.within(exact, taken[keyword]):
                if exact is sent:
                    yield Gap(path, *self._order(bound.describe(sent, keyword), bound.describe(taken, keyword)))
                else:
                    yield Gap(path, *self._order(describe(sent), bound.describe(taken, keyword)))

    def _value_into(self, value: object, taken: Schema, path: str) -> Iterator[Gap]:
        """One value that is sent, into a schema without `enum` whose type fits."""
        if isinstance(value, list | dict):
            if taken.keys() - _NOT_ASSERTED - {"type"}:
                yield Gap(path, *self._both({"enum": [value]}, taken))
            return
        exact: Schema = {"type": _type_of(value)}
        if isinstance(value, str):
            exact |= {"minLength": len(value), "maxLength": len(value)}
        elif isinstance(value, int | float) and not isinstance(value, bool):
            exact |= {"minimum": value, "maximum": value}
        yield from self._bounds(exact, {"enum": [value]}, taken, path)

    def _items(self, sent: Schema, taken: Schema, path: str) -> Iterator[Gap]:
        named = max(len(_positions(sent)), len(_positions(taken)))
        most = sent.get("maxItems", named + 1)
        for place in range(named + 1):  # the last one stands for all that follow
            if place < most:
                where = f"{path}[]" if named == 0 or place == named else f"{path}[{place}]"
                yield from self._item(_item(sent, place), _item(taken, place), where)

    def _item(self, sent: object, taken: object, path: str) -> Iterator[Gap]:
        if taken is False and sent is not False:
            yield Gap(path, *self._order("an item may be there", "none may"))
        else:
            yield from self.gaps(sent, taken, path)

    def _fields(self, sent: Schema, taken: Schema, path: str) -> Iterator[Gap]:
        ours, theirs = sent.get("properties", {}), taken.get("properties", {})
        required, rest = taken.get("required", ()), taken.get("additionalProperties", True)
        if "patternProperties" in sent and taken.keys() & {"properties", "additionalProperties"}:
            yield Gap(path, *self._both(sent, taken))  # which fields they meet is not looked into
        for name in dict.fromkeys((*ours, *theirs, *required)):
            where = field_path(path, name)
            if name in required and name not in sent.get("required", ()):
                yield Gap(where, *self._order(presence(sent, name), presence(taken, name)))
            elif name in ours and name in theirs:
                yield from self._field(ours[name], theirs[name], where)
            elif name in ours:
                yield from self._field(ours[name], rest, where)
                yield Gap(where, *self._order(presence(sent, name), presence(taken, name)), is_harmless=True)
            elif name in theirs:
                yield from self.gaps(sent.get("additionalProperties", False), theirs[name], where)
                yield Gap(where, *self._order(presence(sent, name), presence(taken, name)), is_harmless=True)
        if "additionalProperties" in sent:
            yield from self._field(sent["additionalProperties"], rest, f"{path}{{}}")
        elif rest is False and self._taken_is_new:
            yield Gap(path, "open to fields that it does not name", "closed to them")

    def _field(self, sent: object, taken: object, path: str) -> Iterator[Gap]:
        if taken is False and sent is not False:
            yield Gap(path, *self._order("a field that may be there", "one that may not"))
        else:
            yield from self.gaps(sent, taken, path)

    def _both(self, sent: Schema, taken: Schema) -> tuple[str, str]:
        return self._order(describe(sent), describe(taken))

    def _order(self, sent: str, taken: str) -> tuple[str, str]:
        return (sent, taken) if self._taken_is_new else (taken, sent)


def _resolve(schema: object, named: Mapping[str, Schema]) -> Schema:
    """Follow references, and an `allOf` that only carries one."""
    while isinstance(schema, dict):
        if "$ref" in schema:
            schema = named[schema["$ref"].removeprefix(REFERENCE)]
        elif len(schema.get("allOf", ())) == 1 and not _asserts({**schema, "allOf": None}, but="allOf"):
            schema = schema["allOf"][0]
        else:
            return schema
    return ANYTHING if schema else NEVER


def _is_assertion(keyword: str) -> bool:
    return keyword not in _NOT_ASSERTED and not keyword.startswith("x-")


def _asserts(schema: Schema, but: str = "") -> bool:
    """Whether a schema refuses anything."""
    return any(
        _is_assertion(key) and key != but and not (key == "additionalProperties" and value is True)
        for key, value in schema.items()
    )


def _text(schema: object) -> str:
    """The same for schemas that say the same; to Python, 1 and true would be equal."""
    return json.dumps(wordless(schema), sort_keys=True)


def _unchanged(one: Mapping[str, Schema], other: Mapping[str, Schema]) -> set[str]:
    """The names of the schemas that are the same in both, and all that they refer to as well."""
    same = {name for name in one if name in other and _text(one[name]) == _text(other[name])}
    behind = {name: references(one[name]) for name in same}
    while changed := {name for name in same if not behind[name] <= same}:
        same -= changed
    return same


def _parts(sent: Schema) -> list[Schema] | None:
    """The parts of a schema that are looked at one by one, or None: types, and values where they are few."""
    kinds = sent.get("type")
    if "const" in sent or len(sent.get("enum", ())) > 1:
        rest = {key: value for key, value in sent.items() if key not in ("enum", "const", *WORDS)}
        return [{**rest, "type": _type_of(value), "enum": [value]} for value in _values(sent)]
    if isinstance(kinds, list):
        return [{**sent, "type": kind} for kind in kinds]
    if "enum" in sent:
        return None if "type" in sent or not sent["enum"] else [{**sent, "type": _type_of(sent["enum"][0])}]
    if kinds == "boolean":
        return [{"type": kinds, "enum": [value]} for value in (True, False)]
    return [{"type": kinds, "enum": [None]}] if kinds == "null" else None


def _harm(gaps: list[Gap]) -> int:
    return sum(not gap.is_harmless for gap in gaps)


def _type_of(value: object) -> str:
    return _JSON_TYPES.get(type(value), "object")


def _values(schema: Schema) -> list[Any]:
    return [schema["const"]] if "const" in schema else schema["enum"]


def _holds(values: list[Any], value: object) -> bool:
    return any(_plain(value) == _plain(each) for each in values)


def _plain(value: object) -> str:
    """Text that is the same for equal JSON: 1 and 1.0 are equal, 1 and true are not."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return json.dumps(value, sort_keys=True)


def _is_among(sent: Schema, taken: Schema) -> bool:
    """Whether what is sent, one value if there is an `enum`, is one that `taken` lists, if it lists any."""
    if "enum" not in taken and "const" not in taken:
        return True
    return "enum" in sent and _holds(_values(taken), sent["enum"][0])


def _is_type(sent: Schema, taken: Schema) -> bool:
    if "type" not in taken:
        return True
    allowed = taken["type"] if isinstance(taken["type"], list) else [taken["type"]]
    return sent.get("type") in allowed or (sent.get("type") == "integer" and "number" in allowed)


def _positions(schema: Schema) -> list[Any]:
    items = schema.get("items")
    return items if isinstance(items, list) else []


def _item(schema: Schema, place: int) -> object:
    items = schema.get("items", True)
    if not isinstance(items, list):
        return items
    return items[place] if place < len(items) else schema.get("additionalItems", True)
