"""Database URLs: what is taken, and what is said about the others."""

import pytest

from skyloom.sql import DatabaseUrlError, normalise_url


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("sqlite:///a/b.db", "sqlite:///a/b.db"),
        ("sqlite:////a/b.db", "sqlite:////a/b.db"),
        ("sqlite://", "sqlite://"),
        ("postgres://u:p@h/d", "postgresql+asyncpg://u:p@h/d"),
        ("postgresql://u:p@h/d?sslmode=require", "postgresql+asyncpg://u:p@h/d?ssl=require"),
        ("postgresql+asyncpg://h/d", "postgresql+asyncpg://h/d"),
    ],
)
def test_urls_get_their_driver(url: str, expected: str) -> None:
    assert normalise_url(url).render_as_string(hide_password=False) == expected


@pytest.mark.parametrize(
    "url",
    [
        "",
        "nonsense",
        "mysql://u:secret@h/d",
        "sqlite://u:secret@chat.db",
        "postgresql://u:secret@h",
        "postgresql+psycopg://u:secret@h/d",
    ],
)
def test_urls_that_cannot_be_used_say_what_to_write(url: str) -> None:
    with pytest.raises(DatabaseUrlError, match="sqlite:///FILE") as caught:
        normalise_url(url)
    assert "secret" not in str(caught.value)


def test_a_missing_driver_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(DatabaseUrlError, match=r"pip install 'skyloom\[postgres\]'"):
        normalise_url("postgresql://h/d")
