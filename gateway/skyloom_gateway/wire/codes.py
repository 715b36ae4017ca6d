"""What the gateway tells a client when something is wrong: error kinds, close codes, the error itself."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from types import MappingProxyType


class ErrorKind(StrEnum):
    """What sort of failure an error is. The names, and what they mean, are those of gRPC's status codes."""

    INVALID_ARGUMENT = "invalid_argument"
    UNAUTHENTICATED = "unauthenticated"
    PERMISSION_DENIED = "permission_denied"
    NOT_FOUND = "not_found"
    ALREADY_EXISTS = "already_exists"
    FAILED_PRECONDITION = "failed_precondition"
    RESOURCE_EXHAUSTED = "resource_exhausted"
    ABORTED = "aborted"
    DEADLINE_EXCEEDED = "deadline_exceeded"
    UNAVAILABLE = "unavailable"
    UNIMPLEMENTED = "unimplemented"
    INTERNAL = "internal"


class CloseCode(IntEnum):
    """Why the server closes a connection: RFC 6455, section 7.4.1, and from 4400 on the protocol's own."""

    NORMAL = 1000
    GOING_AWAY = 1001
    INVALID_TEXT = 1007
    TOO_BIG = 1009
    RESTART = 1012
    OVERLOADED = 1013
    MALFORMED = 4400
    UNAUTHENTICATED = 4401
    FORBIDDEN = 4403
    HELLO_TIMEOUT = 4408
    REPLACED = 4409
    RATE = 4429


@dataclass(frozen=True, slots=True)
class WireError:
    """A failure as a client is told of it.

    Args:
        code: stable and namespaced, such as `gateway.invalid_body` or `chat.room_not_found`, for programs.
        kind: the sort of failure.
        message: one sentence for people.
        retryable: whether the same request may succeed later.
        details: plain JSON-able data for programs.
    """

    code: str
    kind: ErrorKind
    message: str
    retryable: bool = False
    details: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CloseCause:
    """The error that goes ahead of a close: its code, kind and whether connecting again may help."""

    code: str
    kind: ErrorKind
    retryable: bool = False


# An orderly close (1000, 1001) has no error.
CLOSE_CAUSES: Mapping[CloseCode, CloseCause] = MappingProxyType(
    {
        CloseCode.INVALID_TEXT: CloseCause("gateway.invalid_utf8", ErrorKind.INVALID_ARGUMENT),
        CloseCode.TOO_BIG: CloseCause("gateway.frame_too_big", ErrorKind.RESOURCE_EXHAUSTED),
        CloseCode.RESTART: CloseCause("gateway.restart", ErrorKind.UNAVAILABLE, retryable=True),
        CloseCode.OVERLOADED: CloseCause("gateway.overloaded", ErrorKind.RESOURCE_EXHAUSTED, retryable=True),
        CloseCode.MALFORMED: CloseCause("gateway.malformed_frame", ErrorKind.INVALID_ARGUMENT),
        CloseCode.UNAUTHENTICATED: CloseCause("gateway.unauthenticated", ErrorKind.UNAUTHENTICATED),
        CloseCode.FORBIDDEN: CloseCause("gateway.forbidden", ErrorKind.PERMISSION_DENIED),
        CloseCode.HELLO_TIMEOUT: CloseCause("gateway.hello_timeout", ErrorKind.DEADLINE_EXCEEDED, retryable=True),
        CloseCode.REPLACED: CloseCause("gateway.replaced", ErrorKind.ABORTED),
        CloseCode.RATE: CloseCause("gateway.rate_limited", ErrorKind.RESOURCE_EXHAUSTED, retryable=True),
    }
)


def close_error(code: CloseCode, reason: str) -> WireError | None:
    """The error that tells a client why it is closed, or None for an orderly close.

    Args:
        code: the close code.
        reason: the message, one sentence.
    """
    cause = CLOSE_CAUSES.get(code)
    if cause is None:
        return None
    return WireError(cause.code, cause.kind, reason, cause.retryable)
