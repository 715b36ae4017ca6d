"""A contract as an AsyncAPI 3.0 document.

Each route is a channel, with its name for address; each request, notify and push an operation on one. A message's
payload is the frame's body, its headers are what else the frame has. `info.x-contract` is the contract's hash.

Source: https://www.asyncapi.com/docs/reference/specification/v3.0.0
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from skyloom_gateway.contract.schema import REFERENCE
from skyloom_gateway.wire import JSON, MSGPACK, ErrorKind
from skyloom_gateway.wire.frame import ID_MAX

if TYPE_CHECKING:
    from skyloom_gateway.contract.contract import Contract, ErrorCode, Operation

CONTENT_TYPE: Final = "application/json"
HASH_FIELD: Final = "x-contract"
ERROR_SCHEMA: Final = "gateway.Error"
GATEWAY_CHANNEL: Final = "gateway"
PROTOCOL_VERSION: Final = "1"

_ID: Final = {"type": "integer", "minimum": 0, "maximum": ID_MAX}
_ROUTE: Final = {"type": "string"}


def document(contract: Contract) -> dict[str, Any]:
    """The document, as plain data; the same for the same contract, but for words."""
    operations = [*contract.routes.values(), *contract.pushes.values()]
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": contract.title,
            "version": PROTOCOL_VERSION,
            "description": "Routes, pushes and errors of a Skyloom gateway, to clients that speak version "
            f"{PROTOCOL_VERSION} of its protocol.\nA message's payload is the body of a frame, its headers are the "
            "frame's other fields. Bodies may gain fields: a client ignores what it does not know.",
            HASH_FIELD: contract.hash,
            "tags": [{"name": name, **_description(words)} for name, words in contract.apps.items()],
        },
        "defaultContentType": CONTENT_TYPE,
        "servers": _servers(),
        "channels": _channels(contract),
        "operations": {
            **{_operation_id(each): _operation(each) for each in operations},
            "error-gateway": {
                "action": "send",
                "channel": {"$ref": f"#/channels/{GATEWAY_CHANNEL}"},
                "summary": "What any request, notify or connection may meet, whatever its app.",
            },
        },
        "components": {
            "schemas": {**contract.schemas, ERROR_SCHEMA: _error_schema()},
            "messages": _messages(contract),
            "messageTraits": _traits(),
            "correlationIds": {
                "id": {"description": "The answer has its request's id.", "location": "$message.header#/id"}
            },
            "channelBindings": {
                "route": {"ws": {"method": "GET", "headers": _subprotocol(), "bindingVersion": "0.1.0"}}
            },
        },
    }


def document_bytes(contract: Contract) -> bytes:
    """The document as it is written and served: JSON in UTF-8."""
    return json.dumps(document(contract), indent=2, ensure_ascii=False).encode() + b"\n"


def _servers() -> dict[str, Any]:
    return {
        "tcp": {
            "host": "{host}",
            "protocol": "tcp",
            "protocolVersion": PROTOCOL_VERSION,
            "title": "TCP",
            "description": "Each frame is msgpack, after its length as two bytes, the high one first. The body in a "
            "frame is a bin that holds the msgpack of the payload.",
            "variables": {"host": {"default": "127.0.0.1:8001", "description": "host and port"}},
        },
        "websocket": {
            "host": "{host}",
            "pathname": "/ws",
            "protocol": "ws",
            "protocolVersion": PROTOCOL_VERSION,
            "title": "WebSocket",
            "description": f"Subprotocol {JSON.subprotocol} (the default): each frame is a JSON object, as text. "
            f"Subprotocol {MSGPACK.subprotocol}: msgpack as on TCP, in a binary message. With TLS the scheme is wss.",
            "variables": {"host": {"default": "127.0.0.1:8000", "description": "host and port"}},
        },
    }


def _subprotocol() -> dict[str, Any]:
    names = [JSON.subprotocol, MSGPACK.subprotocol]
    return {"type": "object", "properties": {"Sec-WebSocket-Protocol": {"enum": names, "default": names[0]}}}


def _operation_id(operation: Operation) -> str:
    # A route has no "-", so these never meet.
    return f"{operation.kind}-{operation.route}"


def _message_id(operation: Operation, part: str) -> str:
    return f"{operation.route}-{part}"


def _operation(operation: Operation) -> dict[str, Any]:
    channel = f"#/channels/{operation.route}"
    is_push = operation.kind == "push"
    made: dict[str, Any] = {
        "action": "send" if is_push else "receive",
        "channel": {"$ref": channel},
        "title": operation.route,
        **_words(operation.description),
        "tags": [{"name": operation.route.partition(".")[0]}],
        "messages": [{"$ref": f"{channel}/messages/{operation.kind}"}],
    }
    if operation.kind == "request":
        answers = ["answer", *operation.errors]
        made["reply"] = {
            "channel": {"$ref": channel},
            "messages": [{"$ref": f"{channel}/messages/{each}"} for each in answers],
        }
    return made


def _channels(contract: Contract) -> dict[str, Any]:
    channels: dict[str, Any] = {}
    for operation in (*contract.routes.values(), *contract.pushes.values()):
        channel = channels.setdefault(
            operation.route,
            {
                "address": operation.route,
                "messages": {},
                "bindings": {"$ref": "#/components/channelBindings/route"},
            },
        )
        parts: dict[str, str] = {operation.kind: _message_id(operation, operation.kind)}
        if operation.answer is not None:
            parts["answer"] = _message_id(operation, "answer")
        parts |= {code: _error_id(code) for code in operation.errors}
        channel["messages"] |= {part: {"$ref": f"#/components/messages/{key}"} for part, key in parts.items()}
    channels[GATEWAY_CHANNEL] = {
        "address": None,
        "messages": {code: {"$ref": f"#/components/messages/{_error_id(code)}"} for code in contract.gateway_errors},
    }
    return dict(sorted(channels.items()))


def _messages(contract: Contract) -> dict[str, Any]:
    messages: dict[str, Any] = {}
    errors = dict(contract.gateway_errors)
    for operation in (*contract.routes.values(), *contract.pushes.values()):
        sent = _message_id(operation, operation.kind)
        messages[sent] = _message(sent, operation.kind, operation.body)
        if operation.answer is not None:
            answer = _message_id(operation, "answer")
            messages[answer] = _message(answer, "response", operation.answer)
        errors |= operation.errors
    messages |= {_error_id(code): _error_message(error) for code, error in errors.items()}
    return dict(sorted(messages.items()))


def _message(name: str, frame: str, payload: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "traits": [{"$ref": f"#/components/messageTraits/{frame}"}], "payload": payload}


def _error_id(code: str) -> str:
    return f"error-{code}"


def _error_message(error: ErrorCode) -> dict[str, Any]:
    told = {
        "code": {"const": error.code},
        "kind": {"const": error.kind},
        "retryable": {"type": "boolean", "default": error.retryable},
    }
    return {
        "name": error.code,
        "title": error.name,
        **_words(error.description),
        "traits": [{"$ref": "#/components/messageTraits/error"}],
        "payload": {"allOf": [{"$ref": f"{REFERENCE}{ERROR_SCHEMA}"}, {"type": "object", "properties": told}]},
    }


def _error_schema() -> dict[str, Any]:
    return {
        "title": "Error",
        "description": "Programs go by the code, or more broadly by the kind; the message is for people.",
        "type": "object",
        "properties": {
            "code": {"type": "string"},
            "kind": {"enum": sorted(ErrorKind)},
            "message": {"type": "string"},
            "retryable": {"type": "boolean", "description": "whether the same request may succeed later"},
            "details": {"type": "object"},
        },
        "required": ["code", "kind", "message", "retryable", "details"],
    }


def _traits() -> dict[str, Any]:
    numbered = {"correlationId": {"$ref": "#/components/correlationIds/id"}}
    return {
        "request": {"headers": _headers("request", id=_ID, route=_ROUTE), **numbered},
        "response": {"headers": _headers("response", id=_ID), **numbered},
        "error": {
            "headers": _headers("error", id={**_ID, "description": "0: about the connection or a notify"}),
            **numbered,
        },
        "notify": {"headers": _headers("notify", route=_ROUTE)},
        "push": {"headers": _headers("push", seq={"type": "integer", "minimum": 1}, route=_ROUTE)},
    }


def _headers(frame: str, **fields: dict[str, Any]) -> dict[str, Any]:
    properties: dict[str, Any] = {"type": {"const": frame}, **fields}
    return {"type": "object", "properties": properties, "required": list(properties)}


def _description(text: str) -> dict[str, str]:
    return {"description": text} if text else {}


def _words(text: str) -> dict[str, str]:
    """A description, and its first sentence or line for a summary."""
    if not text:
        return {}
    first = text.partition("\n\n")[0].replace("\n", " ")
    return {"summary": first} if first == text else {"summary": first, "description": text}
