"""What the gateway itself answers with, whatever the app: one table, held equal to its source by a test."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from skyloom_gateway.contract.contract import ErrorCode

if TYPE_CHECKING:
    from collections.abc import Mapping


def _table(*rows: tuple[str, str, bool, str]) -> dict[str, ErrorCode]:
    table: dict[str, ErrorCode] = {}
    for code, kind, retryable, description in sorted(rows):
        if code in table:
            raise ValueError(f"{code} is there twice")
        name = "".join(part.capitalize() for part in code.removeprefix("gateway.").split("_"))
        table[code] = ErrorCode(code, kind, retryable, name, description)
    return table


GATEWAY_ERRORS: Final[Mapping[str, ErrorCode]] = _table(
    # Answers to a request; those of a notify, and of what has no id, come with id 0.
    (
        "gateway.answer_gone",
        "failed_precondition",
        False,
        "The request was answered before, and the answer is no longer kept. It did not run again.",
    ),
    (
        "gateway.answer_too_big",
        "resource_exhausted",
        False,
        "The answer does not fit a TCP frame; ask for less at once.",
    ),
    (
        "gateway.outcome_unknown",
        "unavailable",
        False,
        "No answer, and the request may have run; ask what happened before you try again.",
    ),
    ("gateway.deadline_exceeded", "deadline_exceeded", False, "No answer in time; the request may have run."),
    ("gateway.draining", "unavailable", True, "The server restarts; connect again."),
    ("gateway.internal", "internal", False, "A fault of the server, which has logged it."),
    (
        "gateway.invalid_body",
        "invalid_argument",
        False,
        "The body does not fit its route; details.errors names the fields. The app never saw it.",
    ),
    ("gateway.overloaded", "resource_exhausted", True, "Too much is waiting, or the server is full; close code 1013."),
    ("gateway.permission_denied", "permission_denied", False, "This client may not call this route."),
    ("gateway.rate_limited", "resource_exhausted", True, "Over the rate; details.retry_after is in seconds."),
    ("gateway.too_many_requests", "resource_exhausted", True, "Too many requests wait for their answers."),
    ("gateway.unavailable", "unavailable", True, "Not just now; the request did not run."),
    ("gateway.unknown_route", "unimplemented", False, "There is no such route for this kind of frame."),
    # The last words of a connection.
    ("gateway.too_many_sessions", "resource_exhausted", True, "The user has as many as it may; close code 4429."),
    ("gateway.closed", "internal", False, "Closed for a reason of the app's own; details.close_code has its code."),
    (
        "gateway.forbidden",
        "permission_denied",
        False,
        "May not connect, or was thrown out; close code 4403.",
    ),
    ("gateway.frame_too_big", "resource_exhausted", False, "The frame is over the limit; close code 1009."),
    ("gateway.hello_timeout", "deadline_exceeded", True, "No hello in time; close code 4408."),
    ("gateway.invalid_utf8", "invalid_argument", False, "A text frame is not UTF-8; close code 1007."),
    ("gateway.key_reused", "permission_denied", False, "The session's key was used twice; close code 4403."),
    ("gateway.malformed_frame", "invalid_argument", False, "The frame is malformed or out of place; close code 4400."),
    ("gateway.replaced", "aborted", False, "A newer connection took the session over; close code 4409."),
    ("gateway.restart", "unavailable", True, "The server restarts; close code 1012."),
    (
        "gateway.too_many_denials",
        "resource_exhausted",
        True,
        "Denied too often from this address; details.retry_after is in seconds; close code 4429.",
    ),
    (
        "gateway.too_many_logins",
        "resource_exhausted",
        True,
        "Too many logins from this address at once; close code 4429.",
    ),
    ("gateway.unauthenticated", "unauthenticated", False, "The hello was refused; close code 4401."),
)
