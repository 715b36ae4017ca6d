"""Points in time, as tokens and tickets write them."""

from __future__ import annotations

from typing import Final, TypeGuard

INSTANT_MAX: Final = 1e12  # the year 33658; a float holds no more seconds with their fractions anyhow


def is_instant(value: object) -> TypeGuard[float]:
    """Whether a value from JSON is a time in seconds since 1970: true and 1e999 are not."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < INSTANT_MAX
