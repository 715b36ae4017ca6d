"""What may cross a service boundary, and how it is packed.

Promise 7: what crosses is a value. It arrives equal and never shared. Plain data (None, bool, int, float, str,
bytes, list, tuple, dict, set), dates, Decimal, UUID, Address, enums, dataclasses, named tuples and pydantic models
are values; a class travels by its name, so it must stand at the top of an importable module, as for pickle, but
unlike pickle nothing is imported and nothing but such data classes is ever built.

The packed form is msgpack with the extension types below.
"""

from __future__ import annotations

import dataclasses
import inspect
import sys
import threading
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, Flag
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import msgpack
from pydantic import BaseModel

from skyloom.message.address import Address
from skyloom.message.errors import ValueRefused

if TYPE_CHECKING:
    from collections.abc import Callable

DEPTH_MAX: Final = 64
"""Nesting up to which tuples and frozensets skip packing; what is deeper is packed, which has its own bound."""


class Handed:
    """A value that its sender hands over: it keeps no reference, so that nobody can tell that it was not copied.

    For what was just decoded from a wire and goes on in one piece. Across nodes it is packed like any value.
    """

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


_TUPLE, _SET, _FROZENSET, _BIGINT, _ADDRESS, _TEXT, _OBJECT, _ENUM, _HANDED = range(1, 10)

ATOMS: Final = frozenset(
    {type(None), bool, int, float, str, bytes, Address, datetime, date, time, timedelta, Decimal, UUID, Handed}
)
_PARTS: Final[dict[type, Callable[[Any], tuple[object, ...]] | None]] = {}
_TEXT_TYPES: Final[dict[str, Any]] = {
    "datetime": (datetime.isoformat, datetime.fromisoformat),
    "date": (date.isoformat, date.fromisoformat),
    "time": (time.isoformat, time.fromisoformat),
    "timedelta": (
        lambda d: f"{d.days} {d.seconds} {d.microseconds}",
        lambda t: timedelta(*map(int, t.split())),
    ),
    "Decimal": (str, Decimal),
    "UUID": (str, UUID),
}

all_atoms = ATOMS.issuperset
"""``all_atoms(map(type, args))``: whether all arguments are immutable by their types alone; the quick test."""


def immutable(args: tuple[object, ...], depth: int = DEPTH_MAX) -> bool:
    """Whether nobody could tell a copy of these arguments from the originals, so that packing may be skipped."""
    if all_atoms(map(type, args)):
        return True
    for arg in args:  # noqa: SIM110 - a generator costs more than the test
        if type(arg) not in ATOMS and not _frozen(arg, depth):
            return False
    return True


def _frozen(value: object, depth: int = DEPTH_MAX) -> bool:
    kind = type(value)
    if depth <= 0:
        return False
    if kind is tuple or kind is frozenset:
        return immutable(value, depth - 1)  # type: ignore[arg-type]  # narrowed by `kind`
    parts = _parts(kind)
    return parts is not None and immutable(parts(value), depth - 1)


def _parts(kind: type) -> Callable[[Any], tuple[object, ...]] | None:
    """What finds the parts of an object that can change only by these: a frozen dataclass with slots, an enum."""
    try:
        return _PARTS[kind]
    except KeyError:
        pass
    if _class(kind.__module__, kind.__qualname__) is not kind:
        return None  # it cannot travel; that is for packing to say, in process as between nodes
    names: list[str] | None = None
    if issubclass(kind, Enum):
        names = []
    elif dataclasses.is_dataclass(kind) and kind.__dictoffset__ == 0:
        parameters: Any = getattr(kind, "__dataclass_params__")  # noqa: B009 - mypy does not know it
        names = [field.name for field in dataclasses.fields(kind)] if parameters.frozen else None
    parts: Callable[[Any], tuple[object, ...]] | None = None
    if names is not None:
        # Of one name alone `attrgetter` returns no tuple.
        parts = attrgetter(*names) if len(names) > 1 else lambda value: tuple(getattr(value, name) for name in names)
    _PARTS[kind] = parts
    return parts


