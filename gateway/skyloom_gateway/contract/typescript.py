"""A contract in TypeScript: types of all bodies, and skyloom.js's client with its routes typed.

import { connect } from "./skyloom.js";
import { typed } from "./game.js";

const client = typed(await connect({ auth: { scheme: "guest", name: "ada" } }));
const joined = await client.request("chat.join", { room: "lobby" });  // a Joined
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

from skyloom_gateway.contract.identifiers import type_names
from skyloom_gateway.contract.schema import ANY_OBJECT, REFERENCE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from skyloom_gateway.contract.contract import Contract, Operation
    from skyloom_gateway.contract.schema import Schema

_IDENTIFIER: Final = re.compile(r"[A-Za-z_$][A-Za-z0-9_$]*\Z")
_PLAIN: Final = {"string": "string", "integer": "number", "number": "number", "boolean": "boolean", "null": "null"}
# What the file says itself, and the global types that it says it with.
_RESERVED: Final = frozenset(
    {"Array", "AsyncIterableIterator", "CONTRACT", "Client", "Connection", "ErrorCode", "Notifies", "Promise", "Pushes"}
    | {
        "Record",
        "RequestOptions",
        "Requests",
        "Routes",
        "any",
        "bigint",
        "boolean",
        "never",
        "null",
        "number",
        "object",
    }
    | {"string", "symbol", "typed", "undefined", "unknown", "void"}
)

_HEAD: Final = """\
// Written by `skyloom schema --typescript`: change the server's routes, not this file.

/** The contract's hash, as a server's welcome has it. */
export const CONTRACT = {hash};
"""

_CLIENT: Final = """\
export interface RequestOptions {
  /** Seconds. */
  timeout?: number;
}

/** What is needed of skyloom.js's client. */
export interface Connection {
  request(route: string, body?: object, options?: RequestOptions): Promise<any>;
  notify(route: string, body?: object): void;
  on(route: string, fn: (body: any, push: any) => void): () => void;
  pushes(route: string, options?: { bufferMax?: number }): any;
}

type Body<T> = Record<string, never> extends T ? [body?: T] : [body: T];

/** The client, with the routes of the contract and no others. */
export type Client<C extends Connection = Connection> = Omit<C, keyof Connection> & {
  request<R extends keyof Requests>(
    route: R,
    ...rest: [...Body<Requests[R]["body"]>, options?: RequestOptions]
  ): Promise<Requests[R]["answer"]>;
  notify<R extends keyof Notifies>(route: R, ...rest: Body<Notifies[R]["body"]>): void;
  on<R extends keyof Pushes>(
    route: R,
    fn: (body: Pushes[R], push: { seq: number; route: R; body: Pushes[R] }) => void,
  ): () => void;
  pushes<R extends keyof Pushes>(
    route: R,
    options?: { bufferMax?: number },
  ): AsyncIterableIterator<{ seq: number; route: R; body: Pushes[R] }>;
};

