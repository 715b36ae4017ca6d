"""A contract: what clients may ask of the apps of a gateway, and what they are told."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from skyloom_gateway.contract.schema import wordless

if TYPE_CHECKING:
    from collections.abc import Mapping

    from skyloom_gateway.contract.schema import Schema
OperationKind: TypeAlias = Literal["request", "notify", "push"]


class ContractError(ValueError):
    """A contract's document cannot be read, compared or turned into code. The text says where and why."""


@dataclass(frozen=True, slots=True)
class ErrorCode:
    """One error that clients can tell from others.

    Args:
        code: stable and namespaced, such as "chat.room_not_found".
        kind: one of the protocol's twelve.
        retryable: whether trying again may help, unless the error itself says otherwise.
        name: a name for programs, such as "RoomNotFound".
        description: for people; may be empty.
    """

    code: str
    kind: str
    retryable: bool
    name: str
    description: str


@dataclass(frozen=True, slots=True)
class Operation:
    """A request, a notify or a push.

    Args:
        route: its name on the wire.
        kind: who sends it, and whether an answer follows.
        body: the schema of what is sent.
        answer: the schema of a request's answer; None for the other kinds.
        errors: what the app may answer with, by code; the gateway's own are not repeated here.
        description: for people; may be empty.
    """

    route: str
    kind: OperationKind
    body: Schema
    answer: Schema | None
    errors: Mapping[str, ErrorCode]
    description: str


@dataclass(frozen=True, slots=True)
class Contract:
    """All of it, each map sorted by its keys. `$ref`s in schemas are ``#/components/schemas/<key of schemas>``.

    Args:
        title: for people.
        apps: descriptions, by the apps' names.
        routes: requests and notifies.
        pushes: what clients are sent unasked.
        schemas: what the schemas of operations refer to.
        gateway_errors: what any route may meet.
    """

    title: str
    apps: Mapping[str, str]
    routes: Mapping[str, Operation]
    pushes: Mapping[str, Operation]
    schemas: Mapping[str, Schema]
    gateway_errors: Mapping[str, ErrorCode]

    @property
    def hash(self) -> str:
        """Over all that programs go by, without the words for people: "sha256:" and 64 hex digits."""
        agreed = {
            "routes": {name: _agreed(operation) for name, operation in self.routes.items()},
            "pushes": {name: _agreed(operation) for name, operation in self.pushes.items()},
            "schemas": {name: wordless(schema) for name, schema in self.schemas.items()},
            "gateway_errors": _codes(self.gateway_errors),
        }
        text = json.dumps(agreed, sort_keys=True, separators=(",", ":"))
        return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def _agreed(operation: Operation) -> dict[str, object]:
    return {
        "kind": operation.kind,
        "body": wordless(operation.body),
        "answer": None if operation.answer is None else wordless(operation.answer),
        "errors": _codes(operation.errors),
    }


def _codes(errors: Mapping[str, ErrorCode]) -> dict[str, list[object]]:
    return {code: [error.kind, error.retryable] for code, error in errors.items()}
