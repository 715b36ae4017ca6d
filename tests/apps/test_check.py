"""`skyloom check` of the apps that come with Skyloom."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from skyloom_gateway.cli import main


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("mysql://h/d", "cannot start: the database URL begins with 'mysql'; write sqlite:///FILE"),
        ("sqlite:////proc/nowhere/x.db", "cannot start: /proc cannot be written"),
    ],
)
@pytest.mark.parametrize(("app", "service"), [("skyloom_chat:app", "CHAT_HUB"), ("skyloom_shop:app", "SHOP_DATABASE")])
def test_a_database_that_cannot_work(
    app: str, service: str, url: str, said: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(main, ["check", app, "--database", url])
    assert done.exit_code == 2
    assert f"{service} {said}" in done.stderr
    assert done.stderr.count("\n") == 1
    assert CliRunner().invoke(main, ["check", app, "--database", "sqlite:///new.db"]).exit_code == 0
