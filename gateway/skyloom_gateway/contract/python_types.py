"""JSON schemas as types of Python."""

from __future__ import annotations

import builtins
import keyword
import re
from typing import TYPE_CHECKING, Any, Final

from pydantic import BaseModel

from skyloom_gateway.contract.identifiers import snake, unique
from skyloom_gateway.contract.schema import REFERENCE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from skyloom_gateway.contract.schema import Schema

RESERVED: Final = frozenset(
    {*keyword.kwlist, *dir(builtins), "Annotated", "Any", "BaseModel", "CONTRACT", "Client", "ConfigDict", "ErrorCode"}
    | {"Field", "Literal", "PushStream", "TypeAdapter", "TypeAlias", "TypeAliasType", "cast"}
)
"""What a type may not be called."""

IN_CLASSES: Final = frozenset(
    {*keyword.kwlist, "str", "int", "float", "bool", "list", "dict", "tuple", "Annotated", "Any", "Field", "Literal"}
)
"""What a field or a method may not be called: beside it, the word would mean that."""

_FIELDS_RESERVED: Final = IN_CLASSES | frozenset(dir(BaseModel))
_PLAIN: Final = {"string": "str", "integer": "int", "number": "float", "boolean": "bool", "null": "None"}
_FORMATS: Final = {"date-time": "_datetime", "date": "_date", "time": "_time", "uuid": "_UUID"}
_OBJECT: Final = "dict[str, Any]"


class PythonTypes:
    """Writes the types of a contract's schemas.

    Args:
        names: the name of each type, by its schema's key.
    """

    def __init__(self, names: Mapping[str, str]) -> None:
        self._names = names
        self._models: set[str] = set()

    def is_model(self, schema: Any) -> bool:
        """Whether the type of a schema is one of the models declared so far."""
        return isinstance(schema, dict) and "$ref" in schema and self.of(schema) in self._models

    def declaration(self, name: str, schema: Schema) -> str:
        """A named type: a model where it has fields."""
        words = schema.get("description", "")
        if schema.get("type") != "object" or "properties" not in schema:
            lines = [f'{name} = TypeAliasType("{name}", {self.of(schema)!r})', *docstring(words, "")]
            return "\n".join([*lines, ""])
        self._models.add(name)
        body = [*docstring(words, "    ")]
        if schema.get("additionalProperties", False) is not False:
            body.append('    model_config = ConfigDict(extra="allow")')
        fields = list(self._fields(schema))
        body += ["", *fields] if body and fields else fields
        return "\n".join([f"class {name}(_Model):", *(body or ["    pass"]), ""])

    def _fields(self, schema: Schema) -> Iterator[str]:
        taken = set(_FIELDS_RESERVED) | set(self._names.values())
        for field, child in schema["properties"].items():
            name = unique(snake(field), taken)
            taken.add(name)
            kind = self.of(child)
            options = [] if name == field else [f"alias={field!r}"]
            default = ""
            if isinstance(child, dict) and isinstance(child.get("const"), str | int) and "default" in child:
                default = f" = {child['const']!r}"
            elif field not in schema.get("required", ()):
                options.append("exclude_if=_is_absent")
                kind = kind if re.search(r"(^|\| )None\Z", kind) else f"{kind} | None"
                default = " = None"
            if options:
                kind = f"Annotated[{kind}, Field({', '.join(options)})]"
            yield f"    {name}: {kind}{default}"
            if isinstance(child, dict):
                yield from docstring(child.get("description", ""), "    ")

    def of(self, schema: Any) -> str:
        """The type of a schema's values, as an expression."""
        if not isinstance(schema, dict):
            return "Any"
        if "$ref" in schema:
            return self._names[schema["$ref"].removeprefix(REFERENCE)]
        if "const" in schema:
            return _literals([schema["const"]])
        if "enum" in schema:
            return _literals(schema["enum"])
        for keyword_ in ("anyOf", "oneOf"):
            if keyword_ in schema:
                return _union(self.of(choice) for choice in schema[keyword_])
        if "allOf" in schema:  # Python has no word for all of several
            return self.of(schema["allOf"][0]) if len(schema["allOf"]) == 1 else "Any"
        kinds = schema.get("type", [])
        if isinstance(kinds, list):
            return _union(self.of({**schema, "type": kind}) for kind in kinds) if kinds else "Any"
        if kinds == "array":
            return self._list(schema)
        if kinds == "object":
            more = schema.get("additionalProperties", True)
            return f"dict[str, {self.of(more)}]" if not schema.get("properties") else _OBJECT
        if kinds == "string":
            return _FORMATS.get(schema.get("format", ""), "str")
        return _PLAIN[kinds]

    def _list(self, schema: Schema) -> str:
        items = schema.get("items", True)
        if not isinstance(items, list):
            return f"list[{self.of(items)}]"
        rest = schema.get("additionalItems", True)
        if rest is False and schema.get("minItems") == len(items):
            return f"tuple[{', '.join(map(self.of, items))}]"
        return f"list[{_union([*map(self.of, items), *([] if rest is False else [self.of(rest)])])}]"


def docstring(text: str, indent: str) -> list[str]:
    """A string for people; nothing in the text ends it early."""
    plain = re.sub(r"[^\S \n]|[\x00-\x09\x0b-\x1f\x7f]", " ", text).strip()
    if not plain:
        return []
    safe = re.sub(r'"(?=")|"\Z', r'\\"', plain.replace("\\", "\\\\"))
    first, *others = safe.split("\n")
    if not others:
        return [f'{indent}"""{first}"""']
    return [f'{indent}"""{first}', *(f"{indent}{line}".rstrip() for line in others), f'{indent}"""']


def _literals(values: Iterable[object]) -> str:
    """A type for some values; of what `Literal` does not take, the type that it is."""
    named: list[str] = []
    others: list[str] = []
    for value in values:
        if isinstance(value, str | bool | int):
            named.append(repr(value))
        else:
            others.append({dict: _OBJECT, list: "list[Any]", float: "float"}.get(type(value), "None"))
    return _union([*([f"Literal[{', '.join(named)}]"] if named else []), *others])


def _union(types: Iterable[str]) -> str:
    """One type for several, None last."""
    found = list(dict.fromkeys(types))
    if "Any" in found:
        return "Any"
    return " | ".join(sorted(found, key=lambda kind: kind == "None"))
