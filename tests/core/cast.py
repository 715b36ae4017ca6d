"""Finding the Python object behind an address: what only a test may do."""

from typing import Any, TypeVar

from skyloom import Node, Service

S = TypeVar("S", bound=Service)


async def start(node: Node, cls: type[S], *args: Any) -> S:
    """Spawn a service and return the object itself."""
    service = node.cells[await node.spawn(cls, *args)].service
    assert isinstance(service, cls)
    return service
