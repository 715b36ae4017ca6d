"""One message for many orders: how a service answers each of them for itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from skyloom import CallError, Failed
from skyloom.message.errors import error_from_values, error_to_values

A = TypeVar("A")

Answers = tuple[A | tuple[object, ...], ...]
"""For each order the answer, or why there is none, as values. An answer is no tuple."""


def told(answers: Sequence[A | Failed]) -> Answers[A]:
    """The answers as they can be sent."""
    return tuple(error_to_values(answer) if isinstance(answer, Failed) else answer for answer in answers)


def heard(answers: Answers[A]) -> list[A | CallError]:
    """What `told` was given, by the one who asked."""
    return [error_from_values(answer) if isinstance(answer, tuple) else answer for answer in answers]
