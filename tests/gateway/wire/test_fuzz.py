"""Any bytes at all: they are a frame or Malformed, soon, and nothing else happens."""

import time
from collections.abc import Callable

import msgpack
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from skyloom_gateway.wire import JSON, MSGPACK, Codec, ErrorKind, Malformed, Notify, Request, WireError
from skyloom_gateway.wire.malformed import REASON_BYTES_MAX

FRAME_BYTES = 65_535
# Far more than the worst frame takes, and far less than an unbounded one would.
DECODE_SECONDS_MAX = 2.0

codecs = st.sampled_from([JSON, MSGPACK])
VALID = [
    JSON.request(7, "chat.say", JSON.encode_body({"room": "a", "text": "é", "n": [1, 2.5, None]})),
    JSON.hello({"auth": {"scheme": "guest"}, "resume": {"session": "s", "key": "k", "seq": 1}}),
    MSGPACK.request(7, "chat.say", MSGPACK.encode_body({"room": "a", "text": "é", "n": [1, 2.5, None]})),
    MSGPACK.hello({"auth": {"scheme": "guest"}, "resume": {"session": "s", "key": "k", "seq": 1}}),
    MSGPACK.error(1, WireError("a.b", ErrorKind.INTERNAL, "m")),
]


def outcome(decode: Callable[[bytes], object], data: bytes) -> Malformed | object:
    try:
        return decode(data)
    except Malformed as malformed:
        return malformed


def decode_whole(codec: Codec, data: bytes) -> object:
    frame = codec.decode(data)
    return codec.decode_body(frame.body) if isinstance(frame, Request | Notify) else frame


def feed(codec: Codec, data: bytes) -> None:
    """Decode in every way; another exception than Malformed fails the test."""
    for decode in (lambda data: decode_whole(codec, data), codec.decode_server, MSGPACK.decode_body):
        result = outcome(decode, data)
        if isinstance(result, Malformed):
            assert len(result.reason.encode("ascii")) <= REASON_BYTES_MAX


@given(codecs, st.binary(max_size=300))
@example(MSGPACK, b"\x92\x09\xc7\x00\xff")
def test_random_bytes(codec: Codec, data: bytes) -> None:
    feed(codec, data)


@given(st.sampled_from(VALID), st.data())
def test_damaged_frames(frame: bytes, data: st.DataObject) -> None:
    damaged = bytearray(frame)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(damaged) - 1))
        damaged[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=4))
        if not damaged:
            break
    for codec in (JSON, MSGPACK):
        feed(codec, bytes(damaged))


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=9)
    | st.binary(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=9) | st.integers(0, 9), inner, max_size=5)
    ),
    max_leaves=30,
)


@given(st.integers(-1, 12) | anything, st.lists(anything, max_size=5))
def test_well_formed_msgpack_of_wrong_shape(kind: object, items: list[object]) -> None:
    feed(MSGPACK, msgpack.packb([kind, *items]))


@given(st.dictionaries(st.sampled_from(["type", "id", "route", "body", "seq", "auth", "resume", "error"]), anything))
def test_well_formed_json_of_wrong_shape(fields: dict[str, object]) -> None:
    try:
        data = JSON.encode_body(fields)
    except ValueError:
        return
    feed(JSON, data)
    for kind in (
        b"hello",
        b"request",
        b"notify",
        b"ack",
        b"welcome",
        b"response",
        b"error",
        b"push",
        b"drain",
    ):
        feed(JSON, data[:-1] + b"%b" % (b"," if len(fields) else b"") + b'"type":"%b"}' % kind)


BOMBS = {
    "json arrays": b"[" * FRAME_BYTES,
    "json closed arrays": b'{"type":"ping","x":' + b"[" * 190 + b"]" * 190 + b"}",
    "json objects": b'{"a":' * (FRAME_BYTES // 5),
    "json wide": b'{"type":"ping","x":[' + b"[]," * 21000 + b"[]]}",
    "json keys": b'{"type":"ping"' + b"".join(b',"%d":1' % n for n in range(7000)) + b"}",
    "json digits": b'{"type":"ping","x":[' + (b"1" * 308 + b".0,") * 200 + b"1]}",
    "json exponents": b'{"type":"ping","x":[' + b"1e9," * 15000 + b"1]}",
    "json escapes": b'{"type":"ping","x":"' + b"\\u0041" * 10000 + b'"}',
    "msgpack arrays": b"\x91" * FRAME_BYTES,
    "msgpack closed arrays": b"\x92\x09" + b"\x91" * 1000 + b"\xc0",
    "msgpack maps": b"\x92\x00" + b"\x81\xa1a" * 20000,
    "msgpack wide": b"\xdc\x00\x40" + (b"\xdc\x03\xfc" + b"\x80" * 1020) * 64,
    "msgpack claims": b"\xdc\x04\x00" + b"\xdd\x00\x00\x04\x00" * 13000,
    "msgpack claimed map": b"\x92\x00\xdf\x00\x00\x01\x00" + b"\xde\x01\x00" * 20000,
    "msgpack claimed str": b"\x92\x05\xdb\xff\xff\xff\xff",
    "msgpack ext": b"\x92\x09\xc9\xff\xff\xff\xff\x01",
    "msgpack timestamps": b"\xdc\x04\x00" + b"\xd6\xff\x00\x00\x00\x00" * 1024,
    "msgpack equal keys": b"\x92\x00\xde\x01\x00" + b"\xa1a\x01" * 256,
}


@pytest.mark.parametrize("data", BOMBS.values(), ids=BOMBS.keys())
def test_bombs_take_little_time(data: bytes) -> None:
    assert len(data) <= FRAME_BYTES + 1024
    for codec in (JSON, MSGPACK):
        start = time.process_time()
        feed(codec, data)
        feed(codec, MSGPACK.request(1, "a", data))
        assert time.process_time() - start < DECODE_SECONDS_MAX
