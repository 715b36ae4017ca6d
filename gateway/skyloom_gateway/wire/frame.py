"""The frames of protocol version 1, one class per kind; how they look as bytes is a codec's business."""

from dataclasses import dataclass
from enum import IntEnum
from typing import TypeVar, dataclass_transform

from skyloom_gateway.wire.codes import WireError

ID_MAX = 2**32 - 1
# The largest integer that every JSON reader, JavaScript's included, holds exactly.
SEQ_MAX = 2**53 - 1
ROUTE_CHARACTERS_MAX = 128


_Frame = TypeVar("_Frame")


@dataclass_transform(frozen_default=True)
def _hot(cls: type[_Frame]) -> type[_Frame]:
    """A dataclass frozen for type checkers only: at run time, freezing makes it 3 times as slow to build."""
    return dataclass(slots=True)(cls)


class Kind(IntEnum):
    """The kinds of frame. A msgpack frame begins with the number; a json `type` is the name, lower case."""

    HELLO = 0
    WELCOME = 1
    REQUEST = 2
    RESPONSE = 3
    ERROR = 4
    NOTIFY = 5
    PUSH = 6
    ACK = 7
    DRAIN = 8
    PING = 9
    PONG = 10


@dataclass(frozen=True, slots=True)
class Resume:
    """A client's wish to go on with a session: its id, the last welcome's key, and the last seq received."""

    session: str
    key: str
    seq: int


@dataclass(frozen=True, slots=True)
class Hello:
    """A client's first frame. `auth` is for the authenticator; `client` says what program it is, for logs."""

    auth: dict[str, object]
    client: dict[str, object] | None = None
    resume: Resume | None = None


@_hot
class Request:
    """Wants one answer under its id, a uint32.

    From a codec's `decode`, `body` is what that codec's `decode_body` takes: json's decoded value, which the
    receiver owns, or the msgpack bytes.
    """

    id: int
    route: str
    body: object


@_hot
class Notify:
    """Wants no answer. `body` as in `Request`."""

    route: str
    body: object


@dataclass(frozen=True, slots=True)
class Ack:
    """The client is done with all pushes up to `seq`; 0 means none."""

    seq: int


@dataclass(frozen=True, slots=True)
class Ping:
    """Asks for a pong."""


@dataclass(frozen=True, slots=True)
class Pong:
    """Answers a ping."""


@dataclass(frozen=True, slots=True)
class Welcome:
    """The answer to hello.

    Args:
        session: the session's id.
        key: the secret for one resume.
        user: who the authenticator says the client is.
        recovered: whether this goes on with an older session.
        heartbeat: seconds of silence after which the server pings, or None when not told.
        limits: what the server allows, by name.
        contract: a hash of the server's routes and bodies, or None when not told.
        fields: every field as it came, including those of later versions.
    """

    session: str
    key: str
    user: str
    recovered: bool
    heartbeat: float | None
    limits: dict[str, object]
    contract: str | None
    fields: dict[str, object]


@dataclass(frozen=True, slots=True)
class Response:
    """The answer to the request of this id, with its body decoded."""

    id: int
    body: object


@dataclass(frozen=True, slots=True)
class ErrorFrame:
    """The failure of the request of this id; id 0 is about the connection."""

    id: int
    error: WireError


@dataclass(frozen=True, slots=True)
class Push:
    """A message the client did not ask for, with its body decoded. `seq` counts a session's pushes from 1."""

    seq: int
    route: str
    body: object


@dataclass(frozen=True, slots=True)
class Drain:
    """The server is about to close; the client should connect again after `reconnect_in` seconds."""

    reason: str
    reconnect_in: float


ClientFrame = Hello | Request | Notify | Ack | Ping | Pong
ServerFrame = Welcome | Response | ErrorFrame | Push | Drain | Ping | Pong
