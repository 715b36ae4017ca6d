"""How a client's connection is doing."""

from dataclasses import dataclass
from typing import Literal

State = Literal["connecting", "connected", "suspended", "closed"]


@dataclass(frozen=True, slots=True)
class Status:
    """What a client tells of its connection.

    Args:
        state: "connecting" until the first welcome, "connected", "suspended" while the client tries to come back, and
            "closed" for good.
        reason: why it is so, for people; empty while connected.
        code: the close code of the connection that was lost, None when it broke without one.
        retry_in: seconds until the next attempt, None while one is under way and in the other states.
    """

    state: State
    reason: str = ""
    code: int | None = None
    retry_in: float | None = None


@dataclass(frozen=True, slots=True)
class Session:
    """A client came back.

    Args:
        id: the session, as in the gateway's log.
        user: who the gateway takes the client for.
        recovered: True when it is the same session as before, with nothing lost. False when a new one began, which
            knows nothing of the old: rooms have to be joined again, lists loaded again.
    """

    id: str
    user: str
    recovered: bool
