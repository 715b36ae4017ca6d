"""How the payloads of one message type are packed and unpacked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from skyloom.message import value
from skyloom.message.errors import ValueRefused
from skyloom.message.ptype import PTYPE_MAX, Ptype

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True)
class Protocol:
    """A message type: its name, its id of 0 to 255, and how its arguments become bytes and back.

    ``pack(*arguments) -> bytes`` and ``unpack(data) -> tuple of arguments`` (or one argument that is not a tuple).
    Leave both out and the arguments are values (see `skyloom.message.value`); such a protocol is the fast one,
    since immutable arguments need no packing inside a node.
    """

    name: str
    id: int
    pack: Callable[..., bytes] | None = None
    unpack: Callable[[bytes], Any] | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.id <= PTYPE_MAX:
            raise ValueError(f"protocol {self.name!r}: id {self.id} is not in 0..{PTYPE_MAX}")
        if not self.name:
            raise ValueError("protocol: a name is needed")
        if (self.pack is None) != (self.unpack is None):
            raise ValueError(f"protocol {self.name!r}: give both pack and unpack, or neither")

    def to_payload(self, args: tuple[object, ...]) -> bytes | tuple[object, ...]:
        """The payload for these arguments. Raises ValueRefused when they cannot be packed."""
        if self.pack is None:
            return args if value.immutable(args) else value.pack(args)
        try:
            data = self.pack(*args)
        except Exception as error:
            raise ValueRefused(f"protocol {self.name!r} cannot pack this: {error}") from error
        if type(data) is not bytes:
            raise ValueRefused(f"protocol {self.name!r}: pack returned a {type(data).__name__}, not bytes")
        return data

    def from_payload(self, payload: bytes | tuple[object, ...]) -> tuple[Any, ...]:
        """The arguments in a payload. Raises ValueError when it does not unpack."""
        if type(payload) is tuple:
            return payload
        assert type(payload) is bytes
        if self.unpack is None:
            return value.unpack(payload)
        try:
            args: Any = self.unpack(payload)
        except Exception as error:
            raise ValueError(f"protocol {self.name!r} cannot unpack this: {error}") from error
        return args if isinstance(args, tuple) else (args,)


def _pack_text(text: str) -> bytes:
    return text.encode()


def _unpack_text(data: bytes) -> str:
    return data.decode()


def _pack_refused(*_args: object) -> bytes:
    raise ValueError("only the runtime sends these; to answer by hand use `redirect`")


def builtin_protocols() -> dict[str | int, Protocol]:
    """The protocols that every service knows, by name and by id. ``lua`` and ``rpc`` are one."""
    protocols: dict[str | int, Protocol] = {}
    for ptype in Ptype:
        name = ptype.name.lower()
        if ptype is Ptype.TEXT:
            protocol = Protocol(name, int(ptype), _pack_text, _unpack_text)
        elif ptype in (Ptype.RESPONSE, Ptype.ERROR, Ptype.HARBOR):
            protocol = Protocol(name, int(ptype), _pack_refused, value.unpack)
        else:
            protocol = Protocol(name, int(ptype))
        protocols[name] = protocols[int(ptype)] = protocol
    protocols["rpc"] = protocols["lua"]
    return protocols


BUILTIN: Final = builtin_protocols()
