"""Skyloom's runtime: services that talk by messages, after cloudwu/skynet.

Start with `Service` and `Node`; the errors are drawn in `skyloom.message.errors`.
"""

from skyloom.cluster.memory import MemoryNetwork
from skyloom.cluster.transport import NotConnected, Transport
from skyloom.message.address import Address
from skyloom.message.errors import (
    AnsweredTwice,
    CallError,
    CannotStart,
    Expired,
    Failed,
    NameTaken,
    NodeFailed,
    NotExecuted,
    SkyloomError,
    Unknown,
    UnknownName,
    ValueRefused,
)
from skyloom.message.message import Message
from skyloom.message.protocol import Protocol
from skyloom.message.ptype import Ptype
from skyloom.node.clock import Clock, Spawner
from skyloom.node.dead_letters import DeadLetter
from skyloom.node.node import Node
from skyloom.service.response import Response
from skyloom.service.rpc import rpc
from skyloom.service.section import Section
from skyloom.service.select import Answer
from skyloom.service.service import Service
from skyloom.service.timer import Timer

__all__ = [
    "Address",
    "Answer",
    "AnsweredTwice",
    "CallError",
    "CannotStart",
    "Clock",
    "DeadLetter",
    "Expired",
    "Failed",
    "MemoryNetwork",
    "Message",
    "NameTaken",
    "Node",
    "NodeFailed",
    "NotConnected",
    "NotExecuted",
    "Protocol",
    "Ptype",
    "Response",
    "Section",
    "Service",
    "SkyloomError",
    "Spawner",
    "Timer",
    "Transport",
    "Unknown",
    "UnknownName",
    "ValueRefused",
    "rpc",
]
