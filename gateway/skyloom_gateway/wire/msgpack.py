"""The msgpack codec: one array per frame, as WebSocket binary and over TCP.

The body is a `bin` that holds the body's own msgpack, so a frame is routed and forwarded without decoding it.
"""

import re
from collections.abc import Callable, Mapping
from struct import Struct
from sys import maxsize
from typing import Final

import msgpack
from pydantic import BaseModel
from pydantic_core import from_json, to_json, to_jsonable_python

from skyloom_gateway.wire import fields
from skyloom_gateway.wire.bounds import ARRAY_ITEMS_MAX, DEPTH_MAX, MAP_ITEMS_MAX, excess
from skyloom_gateway.wire.codec import Codec
from skyloom_gateway.wire.codes import WireError
from skyloom_gateway.wire.fields import MISSING, type_name
from skyloom_gateway.wire.frame import (
    ID_MAX,
    Ack,
    ClientFrame,
    ErrorFrame,
    Kind,
    Notify,
    Ping,
    Pong,
    Push,
    Request,
    Response,
    ServerFrame,
)
from skyloom_gateway.wire.malformed import REASON_BYTES_MAX, Malformed

_unpackb: Final = msgpack.unpackb
_REQUEST: Final = Kind.REQUEST.value
_is_route: Final = fields.is_route
_EMPTY_BODY: Final = b"\x80"
# The array around a hello holds its map.
_FRAME_DEPTH_MAX: Final = DEPTH_MAX + 1

# Deleting these leaves the bytes that may open a map or an array: fixed forms, and those of 16 and 32 bits.
_NOT_OPENERS: Final = bytes(byte for byte in range(256) if not (0x80 <= byte <= 0x9F or 0xDC <= byte <= 0xDF))
# NaN and the infinities: a float of 32 or 64 bits whose exponent is all ones. Also finds some huge floats.
_find_nonfinite: Final = re.compile(rb"[\xca\xcb][\x7f\xff][\x80-\xff]", re.DOTALL).search

# Integers and the heads of strings and bins, ready for every small value.
_SMALL: Final = [bytes((value,)) for value in range(128)]
_pack_u8: Final = Struct(">BB").pack
_pack_u16: Final = Struct(">BH").pack
_pack_u32: Final = Struct(">BI").pack
_pack_u64: Final = Struct(">BQ").pack


def _may_hold_nonfinite(packed: bytes) -> bool:
    """Whether there may be a NaN or an infinity; a False is sure. Looking for one byte is much cheaper."""
    return (0xCB in packed or 0xCA in packed) and _find_nonfinite(packed) is not None


def _refuse_ext(_code: int, _data: bytes) -> object:
    raise ValueError("ext types are not allowed")


def _pack_unsigned(value: int) -> bytes:
    """The shortest form of an integer from 0 to 2**64 - 1."""
    if value < 0x80:
        return _SMALL[value]
    if value < 0x100:
        return _pack_u8(0xCC, value)
    if value < 0x10000:
        return _pack_u16(0xCD, value)
    if value < 0x100000000:
        return _pack_u32(0xCE, value)
    return _pack_u64(0xCF, value)


def _pack_bin_head(length: int) -> bytes:
    if length < 0x100:
        return _pack_u8(0xC4, length)
    if length < 0x10000:
        return _pack_u16(0xC5, length)
    return _pack_u32(0xC6, length)


def _pack_plain(value: object) -> bytes:
    """Pack data that is plain but for NaN, which becomes nil as it becomes null in json."""
    try:
        packed: bytes = msgpack.packb(value)
    except OverflowError:
        raise ValueError("an integer beyond 64 bits has no form in msgpack: send it as a string") from None
    if _may_hold_nonfinite(packed):
        # The bytes may also be a string's, so ask json, which knows; rare enough not to matter.
        packed = msgpack.packb(from_json(to_json(value, inf_nan_mode="null")))
    return packed


def _unpack(data: bytes, what: str, array_items_max: int, map_items_max: int) -> object:
    """One-shot unpack, safe against claimed sizes. Ext types, timestamps too, and keys like 1 or nil fail.

    Strings and bins need no limit of their own: they cannot be longer than `data`.
    """
    try:
        return _unpackb(
            data,
            strict_map_key=True,
            max_array_len=array_items_max,
            max_map_len=map_items_max,
            # Timestamps never reach the hook; they are longer than this.
            max_ext_len=0,
            ext_hook=_refuse_ext,
        )
    except UnicodeDecodeError:
        reason = f"{what}: a string is not UTF-8"
    except msgpack.StackError:
        reason = f"{what}: nested deeper than {DEPTH_MAX} levels"
    except msgpack.FormatError:
        reason = f"{what} is not msgpack: it holds the reserved byte 0xc1"
    except msgpack.ExtraData:
        # The exception carries what was decoded, so it must not travel on as a cause.
        reason = f"{what}: bytes follow after its end"
    except ValueError as error:
        reason = f"{what} is not msgpack within the limits: {error}"[:REASON_BYTES_MAX]
    raise Malformed(reason)


