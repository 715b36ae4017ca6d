"""DEBUG messages: how a console asks services and nodes what goes on in them (skynet's debug console).

A service answers for itself what its `on_info` says::

    await self.call(address, "debug", "info")

and what the runtime knows of it, its node's root tells. That has handle 1 and never much to do, so that a service which
hangs is described like the others; and what a service is asked, and so is in a recording of it, it answers alike in
every replay::

    root = Address("game-2", ROOT_HANDLE)
    await self.call(root, "debug", "node")  # a NodeStatus
    await self.call(root, "debug", "list", "Chat", 100)  # the ServiceStatus of those whose class or name has "Chat"
    await self.call(root, "debug", "stat", 42)  # that of the service of handle 42
    await self.call(root, "debug", "task", 42)  # where its handlers wait: a list of Stack
    await self.call(root, "debug", "names")  # (name, address) of all names of the node
    await self.call(root, "debug", "letters", 10)  # the newest dead letters, the newest last

A service that dispatches "debug" itself answers for itself. Source: skynet's lualib/skynet/debug.lua.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from skyloom.message.address import Address
from skyloom.message.errors import Failed
from skyloom.node.status import ServiceStatus, Stack, node_status, service_status, stacks

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from skyloom.node.cell import Cell
    from skyloom.node.dead_letters import DeadLetter

ROOT_HANDLE: Final = 1
"""The handle of every node's first service, in whose name the outside world calls."""

LISTED_MAX: Final = 1_000
"""Services, names or letters in one answer."""


class NotKnown(Failed, code="skyloom.not_known", kind="invalid_argument"):
    """A DEBUG message asks for what there is not: no such word, or no such service."""


async def answer(cell: Cell, word: object = None, *args: Any) -> Any:
    """Answer a DEBUG message to a service. Raises NotKnown."""
    if word == "info" and not args:
        return await cell.service.on_info()
    about = _OF_THE_ROOT.get(word) if isinstance(word, str) else None
    if about is None:
        raise NotKnown(f"debug: the words are info, and for a node's root {', '.join(_OF_THE_ROOT)}")
    if cell.address.handle != ROOT_HANDLE:
        raise NotKnown(f"debug {word}: ask the node's root, {Address(cell.address.node, ROOT_HANDLE)}")
    try:
        return about(cell, *args)
    except TypeError:
        raise NotKnown(f"debug {word}: the arguments do not fit") from None


def _list(cell: Cell, word: str = "", count: int = LISTED_MAX) -> list[ServiceStatus]:
    found: list[ServiceStatus] = []
    names = cell.node.names
    for other in cell.node.cells.values():
        if len(found) >= min(count, LISTED_MAX):
            break
        if word in type(other.service).__name__ or any(word in name for name in names.of(other.address)):
            found.append(service_status(other))
    return found


def _stat(cell: Cell, handle: int) -> ServiceStatus:
    return service_status(_of_handle(cell, handle))


def _task(cell: Cell, handle: int) -> list[Stack]:
    return stacks(_of_handle(cell, handle))[:LISTED_MAX]


def _of_handle(cell: Cell, handle: int) -> Cell:
    address = Address(cell.node.name, handle)
    found = cell.node.cells.get(address)
    if found is None:
        raise NotKnown(f"no service at {address}")
    return found


def _names(cell: Cell) -> list[tuple[str, Address]]:
    return sorted(cell.node.names)[:LISTED_MAX]


def _letters(cell: Cell, count: int) -> list[DeadLetter]:
    return list(cell.node.dead_letters)[-count:] if count > 0 else []


_OF_THE_ROOT: Final[Mapping[str, Callable[..., Any]]] = {
    "node": lambda cell: node_status(cell.node),
    "list": _list,
    "stat": _stat,
    "task": _task,
    "names": _names,
    "letters": _letters,
}
