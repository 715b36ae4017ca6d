"""WebSocket frames as bytes (RFC 6455 section 5.2), as far as the fast path looks at them."""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct

import websockets.utils

apply_mask: Callable[[bytes, bytes], bytes]
try:
    from websockets.speedups import apply_mask
except ImportError:  # no compiled wheel for this platform
    apply_mask = websockets.utils.apply_mask

BAD = 0
TEXT_FRAME = 0x81
BINARY_FRAME = 0x82
CLOSE_FRAME = 0x88
CLOSE_REASON_BYTES_MAX = 123  # section 5.5: 125 less the code

_LENGTH_16 = Struct("!H").unpack_from
_LENGTH_64 = Struct("!Q").unpack_from
_HEADER_16 = Struct("!BBH").pack
_HEADER_64 = Struct("!BBQ").pack
SHORT_HEADERS = {first: tuple(bytes((first, length)) for length in range(126)) for first in (TEXT_FRAME, BINARY_FRAME)}
# First bytes that are right without extensions: any data frame, and control frames that are not fragments.
_FIRST_BYTES = frozenset(fin | opcode for fin in (0, 0x80) for opcode in (0, 1, 2)) | {0x88, 0x89, 0x8A}


def server_header(first: int, length: int) -> bytes:
    """What comes before a server's message of `length` bytes: it is not masked, not fragmented.

    Args:
        first: TEXT_FRAME or BINARY_FRAME.
        length: the message's bytes.
    """
    if length < 126:
        return SHORT_HEADERS[first][length]
    if length < 65_536:
        return _HEADER_16(first, 126, length)
    return _HEADER_64(first, 127, length)


def client_frame_bytes(data: bytes, position: int, payload_bytes_max: int) -> int:
    """How many bytes a client's frame has, from its header at `position`.

    Returns:
        The frame's size, header and all; or, when `data` ends within the header, how many bytes must be there
        to say more; or BAD when the header is not plainly valid, and the library shall say what is wrong.
    """
    available = len(data) - position
    if available < 2:
        return 2
    first, second = data[position], data[position + 1]
    length = second & 0x7F
    if second < 0x80 or first not in _FIRST_BYTES or (first >= 0x88 and length > 125):
        return BAD
    header = 6
    if length == 126:
        if available < 4:
            return 4
        header = 8
        length = _LENGTH_16(data, position + 2)[0]
    elif length == 127:
        if available < 10:
            return 10
        header = 14
        length = _LENGTH_64(data, position + 2)[0]
    return BAD if length > payload_bytes_max else header + length


def close_frame(code: int, reason: str) -> bytes:
    """A close frame from a server; `reason` has been cut to its bound by `clip`."""
    payload = code.to_bytes(2, "big") + reason.encode()
    return bytes((CLOSE_FRAME, len(payload))) + payload


def clip(reason: str) -> str:
    """A reason cut to what fits a close frame, at a character's boundary."""
    return reason.encode(errors="replace")[:CLOSE_REASON_BYTES_MAX].decode(errors="ignore")