/** The same client, typed. */
export function typed<C extends Connection>(client: C): Client<C> {
  return client as unknown as Client<C>;
}
"""


def typescript(contract: Contract) -> str:
    """A module that needs nothing else; the same for the same contract."""
    names = type_names(contract.schemas, _RESERVED)
    types = _Types(names)
    requests = [each for each in contract.routes.values() if each.kind == "request"]
    notifies = [each for each in contract.routes.values() if each.kind == "notify"]
    codes = {code for route in contract.routes.values() for code in route.errors} | contract.gateway_errors.keys()
    parts = [
        _HEAD.format(hash=json.dumps(contract.hash)),
        *(types.declaration(names[key], schema) for key, schema in contract.schemas.items()),
        _map("Requests", "requests: the body, the answer, and the codes of errors", requests, types.request),
        _map("Notifies", "notifies", notifies, types.notify),
        _map("Pushes", "pushes", contract.pushes.values(), lambda push: types.of(push.body)),
        "/** All codes that an error may have. */\nexport type ErrorCode =\n"
        + "\n".join(f"  | {json.dumps(code)}" for code in sorted(codes))
        + ";\n",
        _CLIENT,
    ]
    return "\n".join(parts)


def _map(name: str, words: str, operations: Iterable[Operation], type_of: Any) -> str:
    lines = [f"/** The {words}, by route. */", f"export interface {name} {{"]
    for operation in operations:
        lines += _comment(operation.description, "  ")
        lines.append(f"  {json.dumps(operation.route)}: {type_of(operation)};")
    return "\n".join([*lines, "}\n"])


class _Types:
    def __init__(self, names: Mapping[str, str]) -> None:
        self._names = names

    def request(self, operation: Operation) -> str:
        errors = " | ".join(json.dumps(code) for code in operation.errors) or "never"
        answer = "Record<string, never>" if operation.answer == ANY_OBJECT else self.of(operation.answer)
        return f"{{ body: {self._body(operation)}; answer: {answer}; errors: {errors} }}"

    def notify(self, operation: Operation) -> str:
        return f"{{ body: {self._body(operation)} }}"

    def _body(self, operation: Operation) -> str:
        return "Record<string, never>" if operation.body == ANY_OBJECT else self.of(operation.body)

    def declaration(self, name: str, schema: Schema) -> str:
        """A named type."""
        lines = _comment(schema.get("description", ""), "")
        if schema.get("type") == "object" and "properties" in schema:
            lines += [f"export interface {name} {{", *self._fields(schema, "  "), "}\n"]
        else:
            lines.append(f"export type {name} = {self.of(schema)};\n")
        return "\n".join(lines)

    def _fields(self, schema: Schema, indent: str) -> Iterator[str]:
        required = schema.get("required", ())
        for field, child in schema["properties"].items():
            if isinstance(child, dict):
                yield from _comment(child.get("description", ""), indent)
            key = field if _IDENTIFIER.match(field) else json.dumps(field)
            yield f"{indent}{key}{'' if field in required else '?'}: {self.of(child)};"
        if schema.get("additionalProperties", False) is not False:
            yield f"{indent}[more: string]: unknown;"

    def of(self, schema: Any) -> str:
        """The type of a schema's values, as an expression."""
        if not isinstance(schema, dict):
            return "never" if schema is False else "unknown"
        if "$ref" in schema:
            return self._names[schema["$ref"].removeprefix(REFERENCE)]
        if "const" in schema:
            return _literal(schema["const"])
        if "enum" in schema:
            return _union(map(_literal, schema["enum"]))
        for keyword in ("anyOf", "oneOf"):
            if keyword in schema:
                return _union(self.of(choice) for choice in schema[keyword])
        if "allOf" in schema:
            return " & ".join(_grouped(self.of(part)) for part in schema["allOf"])
        kinds = schema.get("type", [])
        if isinstance(kinds, list):
            return _union(self.of({**schema, "type": kind}) for kind in kinds) if kinds else "unknown"
        if kinds == "array":
            return self._list(schema)
        return self._object(schema) if kinds == "object" else _PLAIN[kinds]

    def _list(self, schema: Schema) -> str:
        items = schema.get("items", True)
        if not isinstance(items, list):
            return f"{_grouped(self.of(items))}[]"
        sure = schema.get("minItems", 0)
        parts = [self.of(item) if place < sure else f"({self.of(item)})?" for place, item in enumerate(items)]
        rest = schema.get("additionalItems", True)
        return f"[{', '.join(parts if rest is False else [*parts, f'...{_grouped(self.of(rest))}[]'])}]"

    def _object(self, schema: Schema) -> str:
        if schema.get("properties"):
            return f"{{ {' '.join(self._fields(schema, ''))} }}".replace("\n", " ")
        if schema.get("maxProperties") == 0:
            return "Record<string, never>"
        return f"Record<string, {self.of(schema.get('additionalProperties', True))}>"


def _literal(value: object) -> str:
    if isinstance(value, dict):
        return "Record<string, unknown>"
    return "unknown[]" if isinstance(value, list) else json.dumps(value)


def _union(types: Iterable[str]) -> str:
    return " | ".join(dict.fromkeys(types))


def _grouped(expression: str) -> str:
    return f"({expression})" if re.search(r"[|&]", expression) else expression


def _comment(text: str, indent: str) -> list[str]:
    """A doc comment; nothing in the text ends it early."""
    safe = re.sub(r"[^\S \n]|[\x00-\x09\x0b-\x1f\x7f]", " ", text).replace("*/", "* /").strip()
    if not safe:
        return []
    lines = safe.split("\n")
    if len(lines) == 1:
        return [f"{indent}/** {safe} */"]
    return [f"{indent}/**", *(f"{indent} * {line}".rstrip() for line in lines), f"{indent} */"]
