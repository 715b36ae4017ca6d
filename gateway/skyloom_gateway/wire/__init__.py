"""The client wire protocol, version 1, free of I/O: bytes in, frames out, and back.

`JSON` and `MSGPACK` are the two codecs; `CODECS` finds one by its WebSocket subprotocol.
"""

from collections.abc import Mapping
from types import MappingProxyType

from skyloom_gateway.wire.codec import Codec
from skyloom_gateway.wire.codes import CLOSE_CAUSES, CloseCause, CloseCode, ErrorKind, WireError, close_error
from skyloom_gateway.wire.frame import (
    ID_MAX,
    ROUTE_CHARACTERS_MAX,
    SEQ_MAX,
    Ack,
    ClientFrame,
    Drain,
    ErrorFrame,
    Hello,
    Kind,
    Notify,
    Ping,
    Pong,
    Push,
    Request,
    Response,
    Resume,
    ServerFrame,
    Welcome,
)
from skyloom_gateway.wire.json import JSON
from skyloom_gateway.wire.malformed import Malformed
from skyloom_gateway.wire.msgpack import MSGPACK

CODECS: Mapping[str, Codec] = MappingProxyType({codec.subprotocol: codec for codec in (JSON, MSGPACK)})

__all__ = [
    "CLOSE_CAUSES",
    "CODECS",
    "ID_MAX",
    "JSON",
    "MSGPACK",
    "ROUTE_CHARACTERS_MAX",
    "SEQ_MAX",
    "Ack",
    "ClientFrame",
    "CloseCause",
    "CloseCode",
    "Codec",
    "Drain",
    "ErrorFrame",
    "ErrorKind",
    "Hello",
    "Kind",
    "Malformed",
    "Notify",
    "Ping",
    "Pong",
    "Push",
    "Request",
    "Response",
    "Resume",
    "ServerFrame",
    "Welcome",
    "WireError",
    "close_error",
]
