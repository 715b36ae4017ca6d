"""Names for programs, out of names on the wire."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable


def pascal(text: str) -> str:
    """``Message-Output`` as ``MessageOutput``; a ``T`` goes before what cannot begin a name."""
    parts = [part for part in re.split(r"[^A-Za-z0-9]+", text) if part]
    name = "".join(part[0].upper() + part[1:] for part in parts)
    return name if name and not name[0].isdigit() else f"T{name}"


def snake(text: str) -> str:
    """``Chat.some-thing`` as ``Chat_some_thing``."""
    name = re.sub(r"[^A-Za-z0-9_]+", "_", text).lstrip("_") or "_"
    return f"n{name}" if name[0].isdigit() or name == "_" else name


def unique(wanted: str, taken: Collection[str]) -> str:
    """The name, with as many underscores after it as it takes to be none of those taken."""
    while wanted in taken:
        wanted += "_"
    return wanted


def type_names(keys: Iterable[str], reserved: Collection[str]) -> dict[str, str]:
    """A name for each of a contract's schemas: its own, and with its app before it where two apps have it.

    Args:
        keys: the schemas' keys, as "chat.Message".
        reserved: names that the language or the written file needs itself.
    """
    keys = sorted(keys)
    plain = {key: pascal(key.partition(".")[2]) for key in keys}
    shared = [name for name in plain.values() if list(plain.values()).count(name) > 1]
    names: dict[str, str] = {}
    for key in keys:
        wanted = pascal(key) if plain[key] in shared else plain[key]
        names[key] = unique(wanted, {*reserved, *names.values()})
    return names
