"""What a client is told of what went wrong behind the gate."""

from __future__ import annotations

from typing import Final

from skyloom import CallError, Expired, NotExecuted, Unknown
from skyloom_gateway.wire import ErrorKind, WireError

DRAINING: Final = WireError(
    "gateway.draining", ErrorKind.UNAVAILABLE, "the server restarts: connect again", retryable=True
)
UNAVAILABLE: Final = WireError(
    "gateway.unavailable", ErrorKind.UNAVAILABLE, "not available now: try again", retryable=True
)
OVERLOADED: Final = WireError(
    "gateway.overloaded", ErrorKind.RESOURCE_EXHAUSTED, "too much is waiting: try again later", retryable=True
)
OUTCOME_UNKNOWN: Final = WireError(
    "gateway.outcome_unknown",
    ErrorKind.UNAVAILABLE,
    "no answer, and it may have run: ask what happened before you try again",
)
EXPIRED: Final = WireError(
    "gateway.deadline_exceeded",
    ErrorKind.DEADLINE_EXCEEDED,
    "no answer in time, and it may have run: ask what happened before you try again",
)
TOO_BIG: Final = WireError(
    "gateway.answer_too_big", ErrorKind.RESOURCE_EXHAUSTED, "the answer does not fit a TCP frame: ask for less at once"
)
INTERNAL: Final = WireError("gateway.internal", ErrorKind.INTERNAL, "the server failed; it has been logged")
KEY_REUSED: Final = WireError(
    "gateway.key_reused",
    ErrorKind.PERMISSION_DENIED,
    "the key of your session was used twice, so somebody else has it: the session has ended; log in again",
)


UNLOGGED: Final = frozenset(
    {"skyloom.failed", "skyloom.start_failed", "skyloom.child_refused", "skyloom.no_answer", "skyloom.cancelled"}
)
"""Codes of which the service that raised them has logged nothing, though a client is told no more than INTERNAL."""


def unknown_route(route: str, *, is_request: bool) -> WireError:
    """What to say of a route that nobody has, or that has another kind of frame."""
    text = f"no route {route!r} here" if is_request else f"no route {route!r} here for this kind of frame"
    return WireError("gateway.unknown_route", ErrorKind.UNIMPLEMENTED, text)


def client_error(error: CallError) -> WireError:
    """What a client is told of an error: an app's own as it is, the runtime's by its kind and nothing more.

    Of the latter, `retryable` is only what surely did not run: a client may send that again under a new id.
    """
    if not error.code.startswith("skyloom."):
        return WireError(error.code, ErrorKind(error.kind), error.message, error.retryable, error.details)
    if isinstance(error, Expired) or error.kind == "deadline_exceeded":
        return EXPIRED
    if isinstance(error, NotExecuted):
        return OVERLOADED if error.kind == "resource_exhausted" else UNAVAILABLE
    # A call of the agent's own that did not start is a Failed here: what the agent did before it is done.
    if isinstance(error, Unknown) or error.kind in ("unavailable", "resource_exhausted"):
        return OUTCOME_UNKNOWN
    return INTERNAL
