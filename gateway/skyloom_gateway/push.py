"""What a server sends its clients unasked, and to whom."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, NoReturn

from pydantic import BaseModel

from skyloom_gateway.wire import JSON, MSGPACK

if TYPE_CHECKING:
    from collections.abc import Iterable

    from skyloom import Address, Service


class Push(BaseModel):
    """The body of a push; a subclass names its route, and stands in its app's ``pushes``::

    class ChatMessage(Push, route="chat.message"):
        room: str
        text: str
    """

    route: ClassVar[str]
    declared: ClassVar[bool] = False
    """Whether an `App` has it among its `pushes`, and so the contract with the clients."""

    def __init_subclass__(cls, *, route: str | None = None, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if route is not None:
            cls.route = route
            cls.declared = False

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        kwargs.pop("route", None)
        super().__pydantic_init_subclass__(**kwargs)


class ClientRef(NamedTuple):
    """One client, as any service may keep it: a value that can be sent and compared.

    `gate` is the service that holds its connection, `session` its session's id, `encoding` "json" or "msgpack".
    """

    gate: Address
    session: str
    encoding: str


def refuse_undeclared(push: Push) -> NoReturn:
    """Raise TypeError: clients know nothing of this push."""
    name = type(push).__name__
    raise TypeError(f"push {name} ({push.route!r}) is in no app's contract: write App(..., pushes=[{name}])")


def fan_out(service: Service, clients: Iterable[ClientRef], push: Push) -> None:
    """Push one message to many clients: encoded once for each encoding, sent once to each gate.

    Pushes of one service reach each client in the order of these calls. Clients that are gone are passed over.
    Raises TypeError for a push that no `App` has among its `pushes`.
    """
    if not push.declared:
        refuse_undeclared(push)
    sessions: dict[Address, list[str]] = {}
    encodings = set()
    for gate, session, encoding in clients:
        encodings.add(encoding)
        if gate in sessions:
            sessions[gate].append(session)
        else:
            sessions[gate] = [session]
    as_json = JSON.encode_body(push) if "json" in encodings else None
    as_msgpack = MSGPACK.encode_body(push) if "msgpack" in encodings else None
    for gate, ids in sessions.items():
        service.send(gate, "client", push.route, as_json, as_msgpack, tuple(ids))
