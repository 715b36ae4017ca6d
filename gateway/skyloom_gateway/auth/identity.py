"""Who a client is, once an authenticator has said so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

USER_CHARS_MAX = 128
NO_CLAIMS: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a client is.

    Args:
        user: the name that agents and other users see.
        claims: what else the authenticator knows, such as roles; plain values, as JSON has them.
        assigned: the client gave no name, and got this one; when it resumes a session it keeps that session's.
    """

    user: str
    claims: Mapping[str, Any] = field(default_factory=lambda: NO_CLAIMS)
    assigned: bool = False


def user_fault(user: object, chars_max: int = USER_CHARS_MAX) -> str | None:
    """What is wrong with a user's name, to follow the name of its field; None when nothing is.

    A name is text of 1 to `chars_max` printable characters, without a blank at either end.
    """
    if not isinstance(user, str):
        return "must be text"
    if not 1 <= len(user) <= chars_max:
        return f"must have 1 to {chars_max} characters"
    # isprintable() is false for control characters, line breaks, and the invisible ones that reorder text.
    if not user.isprintable():
        return "must have printable characters only"
    return "must not begin or end with a blank" if user != user.strip() else None
