"""Message types: skynet's numbers, so that a trace reads the same in both worlds."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

PTYPE_MAX: Final = 255
"""Largest id a protocol may have; the type of a message is one byte."""


class Ptype(IntEnum):
    """The built-in message types (skynet's ``PTYPE_*``). Ids from 20 up are free for your own protocols."""

    TEXT = 0
    RESPONSE = 1
    MULTICAST = 2
    CLIENT = 3
    SYSTEM = 4
    HARBOR = 5
    SOCKET = 6
    ERROR = 7
    QUEUE = 8
    DEBUG = 9
    LUA = 10
    RPC = 10  # an alias: the same protocol under the name Python users look for
    SNAX = 11
    TRACE = 12
