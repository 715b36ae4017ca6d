"""A contract, read back from the document that `document_bytes` wrote.

A file may come from anywhere, so that everything in it is looked at before it is used, and what is wrong is named.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar

from skyloom_gateway.contract.contract import Contract, ContractError, ErrorCode, Operation
from skyloom_gateway.contract.document import ERROR_SCHEMA, GATEWAY_CHANNEL, HASH_FIELD
from skyloom_gateway.contract.valid_schema import check_schemas
from skyloom_gateway.wire import ErrorKind
from skyloom_gateway.wire.bounds import excess
from skyloom_gateway.wire.fields import is_route

if TYPE_CHECKING:
    from collections.abc import Mapping

    from skyloom_gateway.contract.contract import OperationKind
    from skyloom_gateway.contract.schema import Schema

DOCUMENT_BYTES_MAX: Final = 4 * 1024 * 1024
"""The longest document."""

DEPTH_MAX: Final = 64
"""Containers inside each other in a document."""

ENTRIES_MAX: Final = 2_000
"""Entries in any of a document's maps and lists, such as its routes and its schemas."""

_PARTS: Final = frozenset({"request", "answer", "notify", "push"})

T = TypeVar("T")


def read_contract(data: bytes) -> Contract:
    """The contract that a document describes.

    Raises:
        ContractError: it is no AsyncAPI 3 document that `skyloom schema` wrote, or too large; the text says where.
    """
    return _Reader(_load(data)).contract()


def _load(data: bytes) -> dict[str, Any]:
    if len(data) > DOCUMENT_BYTES_MAX:
        raise ContractError(f"it has {len(data):,} bytes, over {DOCUMENT_BYTES_MAX:,}")
    try:
        document = json.loads(data.decode(), parse_constant=_no_constant)
    except UnicodeDecodeError as error:
        raise ContractError(f"it is not UTF-8, at byte {error.start}") from None
    except RecursionError:
        raise ContractError(f"it is nested deeper than {DEPTH_MAX} levels") from None
    except ValueError as error:
        raise ContractError(f"it is not JSON: {str(error)[:200]}") from None
    if not isinstance(document, dict):
        raise ContractError(f"it is no JSON object but {_kind(document)}")
    if (over := excess(document, DEPTH_MAX, ENTRIES_MAX, ENTRIES_MAX)) is not None:
        raise ContractError(f"it is over a limit: {over}")
    return document


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


