"""What the sagas of the tests have an effect on."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from skyloom import Failed


class SoldOut(Failed, code="test.sold_out", kind="failed_precondition"):
    """A refusal in the application's own words."""


@dataclass
class Order:
    id: str
    trail: list[str] = field(default_factory=list)


class World:
    """What the steps have an effect on; it outlives the services, as a database does."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.effects: dict[str, set[str]] = {}
        self.faults: dict[str, list[BaseException | float]] = {}
        self.after: set[str] = set()  # steps whose fault comes after their effect

    def step(self, name: str) -> Callable[[Order], Coroutine[Any, Any, Order]]:
        async def do(order: Order) -> Order:
            await self._act(name, lambda: self.effects.setdefault(order.id, set()).add(name))
            order.trail.append(name)
            return order

        return do

    def undo(self, name: str) -> Callable[[Order], Coroutine[Any, Any, None]]:
        async def undo(order: Order) -> None:
            await self._act(f"-{name}", lambda: self.effects.setdefault(order.id, set()).discard(name))

        return undo

    async def _act(self, name: str, effect: Callable[[], None]) -> None:
        self.log.append(name)
        faults = self.faults.get(name)
        fault = faults.pop(0) if faults else 0.0
        if fault == 0.0 or name in self.after:
            effect()
        if isinstance(fault, BaseException):
            raise fault
        await asyncio.sleep(fault)
        if fault:
            effect()
