"""Every frame of PROTOCOL's table, byte for byte, in both encodings."""

import json

import msgpack
import pytest

from skyloom_gateway.wire import (
    CODECS,
    JSON,
    MSGPACK,
    Ack,
    ClientFrame,
    CloseCode,
    Codec,
    Drain,
    ErrorFrame,
    ErrorKind,
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
    WireError,
    close_error,
)

HELLO = {
    "auth": {"scheme": "guest", "name": "ada"},
    "client": {"name": "x", "version": "1"},
    "resume": {"session": "s", "key": "k", "seq": 12},
}
WELCOME = {
    "session": "s",
    "key": "k",
    "user": "ada",
    "recovered": False,
    "heartbeat": 20,
    "limits": {"frame_bytes": 65536, "messages_per_second": 50},
    "contract": "sha256:00",
}
ERROR = {
    "code": "chat.room_not_found",
    "kind": "not_found",
    "message": "no",
    "retryable": False,
    "details": {},
}
ROOM = msgpack.packb({"room": "a"})

CLIENT = [
    ({"type": "hello", **HELLO}, [0, HELLO], Hello(HELLO["auth"], HELLO["client"], Resume("s", "k", 12))),  # type: ignore[arg-type]  # the literal is wider than its use
    ({"type": "hello", "auth": {}}, [0, {"auth": {}}], Hello({})),
    (
        {"type": "hello", "auth": {}, "client": None, "resume": None},
        [0, {"auth": {}, "resume": None}],
        Hello({}),
    ),
    (
        {"type": "request", "id": 1, "route": "chat.join", "body": {"room": "a"}},
        [2, 1, "chat.join", ROOM],
        Request(1, "chat.join", {"room": "a"}),
    ),
    ({"type": "request", "id": 0, "route": "a"}, [2, 0, "a"], Request(0, "a", {})),
    ({"type": "request", "id": 2**32 - 1, "route": "a"}, [2, 2**32 - 1, "a"], Request(2**32 - 1, "a", {})),
    ({"type": "request", "id": 1, "route": "a", "body": None}, [2, 1, "a", b"\xc0"], Request(1, "a", None)),
    (
        {"type": "notify", "route": "chat.typing", "body": {"room": "a"}},
        [5, "chat.typing", ROOM],
        Notify("chat.typing", {"room": "a"}),
    ),
    ({"type": "notify", "route": "a" * 128}, [5, "a" * 128], Notify("a" * 128, {})),
    ({"type": "ack", "seq": 13}, [7, 13], Ack(13)),
    ({"type": "ping"}, [9], Ping()),
    ({"type": "pong"}, [10], Pong()),
    # Frames may gain fields: what is not known is passed over.
    (
        {"type": "request", "id": 1, "route": "a", "new": [1]},
        [2, 1, "a", b"\x80", {"new": []}, 7],
        Request(1, "a", {}),
    ),
    ({"type": "ping", "new": {}}, [9, "new"], Ping()),
    ({"type": "hello", "auth": {}, "new": 1}, [0, {"auth": {}, "new": 1}, 1], Hello({})),
]

SERVER = [
    (
        {"type": "welcome", **WELCOME},
        [1, WELCOME],
        Welcome("s", "k", "ada", False, 20, WELCOME["limits"], "sha256:00", WELCOME),  # type: ignore[arg-type]  # as above
    ),
    ({"type": "response", "id": 1, "body": {"room": "a"}}, [3, 1, ROOM], Response(1, {"room": "a"})),
    (
        {"type": "error", "id": 1, "error": ERROR},
        [4, 1, ERROR],
        ErrorFrame(1, WireError("chat.room_not_found", ErrorKind.NOT_FOUND, "no")),
    ),
    (
        {"type": "push", "seq": 13, "route": "chat.message", "body": {"room": "a"}},
        [6, 13, "chat.message", ROOM],
        Push(13, "chat.message", {"room": "a"}),
    ),
    (
        {"type": "drain", "reason": "restart", "reconnect_in": 3.2},
        [8, {"reason": "restart", "reconnect_in": 3.2}],
        Drain("restart", 3.2),
    ),
    ({"type": "ping"}, [9], Ping()),
    ({"type": "pong"}, [10], Pong()),
]