def _load(data: bytes, array_items_max: int, map_items_max: int) -> list[object]:
    if not data:
        raise Malformed("a frame must be a msgpack array, got no bytes")
    frame = _unpack(data, "the frame", array_items_max, map_items_max)
    if type(frame) is not list:
        raise Malformed(f"a frame must be a msgpack array, got {type_name(frame)}")
    if not frame:
        raise Malformed("a frame must begin with its kind, got an empty array")
    return frame


def _item(frame: list[object], index: int) -> object:
    return frame[index] if index < len(frame) else MISSING


def _raw_body(frame: list[object], index: int, field: str) -> bytes:
    if index >= len(frame):
        return _EMPTY_BODY
    body = frame[index]
    if type(body) is not bytes:
        raise Malformed(f"{field}: expected a bin that holds the body's msgpack, got {type_name(body)}")
    return body


def _fields(frame: list[object], kind: str) -> dict[str, object]:
    """The map of a frame that is one map, held to the depth limit: the unpacker's own is 1,024."""
    over = excess(frame[1:2], _FRAME_DEPTH_MAX, ARRAY_ITEMS_MAX, MAP_ITEMS_MAX)
    if over is not None:
        raise Malformed(f"{kind}: {over}")
    return fields.mapping(_item(frame, 1), kind)


def _request(frame: list[object]) -> Request:
    if len(frame) >= 4:
        id = frame[1]
        route = frame[2]
        body = frame[3]
        if type(id) is int and 0 <= id <= ID_MAX and type(route) is str and type(body) is bytes and _is_route(route):
            return Request(id, route, body)
    return Request(
        fields.request_id(_item(frame, 1), "request.id"),
        fields.route(_item(frame, 2), "request.route"),
        _raw_body(frame, 3, "request.body"),
    )


def _notify(frame: list[object]) -> Notify:
    return Notify(fields.route(_item(frame, 1), "notify.route"), _raw_body(frame, 2, "notify.body"))


def _body_value(frame: list[object], index: int, field: str) -> object:
    body = _raw_body(frame, index, field)
    return _bounded(body, field, len(body), len(body))


def _bounded(body: bytes, what: str, array_items_max: int, map_items_max: int) -> object:
    value = _unpack(body, what, array_items_max, map_items_max)
    if len(body.translate(None, _NOT_OPENERS)) > DEPTH_MAX or _may_hold_nonfinite(body):
        over = excess(value, DEPTH_MAX, array_items_max, map_items_max)
        if over is not None:
            raise Malformed(f"{what} is over a limit: {over}")
    return value


def _response(frame: list[object]) -> Response:
    return Response(fields.request_id(_item(frame, 1), "response.id"), _body_value(frame, 2, "response.body"))


def _push(frame: list[object]) -> Push:
    return Push(
        fields.sequence(_item(frame, 1), "push.seq"),
        fields.route(_item(frame, 2), "push.route"),
        _body_value(frame, 3, "push.body"),
    )


def _error(frame: list[object]) -> ErrorFrame:
    over = excess(frame[2:3], _FRAME_DEPTH_MAX, maxsize, maxsize)
    if over is not None:
        raise Malformed(f"error: {over}")
    return ErrorFrame(fields.request_id(_item(frame, 1), "error.id"), fields.wire_error(_item(frame, 2)))


_CLIENT_READERS: Final[Mapping[object, Callable[[list[object]], ClientFrame]]] = {
    Kind.HELLO.value: lambda frame: fields.hello(_fields(frame, "hello")),
    Kind.REQUEST.value: _request,
    Kind.NOTIFY.value: _notify,
    Kind.ACK.value: lambda frame: Ack(fields.sequence(_item(frame, 1), "ack.seq")),
    Kind.PING.value: lambda _frame: Ping(),
    Kind.PONG.value: lambda _frame: Pong(),
}
_SERVER_READERS: Final[Mapping[object, Callable[[list[object]], ServerFrame]]] = {
    Kind.WELCOME.value: lambda frame: fields.welcome(_fields(frame, "welcome")),
    Kind.RESPONSE.value: _response,
    Kind.ERROR.value: _error,
    Kind.PUSH.value: _push,
    Kind.DRAIN.value: lambda frame: fields.drain(_fields(frame, "drain")),
    Kind.PING.value: lambda _frame: Ping(),
    Kind.PONG.value: lambda _frame: Pong(),
}


