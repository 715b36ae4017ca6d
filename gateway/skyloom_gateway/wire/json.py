"""The json codec: one object per frame, as WebSocket text."""

from collections.abc import Callable, Mapping
from typing import Final

from pydantic import BaseModel
from pydantic_core import from_json, to_json

from skyloom_gateway.wire import fields
from skyloom_gateway.wire.bounds import ARRAY_ITEMS_MAX, DEPTH_MAX, MAP_ITEMS_MAX, excess
from skyloom_gateway.wire.codec import Codec
from skyloom_gateway.wire.codes import CloseCode, WireError
from skyloom_gateway.wire.fields import MISSING, type_name
from skyloom_gateway.wire.frame import (
    ID_MAX,
    Ack,
    ClientFrame,
    ErrorFrame,
    Hello,
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

# Makes limits searchable in a few C calls: every `[` looks like `{`, every digit like 0, E like e.
_OUTLINE: Final = bytes.maketrans(b"[123456789E", b"{000000000e")
# The parser refuses `NaN` and `Infinity`, but reads 1e999, or 309 digits and a point, as infinity.
_EXPONENT: Final = b"0e"
_LONG_NUMBER: Final = b"0" * 309
_is_route: Final = fields.is_route
# The frame's own object holds the body.
_FRAME_DEPTH_MAX: Final = DEPTH_MAX + 1


def _load(data: bytes) -> dict[str, object]:
    """Parse a frame's object; bounded by the length of `data` and the parser's own depth limit of 200."""
    try:
        frame = from_json(data, allow_inf_nan=False)
    except ValueError as error:
        syntax = str(error)
    else:
        if type(frame) is dict:
            return frame
        raise Malformed(f"a frame must be a json object, got {type_name(frame)}")
    if not data:
        raise Malformed("a frame must be a json object, got no bytes")
    try:
        data.decode()
    except UnicodeDecodeError as error:
        # The exception carries the bytes, so only its position leaves here.
        position = error.start
    else:
        # The parser's messages hold positions, and nothing of what was parsed.
        raise Malformed(f"the frame is not json: {syntax}"[:REASON_BYTES_MAX])
    raise Malformed(f"the frame is not UTF-8 at byte {position}", CloseCode.INVALID_TEXT)


def _check_bounds(frame: dict[str, object], data: bytes, array_items_max: int, map_items_max: int) -> None:
    """Hold a frame to the limits. Counting bytes shows for nearly all frames that no limit can be near."""
    outline = data.translate(_OUTLINE)
    if (
        outline.count(b"{") > DEPTH_MAX
        or outline.find(_EXPONENT) >= 0
        or (len(data) > MAP_ITEMS_MAX and (outline.count(b",") >= MAP_ITEMS_MAX or outline.find(_LONG_NUMBER) >= 0))
    ):
        over = excess(frame, _FRAME_DEPTH_MAX, array_items_max, map_items_max)
        if over is not None:
            raise Malformed(f"the frame is over a limit: {over}")


def _request(frame: dict[str, object]) -> Request:
    get = frame.get
    id = get("id", MISSING)
    if type(id) is not int or not 0 <= id <= ID_MAX:
        id = fields.request_id(id, "request.id")
    route = get("route", MISSING)
    if type(route) is not str or not _is_route(route):
        route = fields.route(route, "request.route")
    body = get("body", MISSING)
    return Request(id, route, {} if body is MISSING else body)


def _notify(frame: dict[str, object]) -> Notify:
    route = fields.route(frame.get("route", MISSING), "notify.route")
    return Notify(route, frame.get("body", {}))


def _ack(frame: dict[str, object]) -> Ack:
    return Ack(fields.sequence(frame.get("seq", MISSING), "ack.seq"))


def _response(frame: dict[str, object]) -> Response:
    return Response(fields.request_id(frame.get("id", MISSING), "response.id"), frame.get("body", {}))


def _error(frame: dict[str, object]) -> ErrorFrame:
    return ErrorFrame(
        fields.request_id(frame.get("id", MISSING), "error.id"),
        fields.wire_error(frame.get("error", MISSING)),
    )


def _push(frame: dict[str, object]) -> Push:
    seq = fields.sequence(frame.get("seq", MISSING), "push.seq")
    route = fields.route(frame.get("route", MISSING), "push.route")
    return Push(seq, route, frame.get("body", {}))


def _ping(_frame: dict[str, object]) -> Ping:
    return Ping()


def _pong(_frame: dict[str, object]) -> Pong:
    return Pong()


_hello: Callable[[dict[str, object]], Hello] = fields.hello

_CLIENT_READERS: Final[Mapping[object, Callable[[dict[str, object]], ClientFrame]]] = {
    "hello": _hello,
    "request": _request,
    "notify": _notify,
    "ack": _ack,
    "ping": _ping,
    "pong": _pong,
}
_SERVER_READERS: Final[Mapping[object, Callable[[dict[str, object]], ServerFrame]]] = {
    "welcome": lambda frame: fields.welcome({name: frame[name] for name in frame if name != "type"}),
    "response": _response,
    "error": _error,
    "push": _push,
    "drain": fields.drain,
    "ping": _ping,
    "pong": _pong,
}


def _no_reader(kind: object, sender: str) -> Malformed:
    if type(kind) is not str:
        return Malformed(f"type: expected the name of a kind of frame, got {type_name(kind)}")
    for known in Kind:
        if known.name.lower() == kind:
            return fields.wrong_side(known, sender)
    return Malformed("type: not a kind of frame that version 1 knows")


class JsonCodec:
    """Protocol version 1 as json. See `Codec` for what the methods promise."""

    name = "json"
    text = True
    subprotocol = "skyloom.v1.json"

    def decode(self, data: bytes) -> ClientFrame:
        """See `Codec.decode`."""
        frame = _load(data)
        _check_bounds(frame, data, ARRAY_ITEMS_MAX, MAP_ITEMS_MAX)
        kind = frame.get("type", MISSING)
        if kind == "request":
            return _request(frame)
        # A dict looks a key up by its hash, and lists have none.
        reader = _CLIENT_READERS.get(kind) if type(kind) is str else None
        if reader is None:
            raise _no_reader(kind, "server")
        return reader(frame)

    def decode_body(self, body: object) -> object:
        """The body itself: `decode` has read it already."""
        return body

    def encode_body(self, value: object) -> bytes:
        """See `Codec.encode_body`."""
        if isinstance(value, BaseModel) and "ser_json_inf_nan" not in value.model_config:
            # The model's own serializer takes half the time; its NaN is null too, unless its class says otherwise.
            return value.__pydantic_serializer__.to_json(value, by_alias=True)
        return to_json(value, inf_nan_mode="null")

    def welcome(self, fields: Mapping[str, object]) -> bytes:
        """See `Codec.welcome`."""
        return to_json({"type": "welcome", **fields}, inf_nan_mode="null")

    def response(self, id: int, body: bytes) -> bytes:
        """See `Codec.response`."""
        return b'{"type":"response","id":%d,"body":%b}' % (id, body)

    def error(self, id: int, error: WireError) -> bytes:
        """See `Codec.error`."""
        return to_json({"type": "error", "id": id, "error": fields.error_fields(error)}, inf_nan_mode="null")

    def push_tail(self, route: str, body: bytes) -> bytes:
        """See `Codec.push_tail`."""
        return b',"route":%b,"body":%b}' % (to_json(route), body)

    def push_head(self, seq: int) -> bytes:
        """See `Codec.push_head`."""
        return b'{"type":"push","seq":%d' % seq

    def push(self, seq: int, tail: bytes) -> bytes:
        """See `Codec.push`."""
        return self.push_head(seq) + tail

    def drain(self, reason: str, reconnect_in: float) -> bytes:
        """See `Codec.drain`."""
        return to_json({"type": "drain", "reason": reason, "reconnect_in": reconnect_in})

    def ping(self) -> bytes:
        """See `Codec.ping`."""
        return b'{"type":"ping"}'

    def pong(self) -> bytes:
        """See `Codec.pong`."""
        return b'{"type":"pong"}'

    def hello(self, fields: Mapping[str, object]) -> bytes:
        """See `Codec.hello`."""
        return to_json({"type": "hello", **fields}, inf_nan_mode="null")

    def request(self, id: int, route: str, body: bytes) -> bytes:
        """See `Codec.request`."""
        return b'{"type":"request","id":%d,"route":%b,"body":%b}' % (id, to_json(route), body)

    def notify(self, route: str, body: bytes) -> bytes:
        """See `Codec.notify`."""
        return b'{"type":"notify","route":%b,"body":%b}' % (to_json(route), body)

    def ack(self, seq: int) -> bytes:
        """See `Codec.ack`."""
        return b'{"type":"ack","seq":%d}' % seq

    def decode_server(self, data: bytes) -> ServerFrame:
        """See `Codec.decode_server`."""
        frame = _load(data)
        _check_bounds(frame, data, len(data), len(data))
        kind = frame.get("type", MISSING)
        reader = _SERVER_READERS.get(kind) if type(kind) is str else None
        if reader is None:
            raise _no_reader(kind, "client")
        return reader(frame)


JSON: Final[Codec] = JsonCodec()