def plain(codec: Codec, frame: ClientFrame) -> ClientFrame:
    """The frame with its body decoded."""
    if isinstance(frame, Request):
        return Request(frame.id, frame.route, codec.decode_body(frame.body))
    if isinstance(frame, Notify):
        return Notify(frame.route, codec.decode_body(frame.body))
    return frame


@pytest.mark.parametrize(("fields", "items", "frame"), CLIENT)
def test_client_frames_decode(fields: dict[str, object], items: list[object], frame: ClientFrame) -> None:
    assert plain(JSON, JSON.decode(json.dumps(fields).encode())) == frame
    assert plain(MSGPACK, MSGPACK.decode(msgpack.packb(items))) == frame


@pytest.mark.parametrize(("fields", "items", "frame"), SERVER)
def test_server_frames_decode(fields: dict[str, object], items: list[object], frame: ServerFrame) -> None:
    assert JSON.decode_server(json.dumps(fields).encode()) == frame
    assert MSGPACK.decode_server(msgpack.packb(items)) == frame


def encode(codec: Codec, frame: ServerFrame | ClientFrame) -> bytes:
    match frame:
        case Hello():
            return codec.hello(HELLO)
        case Request(id, route, body):
            return codec.request(id, route, codec.encode_body(body))
        case Notify(route, body):
            return codec.notify(route, codec.encode_body(body))
        case Ack(seq):
            return codec.ack(seq)
        case Welcome():
            return codec.welcome(WELCOME)
        case Response(id, body):
            return codec.response(id, codec.encode_body(body))
        case ErrorFrame(id, error):
            return codec.error(id, error)
        case Push(seq, route, body):
            return codec.push(seq, codec.push_tail(route, codec.encode_body(body)))
        case Drain(reason, reconnect_in):
            return codec.drain(reason, reconnect_in)
        case Ping():
            return codec.ping()
        case Pong():
            return codec.pong()


# One row per kind: the first of each in the tables.
ENCODED = [CLIENT[0], CLIENT[3], CLIENT[7], CLIENT[9], *SERVER]


@pytest.mark.parametrize(("fields", "items", "frame"), ENCODED)
def test_frames_encode_as_the_table_says(
    fields: dict[str, object], items: list[object], frame: ServerFrame | ClientFrame
) -> None:
    assert json.loads(encode(JSON, frame)) == fields
    assert msgpack.unpackb(encode(MSGPACK, frame)) == items


@pytest.mark.parametrize("number", [0, 127, 128, 255, 256, 65535, 65536, 2**32 - 1, 2**32, 2**53 - 1])
@pytest.mark.parametrize("length", [0, 1, 255, 256, 65535, 65536])
def test_hand_packed_heads_are_the_packers_own(number: int, length: int) -> None:
    body = b"x" * length
    assert MSGPACK.push(number, MSGPACK.push_tail("a", body)) == msgpack.packb([6, number, "a", body])
    assert MSGPACK.ack(number) == msgpack.packb([7, number])
    assert MSGPACK.response(number, body) == msgpack.packb([3, number, body])


def test_codecs_are_found_by_subprotocol() -> None:
    assert CODECS == {"skyloom.v1.json": JSON, "skyloom.v1.msgpack": MSGPACK}
    assert (JSON.name, JSON.text, MSGPACK.name, MSGPACK.text) == ("json", True, "msgpack", False)


def test_kinds_codes_and_error_kinds_are_the_protocols() -> None:
    names = "hello welcome request response error notify push ack drain ping pong"
    assert " ".join(kind.name.lower() for kind in sorted(Kind)) == names
    assert {*CloseCode} == {1000, 1001, 1007, 1009, 1012, 1013, 4400, 4401, 4403, 4408, 4409, 4429}
    kinds = (
        "aborted already_exists deadline_exceeded failed_precondition internal invalid_argument not_found "
        "permission_denied resource_exhausted unauthenticated unavailable unimplemented"
    )
    assert " ".join(sorted(ErrorKind)) == kinds


@pytest.mark.parametrize("code", list(CloseCode))
def test_each_close_but_an_orderly_one_has_an_error(code: CloseCode) -> None:
    error = close_error(code, "why")
    if code in (CloseCode.NORMAL, CloseCode.GOING_AWAY):
        assert error is None
    else:
        assert error is not None
        assert error.code.startswith("gateway.")
        assert error.message == "why"