def _no_reader(kind: object, sender: str) -> Malformed:
    if type(kind) is not int:
        return Malformed(f"kind: expected the number of a kind of frame, got {type_name(kind)}")
    if 0 <= kind <= max(Kind):
        return fields.wrong_side(Kind(kind), sender)
    return Malformed("kind: not a kind of frame that version 1 knows")


class MsgpackCodec:
    """Protocol version 1 as msgpack. See `Codec` for what the methods promise."""

    name = "msgpack"
    text = False
    subprotocol = "skyloom.v1.msgpack"

    def decode(self, data: bytes) -> ClientFrame:
        """See `Codec.decode`. A body stays packed."""
        frame = _load(data, ARRAY_ITEMS_MAX, MAP_ITEMS_MAX)
        kind = frame[0]
        if kind == _REQUEST and type(kind) is int:
            return _request(frame)
        reader = _CLIENT_READERS.get(kind) if type(kind) is int else None
        if reader is None:
            raise _no_reader(kind, "server")
        return reader(frame)

    def decode_body(self, body: object) -> object:
        """See `Codec.decode_body`; a bin in it becomes bytes, and of equal keys the last one counts."""
        if type(body) is not bytes:
            raise Malformed(f"body: expected a bin that holds the body's msgpack, got {type_name(body)}")
        return _bounded(body, "body", ARRAY_ITEMS_MAX, MAP_ITEMS_MAX)

    def encode_body(self, value: object) -> bytes:
        """See `Codec.encode_body`. Data takes the form it has in json: both encodings carry equal values."""
        if isinstance(value, BaseModel) and "ser_json_inf_nan" not in value.model_config:
            return _pack_plain(value.__pydantic_serializer__.to_python(value, mode="json", by_alias=True))
        return _pack_plain(to_jsonable_python(value))

    def welcome(self, fields: Mapping[str, object]) -> bytes:
        """See `Codec.welcome`."""
        return b"\x92\x01" + self.encode_body(dict(fields))

    def response(self, id: int, body: bytes) -> bytes:
        """See `Codec.response`."""
        return b"\x93\x03%b%b%b" % (_pack_unsigned(id), _pack_bin_head(len(body)), body)

    def error(self, id: int, error: WireError) -> bytes:
        """See `Codec.error`."""
        return b"\x93\x04" + _pack_unsigned(id) + self.encode_body(fields.error_fields(error))

    def push_tail(self, route: str, body: bytes) -> bytes:
        """See `Codec.push_tail`."""
        packed: bytes = msgpack.packb(route)
        return b"%b%b%b" % (packed, _pack_bin_head(len(body)), body)

    def push_head(self, seq: int) -> bytes:
        """See `Codec.push_head`."""
        return b"\x94\x06" + _pack_unsigned(seq)

    def push(self, seq: int, tail: bytes) -> bytes:
        """See `Codec.push`."""
        return self.push_head(seq) + tail

    def drain(self, reason: str, reconnect_in: float) -> bytes:
        """See `Codec.drain`."""
        return b"\x92\x08" + self.encode_body({"reason": reason, "reconnect_in": reconnect_in})

    def ping(self) -> bytes:
        """See `Codec.ping`."""
        return b"\x91\x09"

    def pong(self) -> bytes:
        """See `Codec.pong`."""
        return b"\x91\x0a"

    def hello(self, fields: Mapping[str, object]) -> bytes:
        """See `Codec.hello`."""
        return b"\x92\x00" + self.encode_body(dict(fields))

    def request(self, id: int, route: str, body: bytes) -> bytes:
        """See `Codec.request`."""
        return b"\x94\x02" + _pack_unsigned(id) + self.push_tail(route, body)

    def notify(self, route: str, body: bytes) -> bytes:
        """See `Codec.notify`."""
        return b"\x93\x05" + self.push_tail(route, body)

    def ack(self, seq: int) -> bytes:
        """See `Codec.ack`."""
        return b"\x92\x07" + _pack_unsigned(seq)

    def decode_server(self, data: bytes) -> ServerFrame:
        """See `Codec.decode_server`."""
        frame = _load(data, len(data), len(data))
        kind = frame[0]
        reader = _SERVER_READERS.get(kind) if type(kind) is int else None
        if reader is None:
            raise _no_reader(kind, "client")
        return reader(frame)


MSGPACK: Final[Codec] = MsgpackCodec()
