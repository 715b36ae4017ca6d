"""A call that waits no longer than it is told.

What to write: ``await self.call(dest, "lua", "get_user", 42, timeout=0.5)``. `Service.call` has a deadline always, the
callee drops what it did not start in time, and calls nested in it inherit what remains. `call_with_timeout` is the
tutorial's name for the same, its arguments in the tutorial's order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from skyloom.message.address import Address
    from skyloom.service.service import Service


def call_with_timeout(
    caller: Service, dest: Address, seconds: float, ptype: str | int, *args: object
) -> Coroutine[Any, Any, Any]:
    """``caller.call(dest, ptype, *args, timeout=seconds)``. Raises Expired when the time is over."""
    return caller.call(dest, ptype, *args, timeout=seconds)
