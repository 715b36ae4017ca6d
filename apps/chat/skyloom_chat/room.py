"""One chat room: who is in it, and what was said last."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

    from skyloom import Address
    from skyloom_chat.messages import Message
    from skyloom_gateway import ClientRef

RECENT_MESSAGES_MAX: Final = 50
"""Messages of a room kept in memory: those that `chat.join` answers with."""


class Member(NamedTuple):
    """One client in a room; a user with two clients is a member twice, and listed once."""

    user: str
    client: ClientRef


class Room:
    """The members of a room by the address of their agents, and its recent messages."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.members: dict[Address, Member] = {}
        self.loaded = False
        self._recent: dict[int, Message] = {}

    @property
    def users(self) -> list[str]:
        """Everybody in the room, each once, in the order in which they came."""
        return list(dict.fromkeys(member.user for member in self.members.values()))

    def has(self, user: str) -> bool:
        return any(member.user == user for member in self.members.values())

    def others(self, agent: Address) -> list[ClientRef]:
        """The clients of all members but that one."""
        return [member.client for address, member in self.members.items() if address != agent]

    @property
    def recent(self) -> list[Message]:
        """The last messages, oldest first."""
        return [self._recent[id] for id in sorted(self._recent)[-RECENT_MESSAGES_MAX:]]

    def remember(self, messages: Iterable[Message]) -> None:
        """Add to the recent messages; one that is there already stays once."""
        for message in messages:
            self._recent[message.id] = message
        if len(self._recent) > 2 * RECENT_MESSAGES_MAX:
            self._recent = {message.id: message for message in self.recent}
