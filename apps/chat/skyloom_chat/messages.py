"""What chat clients and the server say to each other: bodies of requests, answers and pushes.

The wire names and bounds are those of the client protocol (docs/reference/protocol.md). Fields that a model
does not know are ignored, so that a newer client may talk to an older server.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

from skyloom_gateway.push import Push

ROOM_NAME_CHARS_MAX = 64
ROOM_NAME_PATTERN = r"^[A-Za-z0-9_-]{1,64}$"
"""pydantic's own regular expressions have no `$` that matches before a line break at the end."""
TEXT_CHARS_MAX = 2_000
HISTORY_LIMIT_DEFAULT = 50
HISTORY_LIMIT_MAX = 1_000
MESSAGE_ID_MAX = 2**63 - 1


def _storable(text: str) -> str:
    """PostgreSQL stores every character but U+0000."""
    if "\0" in text:
        raise PydanticCustomError("text_null", "must not contain the character U+0000")
    return text


RoomName = Annotated[str, Field(pattern=ROOM_NAME_PATTERN, description="letters, digits, _ and -")]
Text = Annotated[str, Field(min_length=1, max_length=TEXT_CHARS_MAX), AfterValidator(_storable)]
MessageId = Annotated[int, Field(ge=1, le=MESSAGE_ID_MAX)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class Message(_Body):
    """A message of a room as it is stored. `time` is Unix time in seconds."""

    id: int
    room: str
    user: str
    text: str
    time: float


class CreateRoom(_Body):
    """Make a room. Whoever makes it has yet to join it."""

    room: RoomName


class RoomCreated(_Body):
    """The room that was made."""

    room: str


class Join(_Body):
    """Enter a room and get its pushes from now on."""

    room: RoomName


class Joined(_Body):
    """Who is in the room, the joiner included, and the last 50 messages, oldest first.

    Of more than the connection takes at once it has the latest members and the newest messages; `member_count` counts
    all members, `more` says whether there are older messages.
    """

    room: str
    members: list[str]
    history: list[Message]
    member_count: int
    more: bool


class Leave(_Body):
    """Leave a room; its pushes end."""

    room: RoomName


class Left(_Body):
    """The room is left."""


class Say(_Body):
    """Say something to everybody in a room."""

    room: RoomName
    text: Text


class Said(_Body):
    """The message is stored. `time` is Unix time in seconds."""

    id: int
    time: float


class HistoryQuery(_Body):
    """Read up to `limit` messages of a room, the newest ones, or those older than `before`."""

    room: RoomName
    before: MessageId | None = None
    limit: Annotated[int, Field(ge=1, le=HISTORY_LIMIT_MAX)] = HISTORY_LIMIT_DEFAULT


class Messages(_Body):
    """Messages of a room, oldest first; the newest ones when the connection does not take all at once.

    `more` says whether there are messages older than these.
    """

    messages: list[Message]
    more: bool


class RoomsQuery(_Body):
    """List the rooms and how many are in each."""


class Room(_Body):
    """A room and how many are in it."""

    room: str
    members: int


class Rooms(_Body):
    """All rooms."""

    rooms: list[Room]


class Typing(_Body):
    """Tell the others in a room that the user is writing something."""

    room: RoomName


class ChatMessage(Push, route="chat.message"):
    """Somebody else said something in a room."""

    id: int
    room: str
    user: str
    text: str
    time: float


class ChatJoined(Push, route="chat.joined"):
    """Somebody entered a room."""

    room: str
    user: str
    time: float


class ChatLeft(Push, route="chat.left"):
    """Somebody left a room."""

    room: str
    user: str
    time: float


class ChatReturned(Push, route="chat.returned"):
    """The receiver is in the room as before, but the chat had lost sight of it: join again for what it missed."""

    room: str


class ChatTyping(Push, route="chat.typing"):
    """Somebody else in the room is writing."""

    room: str
    user: str
