"""What crosses arrives equal and is never shared; what is no message is refused."""

import dataclasses
import datetime
import decimal
import math
import sys
import uuid
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from skyloom import Address, Message, ValueRefused
from skyloom.message import value
from skyloom.message.message import NEVER, SESSION_MAX
from skyloom.message.wire import pack_message, unpack_message
from tests.core.values import Access, Bag, Colour, Extra, Level, Model, Outer, Point, Stamp
from tests.examples import examples

ADDRESSES = st.builds(Address, st.from_regex(r"[A-Za-z0-9_.-]{1,64}", fullmatch=True), st.integers(0, 2**32 - 1))
ATOMS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(2**200), 2**200),
    st.floats(allow_nan=False),
    st.text(st.characters()),
    st.text(st.characters(categories=["Cs"]), max_size=3),
    st.binary(),
    st.datetimes(timezones=st.none() | st.just(datetime.UTC)),
    st.dates(),
    st.times(),
    st.timedeltas(),
    st.decimals(allow_nan=False),
    st.uuids(),
    ADDRESSES,
)
ENUMS = st.sampled_from([*Colour, *Level, *Access, Access.READ | Access.WRITE, Access(0), Outer.Inner.ONE])
KEYS = st.one_of(
    ATOMS, ENUMS, st.tuples(ATOMS, ATOMS), st.frozensets(ATOMS, max_size=3), st.builds(Stamp, st.integers())
)


def _containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(KEYS, inner, max_size=4),
        st.sets(KEYS, max_size=4),
        st.frozensets(KEYS, max_size=4),
        st.builds(Bag, inner, st.lists(inner, max_size=2)),
        st.builds(Point, inner, inner),
        st.builds(lambda n, x: Model(number=n, anything=x), st.integers(), inner),
        st.builds(lambda n, x: Extra.model_validate({"number": n, "more": x}), st.integers(), inner),
    )


VALUES = st.recursive(st.one_of(ATOMS, ENUMS, st.builds(Stamp, st.integers(), st.text())), _containers, max_leaves=12)


def _mutables(thing: Any) -> dict[int, object]:
    """Everything in a value that could be changed, by identity."""
    found: dict[int, object] = {}
    todo = [thing]
    while todo:
        item = todo.pop()
        if isinstance(item, list | dict | set | Bag | BaseModel):
            found[id(item)] = item
        if isinstance(item, list | tuple | set | frozenset):
            todo += item
        elif isinstance(item, dict):
            todo += [*item, *item.values()]
        elif isinstance(item, BaseModel):
            todo += [item.__dict__, item.__pydantic_extra__]
        elif dataclasses.is_dataclass(item):
            todo += [getattr(item, field.name) for field in dataclasses.fields(item)]
    return found


@examples(400)
@given(st.lists(VALUES, max_size=3).map(tuple))
def test_pack_and_unpack_give_an_equal_value_that_shares_nothing(args: tuple[object, ...]) -> None:
    back = value.unpack(value.pack(args))
    assert back == args
    assert repr(back) == repr(args) or {type(x) for x in back} == {type(x) for x in args}
    assert not _mutables(back).keys() & _mutables(args).keys()
    for one, copy in zip(args, map(value.copied, args), strict=True):
        assert copy == one
        assert not _mutables(copy).keys() & _mutables(one).keys()


@examples(100)
@given(VALUES)
def test_weight_is_about_the_size(thing: object) -> None:
    packed = value.pack((thing,))
    assert value.weigh(packed) == len(packed)
    if value.immutable((thing,)):
        assert value.weigh((thing,)) > 0


@examples(500)
@given(st.binary(max_size=200))
def test_unpack_of_any_bytes_raises_value_error_only(data: bytes) -> None:
    for read in (value.unpack, lambda data: unpack_message(data, 0.0)):
        try:
            read(data)
        except ValueError:
            pass


@examples(300)
@given(st.lists(VALUES, max_size=2).map(tuple), st.data())
def test_unpack_of_damaged_bytes_raises_value_error_only(args: tuple[object, ...], data: st.DataObject) -> None:
    packed = bytearray(value.pack(args))
    for _ in range(data.draw(st.integers(1, 3))):
        packed[data.draw(st.integers(0, len(packed) - 1))] = data.draw(st.integers(0, 255))
    try:
        value.unpack(bytes(packed))
    except ValueError:
        pass


def _ext(code: int, *parts: object) -> bytes:
    return msgpack.packb([msgpack.ExtType(code, msgpack.packb(list(parts)))])  # type: ignore[no-any-return]  # untyped