def weigh(payload: bytes | tuple[object, ...]) -> int:
    """About how many bytes a payload holds on to, for the mailbox's limit: exact for packed ones."""
    if type(payload) is bytes:
        return len(payload)
    size = 16
    for item in payload:
        kind = type(item)
        if kind is str or kind is bytes:
            size += len(item)  # type: ignore[arg-type]  # narrowed by `kind`
        elif kind is tuple or kind is frozenset:
            size += weigh(tuple(item))  # type: ignore[arg-type]  # narrowed by `kind`
        elif (parts := _PARTS.get(kind)) is not None:
            size += weigh(parts(item))
        else:
            size += 16
    return size


def pack(args: tuple[object, ...]) -> bytes:
    """Pack arguments. Raises ValueRefused, naming the kind of the argument, for what is not a value."""
    try:
        packed: bytes = _packers.packer.pack(list(args))
    except (ValueError, OverflowError, TypeError, RecursionError) as error:
        if isinstance(error, ValueRefused):
            raise
        raise ValueRefused(f"cannot cross a service boundary: {error}") from None
    return packed


def unpack(data: bytes) -> tuple[Any, ...]:
    """What `pack` packed. Raises ValueError when the bytes are not that."""
    try:
        value = _unpackb(data)
    except Exception as error:  # noqa: BLE001  # the bytes choose what is built, and with it what may go wrong
        raise ValueError(f"the payload does not unpack: {error}") from None
    if type(value) is not list:
        raise ValueError("the payload does not unpack: not a list of arguments")
    return tuple(value)


def copied(value: object) -> Any:
    """The value as its receiver sees it: itself when immutable, else packed and unpacked. Raises ValueRefused."""
    if type(value) in ATOMS or _frozen(value):
        return value
    return unpack(pack((value,)))[0]


class _Packers(threading.local):
    """A msgpack packer for each thread: making one anew costs more than packing a small message."""

    def __init__(self) -> None:
        self.packer = msgpack.Packer(
            default=_to_ext, strict_types=True, use_bin_type=True, unicode_errors="surrogatepass"
        )


def _packb(value: object) -> bytes:
    # A packer of its own: a shared one may not be entered again from its own hook. The small buffer grows.
    packed: bytes = msgpack.packb(
        value,
        default=_to_ext,
        strict_types=True,
        use_bin_type=True,
        unicode_errors="surrogatepass",
        buf_size=256,
    )
    return packed


def _unpackb(data: bytes) -> Any:
    return msgpack.unpackb(
        data, ext_hook=_from_ext, strict_map_key=False, use_list=True, unicode_errors="surrogatepass"
    )


def _to_ext(value: object) -> msgpack.ExtType:
    kind = type(value)
    if kind is tuple:
        return msgpack.ExtType(_TUPLE, _packb(list(value)))  # type: ignore[call-overload]  # narrowed by `kind`
    if kind is Address:
        return msgpack.ExtType(_ADDRESS, str(value).encode())
    if kind is int:
        return msgpack.ExtType(_BIGINT, f"{value:x}".encode())  # hexadecimal has no limit of digits
    if kind is set or kind is frozenset:
        code = _SET if kind is set else _FROZENSET
        return msgpack.ExtType(code, _packb(list(value)))  # type: ignore[call-overload]  # narrowed by `kind`
    if isinstance(value, Handed):
        return msgpack.ExtType(_HANDED, _packb(value.value))
    if kind in ATOMS:
        text = _TEXT_TYPES[kind.__name__][0](value)
        return msgpack.ExtType(_TEXT, f"{kind.__name__} {text}".encode())
    if isinstance(value, Flag):  # by value, for a combination has no name
        return msgpack.ExtType(_ENUM, _packb([*_name(kind), value.value]))
    if isinstance(value, Enum):
        return msgpack.ExtType(_ENUM, _packb([*_name(kind), value.name]))
    state = _state(value)
    return msgpack.ExtType(_OBJECT, _packb([*_name(kind), state]))


