"""The authenticator of docs/howto/authentication.md refuses what it should, and is found by its name."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from docs.examples.own_authenticator import app, authenticator
from skyloom.testing import Sim
from skyloom_gateway.cli import main
from skyloom_gateway.client import HelloRefused
from skyloom_gateway.testing import TestGateway

SPEC = "docs.examples.own_authenticator"


@pytest.mark.sim(seeds=1)
async def test_who_comes_in(sim: Sim) -> None:
    async with TestGateway(sim, app, authenticators=[authenticator]) as gateway:
        ada = await gateway.connect("ada", auth={"scheme": "token", "token": "ada's token"})
        assert await ada.request("club.who_am_i") == {"user": "ada", "roles": ["admin"]}
        for token, code, said in (
            ("eve's token", "gateway.forbidden", "you are banned"),
            ("bob's token", "gateway.unauthenticated", "log in again"),
            ("x" * 257, "gateway.unauthenticated", "at most 256 characters"),
            (["ada's token"], "gateway.unauthenticated", "must be text"),
            (None, "gateway.unauthenticated", "must be text"),
        ):
            with pytest.raises(HelloRefused, match=said) as caught:
                await gateway.connect("x", auth={"scheme": "token", "token": token})
            assert caught.value.code == code


def test_it_is_named_in_the_settings() -> None:
    done = CliRunner().invoke(
        main, ["check", f"{SPEC}:app", "--set", f"gateway.authenticators={SPEC}:authenticator", "--host", "0.0.0.0"]
    )
    assert done.exit_code == 0, done.stderr