class _Reader:
    def __init__(self, document: dict[str, Any]) -> None:
        self._document = document
        self._routes: dict[str, Operation] = {}
        self._pushes: dict[str, Operation] = {}

    def contract(self) -> Contract:
        document = self._document
        version = _get(document, "asyncapi", str, "")
        if not version.startswith("3."):
            raise ContractError(f"asyncapi: version {version[:20]!r} is not read, only 3")
        info = _get(document, "info", dict, "")
        if not isinstance(info.get(HASH_FIELD), str):
            raise ContractError(f"info.{HASH_FIELD} is missing: this document was not written by `skyloom schema`")
        components = _get(document, "components", dict, "")
        schemas = dict(_get(components, "schemas", dict, "components"))
        schemas.pop(ERROR_SCHEMA, None)
        for name, operation in _get(document, "operations", dict, "").items():
            self._operation(operation, f"operations.{_short(name)}")
        bodies = {
            f"{operation.kind} {operation.route}, {what}": schema
            for operation in (*self._routes.values(), *self._pushes.values())
            for what, schema in (("body", operation.body), ("answer", operation.answer))
            if schema is not None
        }
        check_schemas(schemas, bodies)
        gateway = self._channel(GATEWAY_CHANNEL, "channels")
        return Contract(
            _get(info, "title", str, "info"),
            dict(_tag(tag) for tag in _get(info, "tags", list, "info")),
            dict(sorted(self._routes.items())),
            dict(sorted(self._pushes.items())),
            dict(sorted(schemas.items())),
            self._errors(gateway, f"channels.{GATEWAY_CHANNEL}"),
        )

    def _operation(self, operation: Any, where: str) -> None:
        if not isinstance(operation, dict):
            raise ContractError(f"{where}: wanted an object, got {_kind(operation)}")
        channel_name = self._reference(_get(operation, "channel", dict, where), "#/channels/", f"{where}.channel")
        if channel_name == GATEWAY_CHANNEL:
            return
        channel = self._channel(channel_name, where)
        where = f"channels.{channel_name}"
        route = _get(channel, "address", str, where)
        if not is_route(route):
            raise ContractError(f"{where}.address: {_short(route)} is no route, which is made of a-z, 0-9, _ and .")
        action = _get(operation, "action", str, where)
        kind: OperationKind = "push" if action == "send" else "request" if "reply" in operation else "notify"
        table = self._pushes if kind == "push" else self._routes
        if route in table:
            raise ContractError(f"{where}: {route} has two operations of its kind")
        table[route] = Operation(
            route,
            kind,
            self._payload(channel, kind, where),
            self._payload(channel, "answer", where) if kind == "request" else None,
            {} if kind == "push" else self._errors(channel, where),
            _description(operation, where),
        )

    def _channel(self, name: str, where: str) -> dict[str, Any]:
        channels = _get(self._document, "channels", dict, "")
        if name not in channels:
            raise ContractError(f"{where}: there is no channel {_short(name)}")
        return _get(channels, name, dict, "channels")

    def _payload(self, channel: dict[str, Any], part: str, where: str) -> Schema:
        messages = _get(channel, "messages", dict, where)
        message = self._message(_get(messages, part, dict, f"{where}.messages"), f"{where}.messages.{part}")
        return _get(message, "payload", dict, f"{where}.messages.{part}")

    def _errors(self, channel: dict[str, Any], where: str) -> dict[str, ErrorCode]:
        messages = _get(channel, "messages", dict, where)
        errors = {}
        for name in sorted(messages.keys() - _PARTS):
            place = f"{where}.messages.{_short(name)}"
            error = _error(self._message(_get(messages, name, dict, f"{where}.messages"), place), place)
            errors[error.code] = error
        return errors

    def _message(self, reference: dict[str, Any], where: str) -> dict[str, Any]:
        components = _get(self._document, "components", dict, "")
        messages = _get(components, "messages", dict, "components")
        name = self._reference(reference, "#/components/messages/", where)
        if name not in messages:
            raise ContractError(f"{where}: there is no message {_short(name)}")
        return _get(messages, name, dict, "components.messages")

    def _reference(self, reference: dict[str, Any], prefix: str, where: str) -> str:
        pointer = _get(reference, "$ref", str, where)
        if not pointer.startswith(prefix):
            raise ContractError(f"{where}.$ref: {_short(pointer)} does not begin with {prefix}")
        return pointer.removeprefix(prefix)


def _error(message: dict[str, Any], where: str) -> ErrorCode:
    parts = _get(_get(message, "payload", dict, where), "allOf", list, f"{where}.payload")
    own = next((part for part in parts if isinstance(part, dict) and "properties" in part), {})
    told = _get(own, "properties", dict, f"{where}.payload.allOf")
    code, kind = (
        _get(_get(told, name, dict, f"{where}.{name}"), "const", str, f"{where}.{name}") for name in ("code", "kind")
    )
    if not is_route(code):
        raise ContractError(f"{where}: {_short(code)} is no error code, which is made of a-z, 0-9, _ and .")
    if kind not in ErrorKind.__members__.values():
        raise ContractError(f"{where}: {_short(kind)} is none of the kinds of error")
    retryable = _get(_get(told, "retryable", dict, where), "default", bool, f"{where}.retryable")
    return ErrorCode(code, kind, retryable, _get(message, "title", str, where), _description(message, where))


def _tag(tag: Any) -> tuple[str, str]:
    if not isinstance(tag, dict):
        raise ContractError(f"info.tags: wanted objects, got {_kind(tag)}")
    return _get(tag, "name", str, "info.tags"), _description(tag, "info.tags")


def _description(thing: Mapping[str, Any], where: str) -> str:
    text = thing.get("description", thing.get("summary", ""))
    if not isinstance(text, str):
        raise ContractError(f"{where}.description: wanted text, got {_kind(text)}")
    return text


def _get(thing: Mapping[str, Any], key: str, kind: type[T], where: str) -> T:
    place = f"{where}.{_short(key)}".lstrip(".")
    if key not in thing:
        raise ContractError(f"{place} is missing")
    value = thing[key]
    if not isinstance(value, kind):
        raise ContractError(f"{place}: wanted {_NAMES[kind]}, got {_kind(value)}")
    return value


_NAMES: Final[dict[type, str]] = {
    dict: "an object",
    list: "a list",
    str: "text",
    bool: "true or false",
    int: "a number",
    float: "a number",
    type(None): "null",
}


def _kind(value: object) -> str:
    return _NAMES.get(type(value), "something else")


def _short(text: str) -> str:
    """A name out of a foreign file, harmless to a terminal."""
    return text if text.isascii() and text.isprintable() and len(text) <= 100 else json.dumps(text[:100])
