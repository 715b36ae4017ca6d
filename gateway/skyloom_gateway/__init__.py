"""Skyloom's gateway: turns TCP and WebSocket connections into messages to agents, and answers into frames.

A frame passes these stations: `listener` (sockets), `wire` (frames), `session` (state and limits), `connection` and
`gate` (routing), `agent` (your code). `app`, `agent` and `push` open with what to write.
"""

from skyloom_gateway.agent import Agent, NotPermitted, notify, request
from skyloom_gateway.app import App
from skyloom_gateway.auth import Authenticator, AuthError, Denied, Forbidden, GuestAuthenticator, Identity
from skyloom_gateway.gate import Gate
from skyloom_gateway.push import ClientRef, Push, fan_out
from skyloom_gateway.server import Server
from skyloom_gateway.settings import Settings
from skyloom_gateway.watchdog import Watchdog

__all__ = [
    "Agent",
    "App",
    "AuthError",
    "Authenticator",
    "ClientRef",
    "Denied",
    "Forbidden",
    "Gate",
    "GuestAuthenticator",
    "Identity",
    "NotPermitted",
    "Push",
    "Server",
    "Settings",
    "Watchdog",
    "fan_out",
    "notify",
    "request",
]
