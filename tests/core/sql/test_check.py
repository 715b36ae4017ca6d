"""What `Database.check` sees before anything is opened."""

from __future__ import annotations

import builtins
import importlib
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import skyloom.sql
from skyloom.message.errors import CannotStart, PackageMissing
from skyloom.sql import Database, DatabaseNotOpened


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("nonsense", "is not a URL; write sqlite:///FILE"),
        ("mysql://u:secret@h/d", "begins with 'mysql'; write sqlite:///FILE"),
        ("postgresql://u:secret@h", "names no database"),
        ("sqlite:///file", "file is not a SQLite database; name another file"),
        ("sqlite:///folder", "folder cannot be written: Is a directory"),
        ("sqlite:///file/below.db", "file cannot be written: Not a directory"),
        ("sqlite:////proc/nowhere/x.db", "/proc cannot be written: "),
    ],
)
def test_what_cannot_work_is_said_with_its_remedy(here: Path, url: str, said: str) -> None:
    (here / "file").write_text("Dear diary")
    (here / "folder").mkdir()
    with pytest.raises(DatabaseNotOpened) as caught:
        Database.check(url)
    assert said in str(caught.value)
    assert "secret" not in str(caught.value)
    assert isinstance(caught.value, CannotStart)


def test_a_missing_driver_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(DatabaseNotOpened, match=r"pip install 'skyloom\[postgres\]'"):
        Database.check("postgresql://h/d")


def test_a_missing_sqlalchemy_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any) -> Any:
        if name == "sqlalchemy":
            raise ModuleNotFoundError("No module named 'sqlalchemy'", name=name)
        return real(name, *args)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(PackageMissing, match=r"needs sqlalchemy: pip install 'skyloom\[sql\]'"):
        importlib.reload(skyloom.sql)


@pytest.mark.parametrize(
    "url", ["sqlite://", "sqlite:///new.db", "sqlite:///new/deep/new.db", "sqlite:///old.db", "postgresql://nobody/d"]
)
def test_what_may_work_is_left_as_it_is(here: Path, url: str) -> None:
    with closing(sqlite3.connect("old.db")) as old:
        old.execute("CREATE TABLE t (x)")
    before = (here / "old.db").read_bytes()
    Database.check(url)
    assert [path.name for path in here.iterdir()] == ["old.db"]
    assert (here / "old.db").read_bytes() == before