@pytest.mark.parametrize(
    "data",
    [
        msgpack.packb([msgpack.ExtType(6, b"Decimal x")]),
        msgpack.packb([msgpack.ExtType(6, b"timedelta 99999999999999 0 0")]),
        msgpack.packb([msgpack.ExtType(6, b"nothing x")]),
        msgpack.packb([msgpack.ExtType(4, b"zz")]),
        msgpack.packb([msgpack.ExtType(5, b"nowhere")]),
        msgpack.packb([msgpack.ExtType(99, b"")]),
        _ext(8, "tests.core.values", "Colour", "GREEN"),
        _ext(8, "tests.core.values", "Bag", "GREEN"),
        _ext(7, "subprocess", "Popen", ["ls"]),
        _ext(7, "os", "system", ["ls"]),
        _ext(7, "tests.core.values", "Bag", 5),
        _ext(7, "tests.core.values", "Point", []),
        _ext(7, "tests.core.values", "Model", []),
        _ext(7, "no.such.module", "Model", []),
        _ext(2, [1]),
        msgpack.packb({}),
        msgpack.packb(5),
        b"",
    ],
    ids=repr,
)
def test_unpack_refuses(data: bytes) -> None:
    with pytest.raises(ValueError, match="does not unpack"):
        value.unpack(data)


def test_nothing_is_imported_on_a_messages_word() -> None:
    lazy = "xml.dom.minidom"
    sys.modules.pop(lazy, None)
    with pytest.raises(ValueError, match="import its module"):
        value.unpack(_ext(7, lazy, "Document", []))
    assert lazy not in sys.modules


def test_private_attributes_and_huge_numbers_travel() -> None:
    model = Model(number=1)
    model._hidden = 7
    assert model.lock
    assert value.copied(model)._hidden == 7
    assert value.copied([10**10_000]) == [10**10_000]
    assert value.copied([-(2**64), -(10**9_000)]) == [-(2**64), -(10**9_000)]


def test_special_numbers_travel() -> None:
    nan, decimal_nan = value.unpack(value.pack((math.nan, decimal.Decimal("NaN"))))
    assert math.isnan(nan)
    assert decimal_nan.is_nan()
    assert value.copied([math.inf, -0.0]) == [math.inf, 0.0]
    assert value.copied([uuid.UUID(int=5)]) == [uuid.UUID(int=5)]


def test_what_is_no_value_is_refused_by_its_kind() -> None:
    class Local(Bag):
        pass

    class Text(str):
        pass

    cyclic: list[object] = []
    cyclic.append(cyclic)
    for thing in (object(), Local(1), Text("x"), cyclic, lambda: 1, ValueError("x"), {1: object()}, type):
        with pytest.raises(ValueRefused):
            value.pack((thing,))
    with pytest.raises(ValueRefused, match="a object cannot cross"):
        value.pack((object(),))


def test_deep_nesting_is_refused_not_overflowed() -> None:
    deep: object = 1
    for _ in range(100_000):
        deep = (deep,)
    assert not value.immutable((deep,))
    with pytest.raises(ValueRefused):
        value.pack((deep,))
    for opening in (b"\x91", b"\xc7\xff\x01"):
        with pytest.raises(ValueError, match="does not unpack"):
            value.unpack(opening * 50_000)


MESSAGES = st.builds(
    Message,
    st.integers(0, 255),
    ADDRESSES,
    st.integers(0, SESSION_MAX),
    st.binary(),
    st.just(NEVER) | st.floats(0, 1e6),
    st.none() | st.text(st.characters(exclude_categories=["Cs"])),
)


@examples(300)
@given(MESSAGES, st.integers(0, 2**32 - 1), st.floats(0, 1e6), st.floats(0, 1e6))
def test_messages_survive_the_way_between_nodes(message: Message, handle: int, here: float, there: float) -> None:
    got_handle, got = unpack_message(pack_message(handle, message, here), there)
    assert got_handle == handle
    for name in ("ptype", "source", "session", "payload", "trace"):
        assert getattr(got, name) == getattr(message, name)
    if message.deadline == NEVER:
        assert got.deadline == NEVER
    else:
        assert got.deadline - there == pytest.approx(message.deadline - here, abs=1e-6)


@pytest.mark.parametrize(
    ("place", "wrong"),
    [(0, 2), (1, -1), (1, 2**32), (2, 256), (3, 5), (4, 2**32), (5, 2**31), (5, True), (6, 1), (6, math.nan)]
    + [(6, math.inf), (7, 5), (8, "text"), (8, None)],
)
def test_a_wrong_field_is_no_message(place: int, wrong: object) -> None:
    fields = msgpack.unpackb(pack_message(1, Message(10, Address("a", 1), 1, b"x", 2.0), 1.0))
    fields[place] = wrong
    with pytest.raises(ValueError, match="not a message"):
        unpack_message(msgpack.packb(fields), 0.0)
