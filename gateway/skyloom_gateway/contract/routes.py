"""The contract of apps, from their routes' types."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Literal

from pydantic import PydanticUserError, TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

from skyloom_gateway.app import AppError
from skyloom_gateway.contract.contract import Contract, ErrorCode, Operation
from skyloom_gateway.contract.gateway_errors import GATEWAY_ERRORS
from skyloom_gateway.contract.schema import ANY_OBJECT, REFERENCE, Schema, draft07, map_children

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pydantic_core import core_schema

    from skyloom import Failed
    from skyloom_gateway.agent import Route
    from skyloom_gateway.app import App

    _Adapters = list[tuple[tuple[str, str], Literal["validation", "serialization"], TypeAdapter[Any]]]

_NULL = {"type": "null"}
_NO_ANSWER = {"type": "object", "maxProperties": 0}


class _AsSent(GenerateJsonSchema):
    """Schemas of what travels."""

    def field_title_should_be_set(self, schema: object) -> bool:
        """A field's name in capitals says nothing new."""
        return False

    def field_is_required(
        self,
        field: core_schema.ModelField | core_schema.DataclassField | core_schema.TypedDictField,
        total: bool,
    ) -> bool:
        """What has a default is sent all the same, so that its receiver can rely on it."""
        if self.mode == "serialization" and field["type"] != "typed-dict-field":
            return field.get("serialization_exclude_if") is None
        return super().field_is_required(field, total)


def contract_of(apps: Iterable[App]) -> Contract:
    """What clients and these apps agree on.

    Raises:
        AppError: a type of a body or an answer has no JSON schema, or two errors have one code.
    """
    routes: dict[str, Operation] = {}
    pushes: dict[str, Operation] = {}
    schemas: dict[str, Schema] = {}
    errors: dict[str, ErrorCode] = {}
    ordered = sorted(apps, key=lambda app: app.name)
    for app in ordered:
        found, definitions = _schemas(app)
        schemas.update(definitions)
        for route in app.routes.values():
            routes[route.name] = _operation(route, found)
            for code, error in routes[route.name].errors.items():
                if errors.setdefault(code, error) != error:
                    raise AppError(
                        f"app {app.name!r}: error code {code!r} belongs to two classes, {errors[code].name} "
                        f"and {error.name}: give each error a code of its own"
                    )
        for push in app.pushes:
            body = found["push", push.route]
            pushes[push.route] = Operation(push.route, "push", body, None, {}, _words(push))
    return Contract(
        " and ".join(app.title for app in ordered),
        {app.name: app.description for app in ordered},
        dict(sorted(routes.items())),
        dict(sorted(pushes.items())),
        dict(sorted(schemas.items())),
        GATEWAY_ERRORS,
    )


def _operation(route: Route, schemas: dict[tuple[str, str], Schema]) -> Operation:
    answer = schemas.get(("answer", route.name), ANY_OBJECT)
    return Operation(
        route.name,
        "request" if route.is_request else "notify",
        schemas.get(("body", route.name), ANY_OBJECT),
        _none_as_sent(answer) if route.is_request else None,
        error_codes(route.errors),
        _words(route.handler),
    )


def _schemas(app: App) -> tuple[dict[tuple[str, str], Schema], dict[str, Schema]]:
    """The schemas of an app's bodies, answers and pushes, and of what they refer to.

    Each app by itself, so that a model of the same name in another app changes none of its names.
    """
    adapters: _Adapters = []
    for route in app.routes.values():
        if route.body is not None:
            adapters.append((("body", route.name), "validation", route.body))
        if route.answer is not None:
            adapters.append((("answer", route.name), "serialization", route.answer))
    adapters += [(("push", push.route), "serialization", TypeAdapter(push)) for push in app.pushes]
    prefix = f"{app.name}."
    try:
        found, rest = TypeAdapter.json_schemas(
            adapters, ref_template=f"{REFERENCE}{prefix}{{model}}", schema_generator=_AsSent
        )
    except PydanticUserError as error:
        why = error.message.splitlines()[0]
        raise AppError(f"app {app.name!r}: a type of its routes has no JSON schema: {why}") from error
    for schema in (*found.values(), *rest.get("$defs", {}).values()):
        _require_tags(schema, rest.get("$defs", {}), prefix)
    definitions = {prefix + name: draft07(schema) for name, schema in rest.get("$defs", {}).items()}
    return {key: draft07(schema) for (key, _), schema in found.items()}, definitions


def _require_tags(schema: Any, definitions: dict[str, Schema], prefix: str) -> Any:
    """Where a field tells the parts of a union apart, it has to be there, though each part has a default for it."""
    if isinstance(schema, dict):
        tag = schema.get("discriminator", {}).get("propertyName")
        for pointer in schema.get("discriminator", {}).get("mapping", {}).values():
            part = definitions.get(pointer.removeprefix(REFERENCE + prefix), {})
            if tag in part.get("properties", {}) and tag not in part.get("required", ()):
                part["required"] = [*part.get("required", ()), tag]
        map_children(schema, lambda child: _require_tags(child, definitions, prefix))
    return schema


def error_codes(errors: Sequence[type[Failed]]) -> dict[str, ErrorCode]:
    """What a contract says of errors, by their codes."""
    return {
        error.code: ErrorCode(error.code, error.kind, error.retryable, error.__name__, _words(error))
        for error in sorted(errors, key=lambda error: error.code)
    }


def _none_as_sent(answer: Schema) -> Schema:
    """A handler's None travels as an empty object."""
    if _NULL not in answer.get("anyOf", ()):
        return answer
    return {**answer, "anyOf": [_NO_ANSWER if choice == _NULL else choice for choice in answer["anyOf"]]}


def _words(thing: Any) -> str:
    return inspect.cleandoc(thing.__doc__ or "")
