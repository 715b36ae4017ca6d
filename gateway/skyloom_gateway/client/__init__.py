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
    ProtocolViolation,
    PushOverflow,
    RequestFailed,
    RequestTimeout,
)
from skyloom_gateway.client.pushes import Push, PushStream
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
    "ProtocolViolation",
    "Push",
    "PushOverflow",
    "PushStream",
    "RequestFailed",
    "RequestTimeout",
    "connect",
]
