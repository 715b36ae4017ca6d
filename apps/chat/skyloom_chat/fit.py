"""Keeping answers to a size that their connection takes: the newest of a list, as many as fit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pydantic_core import to_json

from skyloom_chat.messages import Joined, Messages

if TYPE_CHECKING:
    from collections.abc import Sequence

    from skyloom_chat.messages import Message

ANSWER_BYTES_MAX: Final = {"json": 192 * 1024, "msgpack": 64_000}
"""The bytes of lists in one answer, by encoding.

A client in msgpack may be on TCP, whose frames have 65,535 bytes. One on WebSocket could get more, but what it has not
read yet counts against the gateway's bound of 256 KiB, over which it is taken for one that does not read.
"""


def newest_that_fit(items: Sequence[str] | Sequence[Message], size: int) -> tuple[int, int]:
    """How many items, counted from the end, fit into `size` bytes, and the bytes that they take.

    Measured as JSON, in which nothing here is shorter than in msgpack.
    """
    used = 0
    for count, item in enumerate(reversed(items)):
        bytes_of_item = len(to_json(item)) + 1
        if used + bytes_of_item > size:
            return count, used
        used += bytes_of_item
    return len(items), used


def fit_joined(joined: Joined, size: int) -> Joined:
    """The answer with the latest members in at most half of `size` bytes, and the newest messages in the rest."""
    members, used = newest_that_fit(joined.members, size // 2)
    messages, _ = newest_that_fit(joined.history, size - used)
    if members == len(joined.members) and messages == len(joined.history):
        return joined
    return joined.model_copy(
        update={
            "members": joined.members[len(joined.members) - members :],
            "history": joined.history[len(joined.history) - messages :],
            "more": joined.more or messages < len(joined.history),
        }
    )


def fit_messages(page: Messages, size: int) -> Messages:
    """The answer with the newest messages in at most `size` bytes; one always fits."""
    count, _ = newest_that_fit(page.messages, size)
    if count == len(page.messages):
        return page
    return Messages(messages=page.messages[len(page.messages) - count :], more=True)
