"""Python client of a Skyloom gateway: `connect`, and `Client` with request, notify, pushes and typed
errors.
"""

from skyloom_gateway.client.client import Client
from skyloom_gateway.client.connecting import connect
from skyloom_gateway.client.conversation import Limits
from skyloom_gateway.client.errors import (
    AnswerInvalid,
    ClientError,
    ConnectFailed,
    ConnectionLost,
    HelloRefused,
    MessageTooLarge,
    NotConnected,
    ProtocolViolation,
    PushOverflow,
    RequestFailed,
    RequestTimeout,
    SessionLost,
)
from skyloom_gateway.client.pushes import Push, PushStream
from skyloom_gateway.client.reconnecting import Reconnect
from skyloom_gateway.client.status import Session, Status
from skyloom_gateway.wire.frame import Drain

__all__ = [
    "AnswerInvalid",
    "Client",
    "ClientError",
    "ConnectFailed",
    "ConnectionLost",
    "Drain",
    "HelloRefused",
    "Limits",
    "MessageTooLarge",
    "NotConnected",
    "ProtocolViolation",
    "Push",
    "PushOverflow",
    "PushStream",
    "Reconnect",
    "RequestFailed",
    "RequestTimeout",
    "Session",
    "SessionLost",
    "Status",
    "connect",
]
