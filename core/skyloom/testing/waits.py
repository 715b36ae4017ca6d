"""Who waits for whom: what a node can say about the calls and handlers that are not finished."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from skyloom.node.status import frames

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from skyloom.message.address import Address
    from skyloom.message.message import Message
    from skyloom.node.node import Node


def who_waits(nodes: Iterable[Node]) -> str:
    """One line for each call without an answer, each half-run handler and each full mailbox; "" if there is none."""
    nodes = list(nodes)
    titles = {address: cell.service.title for node in nodes for address, cell in node.cells.items()}
    return "\n".join(line for node in nodes for line in _lines(node, titles))


def _lines(node: Node, titles: dict[Address, str]) -> Iterator[str]:
    def title(address: Address) -> str:
        return titles.get(address, f"{address} (not alive)")

    for address, cell in node.cells.items():
        me = "the test" if cell.service is node._root else titles[address]
        for session, pending in (cell.pending or {}).items():
            yield f"  {me} waits for the answer of {title(pending.destination)} (session {session})"
        handled = [worker.message for worker in cell.workers or () if worker.message is not None]
        for worker in sorted(cell.workers or (), key=lambda worker: worker.message.session if worker.message else 0):
            if worker.message is not None:
                yield f"  {me} handles {_what(worker.message, title)}, {where(worker.generator)}"
        for message in cell.open or ():
            if message not in handled:
                yield f"  {me} has kept {_what(message, title)} to answer it later"
        if cell.mailbox:
            why = "" if cell.started else ", for it has not started"
            yield f"  {me} has {len(cell.mailbox)} messages waiting in its mailbox{why}"
        for name, coroutine in [(task.get_name(), task.get_coro()) for task in cell.tasks or ()]:
            yield f"  {me} runs {name}, {where(coroutine)}"


def _what(message: Message, title: Any) -> str:
    payload = message.payload
    named = isinstance(payload, tuple) and payload and isinstance(payload[0], str)
    return f"{payload[0] if named else 'a message'!r} of {title(message.source)}"


def where(running: Any) -> str:
    """Where the innermost coroutine waits, as far as Python code goes."""
    places = frames(running)
    return f"waiting in {places[-1]}" if places else "which has not begun"
