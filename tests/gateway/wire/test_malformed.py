"""Bytes that are no frame, each with the reason the client is told."""

import msgpack
import pytest

from skyloom_gateway.wire import JSON, MSGPACK, CloseCode, Malformed
from skyloom_gateway.wire.malformed import REASON_BYTES_MAX

ROUTE_REASON = "request.route: must be 1 to 128 of a-z, 0-9, _ and ., a letter first"

JSON_CASES = [
    (b"", "a frame must be a json object, got no bytes"),
    (b"[]", "a frame must be a json object, got an array"),
    (b"1", "a frame must be a json object, got an integer"),
    (b"{", "the frame is not json: EOF while parsing an object at line 1 column 1"),
    (b'{"type":"ping"}x', "the frame is not json: trailing characters at line 1 column 16"),
    (b'\xef\xbb\xbf{"type":"ping"}', "the frame is not json: expected value at line 1 column 1"),
    (b"[" * 60000, "the frame is not json: recursion limit exceeded at line 1 column 202"),
    (
        b'{"type":"ping","x":%b}' % (b"[" * 33 + b"]" * 33),
        "the frame is over a limit: nested deeper than 33 levels",
    ),
    (b'{"type":"ack","seq":NaN}', "the frame is not json: expected value at line 1 column 21"),
    (b'{"type":"ack","seq":1e999}', "the frame is over a limit: NaN and Infinity are not allowed"),
    (
        b'{"type":"ack","seq":%b}' % (b"1" * 5000),
        "the frame is not json: number out of range at line 1 column 4322",
    ),
    (b"{}", "type: expected the name of a kind of frame, got nothing"),
    (b'{"type":2}', "type: expected the name of a kind of frame, got an integer"),
    (b'{"type":["request"]}', "type: expected the name of a kind of frame, got an array"),
    (b'{"type":"Request"}', "type: not a kind of frame that version 1 knows"),
    (b'{"type":"welcome"}', "welcome: this kind of frame is sent by the server only"),
    (b'{"type":"response","id":1,"body":{}}', "response: this kind of frame is sent by the server only"),
    (b'{"type":"error"}', "error: this kind of frame is sent by the server only"),
    (b'{"type":"push"}', "push: this kind of frame is sent by the server only"),
    (b'{"type":"drain"}', "drain: this kind of frame is sent by the server only"),
    (b'{"type":"request","route":"a"}', "request.id: expected an integer from 0 to 4294967295, got nothing"),
    (
        b'{"type":"request","id":true,"route":"a"}',
        "request.id: expected an integer from 0 to 4294967295, got a boolean",
    ),
    (
        b'{"type":"request","id":1.0,"route":"a"}',
        "request.id: expected an integer from 0 to 4294967295, got a float",
    ),
    (
        b'{"type":"request","id":"1","route":"a"}',
        "request.id: expected an integer from 0 to 4294967295, got a string",
    ),
    (b'{"type":"request","id":-1,"route":"a"}', "request.id: must be from 0 to 4294967295"),
    (b'{"type":"request","id":4294967296,"route":"a"}', "request.id: must be from 0 to 4294967295"),
    (b'{"type":"request","id":1}', "request.route: expected a string, got nothing"),
    (b'{"type":"request","id":1,"route":null}', "request.route: expected a string, got null"),
    (b'{"type":"request","id":1,"route":""}', ROUTE_REASON),
    (b'{"type":"request","id":1,"route":"Chat"}', ROUTE_REASON),
    (b'{"type":"request","id":1,"route":".a"}', ROUTE_REASON),
    (b'{"type":"request","id":1,"route":"a\\n"}', ROUTE_REASON),
    (b'{"type":"request","id":1,"route":"%b"}' % (b"a" * 129), ROUTE_REASON),
    (b'{"type":"notify","route":7}', "notify.route: expected a string, got an integer"),
    (b'{"type":"ack"}', "ack.seq: expected an integer from 0 to 9007199254740991, got nothing"),
    (b'{"type":"ack","seq":-1}', "ack.seq: must be from 0 to 9007199254740991"),
    (b'{"type":"hello"}', "hello.auth: expected a map, got nothing"),
    (b'{"type":"hello","auth":"guest"}', "hello.auth: expected a map, got a string"),
    (b'{"type":"hello","auth":{},"client":[]}', "hello.client: expected a map, got an array"),
    (b'{"type":"hello","auth":{},"resume":{}}', "hello.resume.session: expected a string, got nothing"),
    (
        b'{"type":"hello","auth":{},"resume":{"session":"s","key":"k"}}',
        "hello.resume.seq: expected an integer from 0 to 9007199254740991, got nothing",
    ),
]