def _name(kind: type) -> tuple[str, str]:
    if _class(kind.__module__, kind.__qualname__) is not kind:
        raise ValueRefused(f"class {kind.__qualname__} cannot travel: define it at the top of a module")
    return kind.__module__, kind.__qualname__


def _state(value: object) -> object:
    """The fields of a data object, by name."""
    if isinstance(value, BaseModel):
        known = type(value).model_fields  # else a cached_property would travel too
        fields = {name: field for name, field in value.__dict__.items() if name in known}
        fields.update(value.__pydantic_extra__ or {})
        return [fields, sorted(value.__pydantic_fields_set__), value.__pydantic_private__]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return list(value)
    remedy = "send plain data, a dataclass, an enum or a pydantic model"
    if inspect.iscoroutine(value):
        value.close()  # else Python warns of it, too
        remedy = "an `await` is missing"
    raise ValueRefused(f"a {type(value).__qualname__} cannot cross a service boundary: {remedy}")


def _from_ext(code: int, data: bytes) -> Any:
    if code == _TUPLE:
        return tuple(_unpackb(data))
    if code == _ADDRESS:
        return Address.parse(data.decode())
    if code == _BIGINT:
        return int(data, 16)
    if code == _SET:
        return set(_unpackb(data))
    if code == _FROZENSET:
        return frozenset(_unpackb(data))
    if code == _TEXT:
        name, _, text = data.decode().partition(" ")
        return _TEXT_TYPES[name][1](text)
    if code == _HANDED:
        return Handed(_unpackb(data))
    if code == _ENUM:
        module, name, member = _unpackb(data)
        found = _find(module, name, Enum)
        return found(member) if issubclass(found, Flag) else found[member]
    if code == _OBJECT:
        module, name, state = _unpackb(data)
        return _build(_find(module, name, object), state)
    raise ValueError(f"unknown extension type {code}")


def _class(module: str, name: str) -> Any:
    """The class of that name, if its module is loaded here; nothing is imported on a message's word."""
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        # Not getattr: a module's own __getattr__ may import.
        found = getattr(found, "__dict__", {}).get(part)
    return found


def _find(module: str, name: str, kind: type) -> Any:
    """`_class`, or a ValueError when it is none of that kind."""
    found = _class(module, name)
    if not (isinstance(found, type) and issubclass(found, kind)):
        raise ValueError(f"class {module}.{name} is not known here: import its module on this node too")
    return found


def _build(cls: Any, state: Any) -> Any:
    if issubclass(cls, BaseModel):
        fields, given, private = state
        model = cls.model_construct(set(given))
        # The fields as they were, not validated again: a validator that is not idempotent would change them.
        # Defaults come first, so that a field which the other side does not have yet is there.
        model.__dict__.update({name: value for name, value in fields.items() if name in cls.model_fields})
        if cls.model_config.get("extra") == "allow":
            extra = {name: value for name, value in fields.items() if name not in cls.model_fields}
            object.__setattr__(model, "__pydantic_extra__", extra)
        object.__setattr__(model, "__pydantic_private__", private)
        return model
    if dataclasses.is_dataclass(cls):
        kind: Any = cls
        value: Any = object.__new__(kind)
        for field in dataclasses.fields(cls):
            if field.name in state:
                object.__setattr__(value, field.name, state[field.name])
            elif field.default is not dataclasses.MISSING:
                object.__setattr__(value, field.name, field.default)
            elif field.default_factory is not dataclasses.MISSING:
                object.__setattr__(value, field.name, field.default_factory())
        return value
    if issubclass(cls, tuple) and hasattr(cls, "_fields"):
        return cls(*state)
    raise ValueError(f"class {cls.__module__}.{cls.__qualname__} is not a data class")


_packers = _Packers()
