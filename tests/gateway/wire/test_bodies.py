"""What encode_body writes and decode_body accepts."""

import math

import msgpack
import pytest
from pydantic import BaseModel, Field

from skyloom_gateway.wire import JSON, MSGPACK, Codec, Malformed, Request, Response
from skyloom_gateway.wire.bounds import ARRAY_ITEMS_MAX, DEPTH_MAX, MAP_ITEMS_MAX

BOTH = pytest.mark.parametrize("codec", [JSON, MSGPACK], ids=["json", "msgpack"])


class Score(BaseModel):
    user: str
    points: float
    by_level: dict[int, bytes] = {}
    sent: str = Field(default="x", serialization_alias="sentBy")


def through(codec: Codec, value: object) -> object:
    frame = codec.decode_server(codec.response(1, codec.encode_body(value)))
    assert isinstance(frame, Response)
    return frame.body


def body_from_client(codec: Codec, body: bytes) -> object:
    frame = codec.decode(codec.request(1, "a", body))
    assert isinstance(frame, Request)
    return codec.decode_body(frame.body)


@BOTH
def test_models_and_plain_data_carry_the_same_value(codec: Codec) -> None:
    model = Score(user="ada", points=1.5, by_level={1: b"a"})
    expected = {"user": "ada", "points": 1.5, "by_level": {"1": "a"}, "sentBy": "x"}
    assert through(codec, model) == expected
    assert through(codec, {"list": [model, None, True, 2**63]}) == {"list": [expected, None, True, 2**63]}


@BOTH
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_json_cannot_say_becomes_null(codec: Codec, value: float) -> None:
    assert through(codec, {"x": [value, 1.5], "y": "\u07ff\x7f"}) == {"x": [None, 1.5], "y": "\u07ff\x7f"}
    assert through(codec, Score(user="a", points=value)) == {
        "user": "a",
        "points": None,
        "by_level": {},
        "sentBy": "x",
    }


@BOTH
@pytest.mark.parametrize("value", [object(), "\ud800", {"a": b"\xff"}])
def test_what_has_no_form_is_a_value_error(codec: Codec, value: object) -> None:
    with pytest.raises(ValueError):
        codec.encode_body(value)


def test_an_integer_too_big_for_msgpack_says_so() -> None:
    with pytest.raises(ValueError, match="beyond 64 bits"):
        MSGPACK.encode_body({"n": 2**64})


@BOTH
def test_json_bodies_are_fresh(codec: Codec) -> None:
    data = b'{"type":"request","id":1,"route":"a"}' if codec is JSON else b"\x93\x02\x01\xa1a"
    first, second = codec.decode(data), codec.decode(data)
    assert isinstance(first, Request)
    assert isinstance(second, Request)
    assert codec.decode_body(first.body) == {}
    assert codec.decode_body(first.body) is not codec.decode_body(second.body)


def nested(depth: int) -> object:
    value: object = 1
    for level in range(depth):
        value = [value] if level % 2 else {"a": value}
    return value


AT_LIMIT = [nested(DEPTH_MAX), [0] * ARRAY_ITEMS_MAX, {str(n): n for n in range(MAP_ITEMS_MAX)}]
OVER_LIMIT = [
    (nested(DEPTH_MAX + 1), "nested deeper than"),
    ([0] * (ARRAY_ITEMS_MAX + 1), "1024"),
    ({str(n): n for n in range(MAP_ITEMS_MAX + 1)}, "256"),
]


@BOTH
@pytest.mark.parametrize("value", AT_LIMIT, ids=["depth", "array", "map"])
def test_a_clients_body_may_go_to_the_limit(codec: Codec, value: object) -> None:
    assert body_from_client(codec, codec.encode_body(value)) == value


@BOTH
@pytest.mark.parametrize(("value", "reason"), OVER_LIMIT, ids=["depth", "array", "map"])
def test_a_clients_body_may_not_go_over_it(codec: Codec, value: object, reason: str) -> None:
    with pytest.raises(Malformed, match=reason):
        body_from_client(codec, codec.encode_body(value))


@BOTH
def test_a_servers_body_may_be_long_but_not_deep(codec: Codec) -> None:
    long = {"list": [0] * 5000, "map": {str(n): n for n in range(1000)}}
    assert through(codec, long) == long
    with pytest.raises(Malformed, match="nested deeper"):
        through(codec, nested(DEPTH_MAX + 1))


@pytest.mark.parametrize(
    "number",
    [b"1e999", b"-1e999", b"1E+400", b"[0,1e400]", b"1" * 310 + b".0", b"NaN", b"-Infinity", b"Infinity"],
)
def test_json_refuses_what_is_not_finite(number: bytes) -> None:
    with pytest.raises(Malformed):
        JSON.decode(b'{"type":"request","id":1,"route":"a","body":{"x":%b}}' % number)


@pytest.mark.parametrize("number", [b"1e3", b"-1.5E+2", b"1" * 309, b"1" * 310])
def test_json_takes_big_and_exponent_numbers(number: bytes) -> None:
    assert body_from_client(JSON, number) == float(number) if b"e" in number.lower() else int(number)


@pytest.mark.parametrize("size", ["f", "d"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_msgpack_refuses_what_is_not_finite(size: str, value: float) -> None:
    packed = msgpack.packb([value], use_single_float=size == "f")
    with pytest.raises(Malformed, match="NaN and Infinity"):
        MSGPACK.decode_body(packed)
    assert MSGPACK.decode_body(msgpack.packb([1.5e300, -1e-300, "\u07ff"])) == [1.5e300, -1e-300, "\u07ff"]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"a": 1}, "body: expected a bin that holds the body's msgpack, got a map"),
        (b"", "body is not msgpack within the limits: Unpack failed: incomplete input"),
        (b"\xc0\xc0", "body: bytes follow after its end"),
        (b"\xc1", "body is not msgpack: it holds the reserved byte 0xc1"),
        (b"\xa1\xff", "body: a string is not UTF-8"),
        (b"\x91" * 2000 + b"\xc0", "body: nested deeper than 32 levels"),
        (b"\x91" * 1000 + b"\xc0", "body is over a limit: nested deeper than 32 levels"),
        (b"\x81\x01\x02", "body is not msgpack within the limits: int is not allowed for map key"),
        (b"\xd4\x01a", "body is not msgpack within the limits: 2 exceeds max_ext_len"),
        (b"\xd6\xff\x00\x00\x00\x00", "body is not msgpack within the limits: 5 exceeds max_ext_len"),
        (b"\xc7\x00\x01", "body is not msgpack within the limits: ext types are not allowed"),
        (b"\xc7\x00\xff", "body is not msgpack within the limits: invalid timestamp"),
        (b"\xdd\xff\xff\xff\xff", "body is not msgpack within the limits: 4294967295 exceeds max_array_len"),
        (b"\xdf\xff\xff\xff\xff", "body is not msgpack within the limits: 4294967295 exceeds max_map_len"),
        (b"\xc6\xff\xff\xff\xff", "body is not msgpack within the limits: Unpack failed: incomplete input"),
    ],
)
def test_msgpack_bodies_that_are_none(body: object, reason: str) -> None:
    with pytest.raises(Malformed) as caught:
        MSGPACK.decode_body(body)
    assert caught.value.reason.startswith(reason)
    assert caught.value.__context__ is None, "the hostile object would travel with the exception"


@BOTH
def test_of_equal_keys_the_last_counts(codec: Codec) -> None:
    body = b'{"a":1,"a":2}' if codec is JSON else b"\x82\xa1a\x01\xa1a\x02"
    assert body_from_client(codec, body) == {"a": 2}
