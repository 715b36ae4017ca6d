"""One message for many orders: how a service answers each of them for itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import structlog

from skyloom import CallError, Failed
from skyloom.message.errors import error_from_values, error_to_values

A = TypeVar("A")

log = structlog.get_logger("skyloom.shop")

Answers = tuple[A | tuple[object, ...], ...]
"""For each order the answer, or why there is none, as values. An answer is no tuple."""


def told(answers: Sequence[A | Exception]) -> Answers[A]:
    """The answers as they can be sent."""
    return tuple(error_to_values(_failed(answer)) if isinstance(answer, Exception) else answer for answer in answers)


def _failed(error: Exception) -> Failed:
    """As the runtime tells what a handler raised."""
    if isinstance(error, Failed):
        return error
    log.error("an order failed for itself among others", exc_info=error)
    return Failed(f"{type(error).__name__}: {error}", code="skyloom.internal")


def heard(answers: Answers[A]) -> list[A | CallError]:
    """What `told` was given, by the one who asked."""
    return [error_from_values(answer) if isinstance(answer, tuple) else answer for answer in answers]
