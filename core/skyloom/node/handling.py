"""Which handler a message starts, and with what."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any, Final

from skyloom.message.errors import Failed, NotExecuted
from skyloom.message.ptype import Ptype

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from skyloom.message.message import Message
    from skyloom.node.cell import Cell

_LUA, _QUEUE, _ERROR, _DEBUG = int(Ptype.LUA), int(Ptype.QUEUE), int(Ptype.ERROR), int(Ptype.DEBUG)

NAME_SHOWN_CHARS: Final = 64
"""Of the name of a method, in errors and in the log."""

NO_ANSWER: Final = "the handler ended without an answer"


class NotBegun(NotExecuted):
    """No handler could be started; told apart from a NotExecuted that a handler got from a call of its own."""


def begin(cell: Cell, message: Message) -> Coroutine[Any, Any, object]:
    """The coroutine that handles a message. Raises NotBegun when there is none to start."""
    ptype = message.ptype
    handlers = cell.handlers
    if handlers is not None and ptype in handlers:
        return _run_raw(handlers[ptype], message, () if ptype in cell.unopened else _unpack(cell, message))
    if ptype == _LUA:
        return _begin_rpc(cell, message)
    if ptype == _QUEUE:
        return _run_queued(cell, _begin_rpc(cell, message))
    if ptype == _ERROR and not message.session and cell.service._watches is not None:
        return cell.service._watches.down(message.source, str(_unpack(cell, message)[0]))
    if ptype == _DEBUG:
        from skyloom.node import debug  # only when asked for

        return debug.answer(cell, *_unpack(cell, message))
    name = cell.protocols[ptype].name if ptype in cell.protocols else str(ptype)
    raise NotBegun(
        f"{type(cell.service).__name__} has no handler for {name!r} messages",
        code="skyloom.no_handler",
        kind="unimplemented",
        retryable=False,
    )


def _begin_rpc(cell: Cell, message: Message) -> Coroutine[Any, Any, object]:
    payload = message.payload
    args = payload if type(payload) is tuple else _unpack(cell, message)
    name = args[0] if args else None
    method = cell.methods.get(name) if type(name) is str else None
    if method is None:
        raise NotBegun(
            f"{type(cell.service).__name__} has no @rpc method {_missing(cell, name)}",
            code="skyloom.no_method",
            kind="unimplemented",
            retryable=False,
        )
    try:
        return method(cell.service, *args[1:])
    except TypeError as error:  # binding the arguments failed: a coroutine's body has not begun here
        raise NotBegun(str(error), code="skyloom.bad_arguments", kind="invalid_argument", retryable=False) from None


def _missing(cell: Cell, name: object) -> str:
    """The name of a method that is not there, and what may be meant."""
    if not isinstance(name, str):
        return f"by this name: {type(name).__name__} is no text"
    shown = repr(name[:NAME_SHOWN_CHARS])
    if callable(getattr(cell.service, name, None)):
        return f"{shown}; mark its method of that name with @rpc"
    near = difflib.get_close_matches(name[:NAME_SHOWN_CHARS], cell.methods, n=1)
    return f"{shown}; did you mean {near[0]!r}?" if near else shown


def handled(cell: Cell, message: Message) -> str:
    """What a message asks for, for the log: its protocol, and the method or route."""
    protocol = cell.protocols.get(message.ptype)
    if protocol is None:
        return str(message.ptype)
    payload = message.payload
    if type(payload) is bytes and message.ptype in (_LUA, _QUEUE):
        try:
            payload = protocol.from_payload(payload)
        except ValueError:
            payload = ()
    first = payload[0] if payload and type(payload) is tuple else None
    return f"{protocol.name} {first[:NAME_SHOWN_CHARS]}" if isinstance(first, str) else protocol.name


def _unpack(cell: Cell, message: Message) -> tuple[Any, ...]:
    protocol = cell.protocols.get(message.ptype)
    if protocol is None:
        raise NotBegun(f"protocol {message.ptype} is not registered here", code="skyloom.no_handler", retryable=False)
    try:
        return protocol.from_payload(message.payload)
    except ValueError as error:
        raise NotBegun(str(error), code="skyloom.bad_payload", kind="invalid_argument", retryable=False) from None


async def _run_queued(cell: Cell, handler: Coroutine[Any, Any, object]) -> object:
    try:
        async with cell.service.queue_section:
            return await handler
    finally:
        handler.close()  # it has not begun when the wait for the section was cancelled


async def _run_raw(
    handler: Callable[..., Coroutine[Any, Any, object]], message: Message, args: tuple[Any, ...]
) -> object:
    answer = await handler(message.session, message.source, *args)
    if answer is None and message.session and not message.taken:
        raise Failed(NO_ANSWER, code="skyloom.no_answer")
    return answer
