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
        self._clients: dict[str, int] = {}
        self._recent: dict[int, Message] = {}
        self._dropped = False

    # -- members ---------------------------------------------------------------------------------------------

    @property
    def users(self) -> list[str]:
        """Everybody in the room, each once, in the order in which they came."""
        return list(self._clients)

    @property
    def user_count(self) -> int:
        """How many users are in the room."""
        return len(self._clients)

    def enter(self, agent: Address, member: Member) -> bool:
        """Let a client in that is not a member yet. True when it is the first of its user."""
        self.members[agent] = member
        clients = self._clients.get(member.user, 0)
        self._clients[member.user] = clients + 1
        return clients == 0

    def leave(self, agent: Address) -> bool:
        """Let a member out. True when it was the last client of its user."""
        user = self.members.pop(agent).user
        self._clients[user] -= 1
        if self._clients[user]:
            return False
        del self._clients[user]
        return True

    def others(self, agent: Address) -> list[ClientRef]:
        """The clients of all members but that one."""
        return [member.client for address, member in self.members.items() if address != agent]

    # -- messages --------------------------------------------------------------------------------------------

    @property
    def recent(self) -> list[Message]:
        """The last messages, oldest first."""
        return [self._recent[id] for id in sorted(self._recent)[-RECENT_MESSAGES_MAX:]]

    @property
    def has_older(self) -> bool:
        """Whether there are messages before the recent ones."""
        return self._dropped or len(self._recent) > RECENT_MESSAGES_MAX

    def load(self, messages: Iterable[Message]) -> None:
        """Take the stored messages, one more than are recent, so that it is known whether there are older ones.

        Only the first time: from then on every message passes through here. A second reading may hold one that is
        stored but not yet sent round, which a member who joins now would get twice.
        """
        if not self.loaded:
            self.loaded = True
            self.remember(messages)

    def remember(self, messages: Iterable[Message]) -> None:
        """Add to the recent messages."""
        for message in messages:
            self._recent[message.id] = message
        if len(self._recent) > 2 * RECENT_MESSAGES_MAX:
            self._recent = {message.id: message for message in self.recent}
            self._dropped = True
