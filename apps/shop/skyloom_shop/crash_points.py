"""Places where a crash would hurt most, each with a name, so that tests can crash there.

``reach("order.after_charge")`` does nothing unless the point is armed: by the environment variable `CRASH_AT`, as
``order.after_charge`` or ``order.after_charge:3`` for the third time, which ends the process as ``kill -9`` does; or by
`armed`, which calls what a simulator gives it.
"""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CRASH_AT: Final = "SHOP_CRASH_AT"
"""Without the prefix of the settings: a gateway refuses a setting that it does not know."""

POINTS: Final = (
    # An order is written, and each of its steps is: before and after the save.
    "order.before_create",
    "order.after_create",
    "order.before_save",
    "order.after_save",
    # Around each call of a step to another service.
    "order.before_reserve",
    "order.after_reserve",
    "order.before_charge",
    "order.after_charge",
    "order.before_confirm",
    "order.after_confirm",
    "order.before_refund",
    "order.after_refund",
    "order.before_release",
    "order.after_release",
    # Inside a transaction, when all is written and nothing committed; and after the commit, before the answer.
    "order.in_create",
    "order.in_save",
    "stock.in_hold",
    "stock.after_hold",
    "stock.in_confirm",
    "stock.after_confirm",
    "stock.in_release",
    "stock.after_release",
    "ledger.in_charge",
    "ledger.after_charge",
    "ledger.in_refund",
    "ledger.after_refund",
    # Around what happens outside of the database.
    "provider.before_charge",
    "provider.after_charge",
    "provider.before_refund",
    "provider.after_refund",
    "relay.before_publish",
    "relay.after_publish",
    "sweep.before_resume",
)
"""All names; a test compares them with the source."""

_hook: Callable[[str], object] | None = None


def reach(name: str) -> None:
    """Say that a point is reached."""
    if _hook is not None:
        _hook(name)


@contextmanager
def armed(hook: Callable[[str], object]) -> Iterator[None]:
    """Have ``hook(name)`` called at every point that is reached. For one loop at a time."""
    global _hook  # noqa: PLW0603 - a point that is off must cost nothing
    before, _hook = _hook, hook
    try:
        yield
    finally:
        _hook = before


def _kill_at(wish: str) -> Callable[[str], None]:
    name, _, times = wish.partition(":")
    if name not in POINTS:
        raise ValueError(f"{CRASH_AT}: there is no crash point {name!r}; there are: {', '.join(POINTS)}")
    left = int(times or 1)

    def hook(reached: str) -> None:
        nonlocal left
        if reached == name:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    return hook


if CRASH_AT in os.environ:
    _hook = _kill_at(os.environ[CRASH_AT])
