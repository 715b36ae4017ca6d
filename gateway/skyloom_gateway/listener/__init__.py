"""Listeners: sockets in, links out.

    socket -> WebSocketListener | TcpListener -> Link -> (the gate's) Receiver

See `link` for the interfaces that the gate codes against.
"""

from __future__ import annotations

import os

# A half-open handshake costs over a megabyte with websockets' own limits, which it reads when it is imported.
os.environ.setdefault("WEBSOCKETS_MAX_NUM_HEADERS", "32")
os.environ.setdefault("WEBSOCKETS_MAX_LINE_LENGTH", "4096")

from skyloom_gateway.listener.connections import Connections
from skyloom_gateway.listener.link import Acceptor, Link, LinkKind, Receiver, TimerHandle, Timers
from skyloom_gateway.listener.pages import Pages
from skyloom_gateway.listener.settings import ListenerSettings
from skyloom_gateway.listener.tcp import TcpListener
from skyloom_gateway.listener.timers import LoopTimers
from skyloom_gateway.listener.websocket import WebSocketListener

__all__ = [
    "Acceptor",
    "Connections",
    "Link",
    "LinkKind",
    "ListenerSettings",
    "LoopTimers",
    "Pages",
    "Receiver",
    "TcpListener",
    "TimerHandle",
    "Timers",
    "WebSocketListener",
]
