"""Any value that a service may answer with, as JSON that a person can read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, Final

from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from skyloom import Address

DEPTH_MAX: Final = 32


def shown(value: Any, depth: int = DEPTH_MAX) -> Any:
    """Plain data: addresses as printed, dataclasses and models by their fields, what has no form as its text."""
    if depth <= 0:
        return "..."
    if isinstance(value, Address):
        return str(value)
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="python")
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: shown(getattr(value, field.name), depth - 1) for field in fields(value)}
    if isinstance(value, Mapping):
        return {
            key if isinstance(key, str) else str(shown(key, depth - 1)): shown(inner, depth - 1)
            for key, inner in value.items()
        }
    if isinstance(value, list | tuple | set | frozenset):
        return [shown(inner, depth - 1) for inner in value]
    if isinstance(value, bytes):
        return value.decode(errors="backslashreplace")
    return to_jsonable_python(value, fallback=str)
