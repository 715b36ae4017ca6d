"""A message between nodes, as bytes: a msgpack array, versioned by its first element.

    [1, dest handle, ptype, source node, source handle, session, seconds left or nil, trace or nil, payload]

The deadline travels as the time that remains, since two nodes' clocks have nothing in common.
"""

from __future__ import annotations

from math import isfinite
from typing import Final

import msgpack

from skyloom.message import value
from skyloom.message.address import HANDLE_MAX, Address
from skyloom.message.message import NEVER, SESSION_MAX, Message
from skyloom.message.ptype import PTYPE_MAX

VERSION: Final = 1


def pack_message(handle: int, message: Message, now: float) -> bytes:
    """The bytes that carry `message` to service `handle` of another node; `now` in seconds."""
    payload = message.payload
    left = None if message.deadline == NEVER else message.deadline - now
    source = message.source
    packed: bytes = msgpack.packb(
        [
            VERSION,
            handle,
            message.ptype,
            source.node,
            source.handle,
            message.session,
            left,
            message.trace,
            value.pack(payload) if type(payload) is tuple else payload,
        ]
    )
    return packed


def unpack_message(data: bytes, now: float) -> tuple[int, Message]:
    """The handle and the message in `data`. Raises ValueError when it is not what `pack_message` makes."""
    try:
        version, handle, ptype, node, source, session, left, trace, payload, *_ = msgpack.unpackb(data)
    except (ValueError, TypeError) as error:
        raise ValueError(f"not a message between nodes: {error}") from None
    sane = (
        version == VERSION
        and _within(handle, HANDLE_MAX)
        and _within(ptype, PTYPE_MAX)
        and _within(source, HANDLE_MAX)
        and _within(session, SESSION_MAX)
        and type(node) is str
        and type(payload) is bytes
        and (left is None or (type(left) is float and isfinite(left)))
        and (trace is None or type(trace) is str)
    )
    if not sane:
        raise ValueError("not a message between nodes: a field has the wrong type or range")
    deadline = NEVER if left is None else now + left
    return handle, Message(ptype, Address(node, source), session, payload, deadline, trace)


def _within(number: object, largest: int) -> bool:
    return type(number) is int and 0 <= number <= largest
