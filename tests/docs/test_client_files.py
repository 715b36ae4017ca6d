"""The files of the JavaScript client that docs/howto/contract.md copies are all that it needs."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
STATIC = ROOT / "gateway" / "skyloom_gateway" / "static"


def needed(file: str) -> set[str]:
    """A module of the client and what it imports, from the static folder."""
    found = {file}
    for name in re.findall(r'from "(\./[^"]+)"', (STATIC / file).read_text(encoding="utf-8")):
        found |= needed((Path(file).parent / name).as_posix())
    return found


def test_the_page_copies_what_the_client_imports() -> None:
    page = (ROOT / "docs/howto/contract.md").read_text(encoding="utf-8")
    listed = re.search(r"for file in (.+); do", page)
    assert listed is not None
    assert set(listed[1].split()) == needed("skyloom.js") | {"skyloom.d.ts"}
