"""Strict readers for the fields of a decoded frame, shared by both codecs.

`type(x) is int` throughout: a bool is an int to isinstance, and decoders yield no subclasses.
"""

import re
from typing import Final

from skyloom_gateway.wire.codes import ErrorKind, WireError
from skyloom_gateway.wire.frame import (
    ID_MAX,
    ROUTE_CHARACTERS_MAX,
    SEQ_MAX,
    Drain,
    Hello,
    Kind,
    Resume,
    Welcome,
)
from skyloom_gateway.wire.malformed import Malformed

# Stands for a field that is not there; null is a value.
MISSING: Final = object()

# fullmatch, because `$` also matches before a line feed at the end.
is_route = re.compile(rf"[a-z][a-z0-9_.]{{0,{ROUTE_CHARACTERS_MAX - 1}}}").fullmatch

_ERROR_KINDS = {kind.value: kind for kind in ErrorKind}
_TYPE_NAMES = {
    type(None): "null",
    bool: "a boolean",
    int: "an integer",
    float: "a float",
    str: "a string",
    bytes: "a bin",
    list: "an array",
    dict: "a map",
}


def type_name(value: object) -> str:
    """What a decoded value is, in the protocol's words; never its content."""
    return "nothing" if value is MISSING else _TYPE_NAMES.get(type(value), "something else")


def unsigned(value: object, field: str, largest: int) -> int:
    """An integer from 0 to `largest`."""
    if type(value) is not int:
        raise Malformed(f"{field}: expected an integer from 0 to {largest}, got {type_name(value)}")
    if not 0 <= value <= largest:
        raise Malformed(f"{field}: must be from 0 to {largest}")
    return value


def request_id(value: object, field: str) -> int:
    """A request's id: a uint32."""
    return unsigned(value, field, ID_MAX)


def sequence(value: object, field: str) -> int:
    """A push's number."""
    return unsigned(value, field, SEQ_MAX)


def text(value: object, field: str) -> str:
    """A string."""
    if type(value) is not str:
        raise Malformed(f"{field}: expected a string, got {type_name(value)}")
    return value


def route(value: object, field: str) -> str:
    """A route's name."""
    if not is_route(text(value, field)):
        raise Malformed(f"{field}: must be 1 to {ROUTE_CHARACTERS_MAX} of a-z, 0-9, _ and ., a letter first")
    return str(value)


def number(value: object, field: str) -> float:
    """An integer or a float."""
    if type(value) is not float and type(value) is not int:
        raise Malformed(f"{field}: expected a number, got {type_name(value)}")
    return value


def plain(value: float) -> float:
    """A number as both encodings are to show it: 20 rather than 20.0."""
    return int(value) if float(value).is_integer() else value


def flag(value: object, field: str) -> bool:
    """A boolean."""
    if type(value) is not bool:
        raise Malformed(f"{field}: expected a boolean, got {type_name(value)}")
    return value


def mapping(value: object, field: str) -> dict[str, object]:
    """A map whose keys are strings; msgpack's may also be bin."""
    if type(value) is not dict:
        raise Malformed(f"{field}: expected a map, got {type_name(value)}")
    if any(type(key) is not str for key in value):
        raise Malformed(f"{field}: the keys of a map must be strings, got a bin")
    return value


def hello(fields: dict[str, object]) -> Hello:
    """A hello from its map; `client` and `resume` may be left out or null."""
    auth = mapping(fields.get("auth", MISSING), "hello.auth")
    client = fields.get("client")
    resume = fields.get("resume")
    return Hello(
        auth,
        None if client is None else mapping(client, "hello.client"),
        None if resume is None else _resume(mapping(resume, "hello.resume")),
    )


def _resume(fields: dict[str, object]) -> Resume:
    return Resume(
        text(fields.get("session", MISSING), "hello.resume.session"),
        text(fields.get("key", MISSING), "hello.resume.key"),
        sequence(fields.get("seq", MISSING), "hello.resume.seq"),
    )


def welcome(fields: dict[str, object]) -> Welcome:
    """A welcome from its map."""
    heartbeat = fields.get("heartbeat")
    contract = fields.get("contract")
    return Welcome(
        session=text(fields.get("session", MISSING), "welcome.session"),
        key=text(fields.get("key", MISSING), "welcome.key"),
        user=text(fields.get("user", MISSING), "welcome.user"),
        recovered=flag(fields.get("recovered", MISSING), "welcome.recovered"),
        heartbeat=None if heartbeat is None else number(heartbeat, "welcome.heartbeat"),
        limits=mapping(fields.get("limits", {}), "welcome.limits"),
        contract=None if contract is None else text(contract, "welcome.contract"),
        fields=fields,
    )


def drain(fields: dict[str, object]) -> Drain:
    """A drain from its map."""
    return Drain(
        text(fields.get("reason", MISSING), "drain.reason"),
        number(fields.get("reconnect_in", MISSING), "drain.reconnect_in"),
    )


def wire_error(value: object) -> WireError:
    """An error from its map."""
    fields = mapping(value, "error.error")
    kind = _ERROR_KINDS.get(text(fields.get("kind", MISSING), "error.error.kind"))
    if kind is None:
        raise Malformed("error.error.kind: not one of the protocol's error kinds")
    return WireError(
        code=text(fields.get("code", MISSING), "error.error.code"),
        kind=kind,
        message=text(fields.get("message", MISSING), "error.error.message"),
        retryable=flag(fields.get("retryable", False), "error.error.retryable"),
        details=mapping(fields.get("details", {}), "error.error.details"),
    )


def error_fields(error: WireError) -> dict[str, object]:
    """An error as the map that travels."""
    return {
        "code": error.code,
        "kind": error.kind.value,
        "message": error.message,
        "retryable": error.retryable,
        "details": dict(error.details),
    }


def wrong_side(kind: Kind, sender: str) -> Malformed:
    """The refusal of a frame that only the other side may send; `sender` is `client` or `server`."""
    return Malformed(f"{kind.name.lower()}: this kind of frame is sent by the {sender} only")
