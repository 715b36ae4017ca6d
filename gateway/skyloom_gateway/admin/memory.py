"""What the process holds of memory, and what collecting garbage has done."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Final

_STATUS: Final = Path("/proc/self/status")
_KIBIBYTE: Final = 1024


def memory() -> dict[str, object]:
    """Bytes of the process where the system tells (Linux), and the collector's counts by generation."""
    stats = gc.get_stats()
    return {
        **_process(),
        "gc_thresholds": list(gc.get_threshold()),
        "gc_waiting": list(gc.get_count()),
        "gc_collections": [generation["collections"] for generation in stats],
        "gc_collected": [generation["collected"] for generation in stats],
        "gc_uncollectable": [generation["uncollectable"] for generation in stats],
        "gc_frozen": gc.get_freeze_count(),
    }


def _process() -> dict[str, object]:
    try:
        lines = _STATUS.read_text().splitlines()
    except OSError:  # not Linux
        return {}
    values = dict(line.split(":", 1) for line in lines)
    return {
        name: int(values[key].split()[0]) * _KIBIBYTE
        for name, key in (("resident_bytes", "VmRSS"), ("resident_bytes_peak", "VmHWM"))
        if key in values
    }