MSGPACK_CASES = [
    (b"", "a frame must be a msgpack array, got no bytes"),
    (b"\x90", "a frame must begin with its kind, got an empty array"),
    (b"\x80", "a frame must be a msgpack array, got a map"),
    (b"\x02", "a frame must be a msgpack array, got an integer"),
    (b"\xc1", "the frame is not msgpack: it holds the reserved byte 0xc1"),
    (b"\x91", "the frame is not msgpack within the limits: Unpack failed: incomplete input"),
    (b"\x91\x09\x00", "the frame: bytes follow after its end"),
    (b"\x91" * 60000, "the frame: nested deeper than 32 levels"),
    (b"\x92\x09\xd4\x01a", "the frame is not msgpack within the limits: 2 exceeds max_ext_len(0)"),
    (
        b"\xdd\xff\xff\xff\xff",
        "the frame is not msgpack within the limits: 4294967295 exceeds max_array_len(1024)",
    ),
    (
        b"\x92\x00\x81\x01\x02",
        "the frame is not msgpack within the limits: int is not allowed for map key when strict_map_key=True",
    ),
    ([True], "kind: expected the number of a kind of frame, got a boolean"),
    (["request"], "kind: expected the number of a kind of frame, got a string"),
    ([[2]], "kind: expected the number of a kind of frame, got an array"),
    ([2.0, 1, "a"], "kind: expected the number of a kind of frame, got a float"),
    ([11], "kind: not a kind of frame that version 1 knows"),
    ([-1], "kind: not a kind of frame that version 1 knows"),
    ([1, {}], "welcome: this kind of frame is sent by the server only"),
    ([3, 1, b""], "response: this kind of frame is sent by the server only"),
    ([4, 1, {}], "error: this kind of frame is sent by the server only"),
    ([6, 1, "a", b""], "push: this kind of frame is sent by the server only"),
    ([8, {}], "drain: this kind of frame is sent by the server only"),
    ([2], "request.id: expected an integer from 0 to 4294967295, got nothing"),
    ([2, True, "a", b""], "request.id: expected an integer from 0 to 4294967295, got a boolean"),
    ([2, -1, "a", b""], "request.id: must be from 0 to 4294967295"),
    ([2, 2**32, "a", b""], "request.id: must be from 0 to 4294967295"),
    ([2, 1], "request.route: expected a string, got nothing"),
    ([2, 1, b"a", b""], "request.route: expected a string, got a bin"),
    ([2, 1, "a b", b""], ROUTE_REASON),
    ([2, 1, "a", {}], "request.body: expected a bin that holds the body's msgpack, got a map"),
    ([2, 1, "a", "{}"], "request.body: expected a bin that holds the body's msgpack, got a string"),
    ([2, 1, "a", None], "request.body: expected a bin that holds the body's msgpack, got null"),
    ([5, "a", []], "notify.body: expected a bin that holds the body's msgpack, got an array"),
    ([7], "ack.seq: expected an integer from 0 to 9007199254740991, got nothing"),
    ([7, 1.0], "ack.seq: expected an integer from 0 to 9007199254740991, got a float"),
    ([0], "hello: expected a map, got nothing"),
    ([0, []], "hello: expected a map, got an array"),
    ([0, {"auth": {b"a": 1}}], "hello.auth: the keys of a map must be strings, got a bin"),
    ([0, {"auth": {"x": float("nan")}}], "hello: NaN and Infinity are not allowed"),
    (b"\x92\x00\x81\xa4auth" + b"\x91" * 40 + b"\xc0", "hello: nested deeper than 33 levels"),
    (b"\x92\x05\xa1\xff", "the frame: a string is not UTF-8"),
]

UTF8_CASES = [
    (b"\xff", 0),
    (b'{"type":"ping","x":"\xc3"}', 20),
    (b'{"type":"ping","x":"\xed\xa0\x80"}', 20),
    (b'{"\xf5":1', 2),
]


def reason_of(caught: pytest.ExceptionInfo[Malformed]) -> str:
    malformed = caught.value
    assert malformed.__context__ is None or type(malformed.__context__) is not msgpack.ExtraData
    assert len(malformed.reason.encode("ascii")) <= REASON_BYTES_MAX
    assert str(malformed) == malformed.reason
    return malformed.reason


@pytest.mark.parametrize(("data", "reason"), JSON_CASES)
def test_json(data: bytes, reason: str) -> None:
    with pytest.raises(Malformed) as caught:
        JSON.decode(data)
    assert reason_of(caught) == reason
    assert caught.value.close_code == CloseCode.MALFORMED


@pytest.mark.parametrize(("data", "reason"), MSGPACK_CASES)
def test_msgpack(data: object, reason: str) -> None:
    with pytest.raises(Malformed) as caught:
        MSGPACK.decode(data if isinstance(data, bytes) else msgpack.packb(data))
    assert reason_of(caught) == reason
    assert caught.value.close_code == CloseCode.MALFORMED


@pytest.mark.parametrize(("data", "position"), UTF8_CASES)
def test_text_that_is_not_utf8_has_its_own_close_code(data: bytes, position: int) -> None:
    with pytest.raises(Malformed) as caught:
        JSON.decode(data)
    assert reason_of(caught) == f"the frame is not UTF-8 at byte {position}"
    assert caught.value.close_code == CloseCode.INVALID_TEXT


SERVER_CASES = [
    ([2, 1, "a", b""], {"type": "request"}, "request: this kind of frame is sent by the client only"),
    ([0, {}], {"type": "hello"}, "hello: this kind of frame is sent by the client only"),
    ([1, {}], {"type": "welcome"}, "welcome.session: expected a string, got nothing"),
    (
        [1, {"session": "", "key": "", "user": "", "recovered": 0}],
        {"type": "welcome", "session": "", "key": "", "user": "", "recovered": 0},
        "welcome.recovered: expected a boolean, got an integer",
    ),
    (
        [8, {"reason": ""}],
        {"type": "drain", "reason": ""},
        "drain.reconnect_in: expected a number, got nothing",
    ),
    ([4, 1], {"type": "error", "id": 1}, "error.error: expected a map, got nothing"),
    (
        [4, 1, {"kind": "odd"}],
        {"type": "error", "id": 1, "error": {"kind": "odd"}},
        "error.error.kind: not one of the protocol's error kinds",
    ),
]


@pytest.mark.parametrize(("items", "fields", "reason"), SERVER_CASES)
def test_server_frames(items: list[object], fields: dict[str, object], reason: str) -> None:
    for decode, data in (
        (MSGPACK.decode_server, msgpack.packb(items)),
        (JSON.decode_server, JSON.encode_body(fields)),
    ):
        with pytest.raises(Malformed) as caught:
            decode(data)
        assert reason_of(caught) == reason
