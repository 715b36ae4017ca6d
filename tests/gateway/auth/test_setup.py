"""From settings to authenticators, and what is said when that does not work."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from skyloom_gateway import AuthError, Identity, Server, Settings
from skyloom_gateway.auth import (
    Authenticator,
    GuestAuthenticator,
    JwtAuthenticator,
    TicketAuthenticator,
    TicketKey,
    issue_ticket,
    setup,
)
from skyloom_gateway.settings import GatewaySettings
from tests.gateway.cast import other

PEER = "192.0.2.1:5000"
NOW = 1_800_000_000.0
HEX = "0123456789abcdef" * 4


class Doorman:
    scheme = "door"
    development = False

    async def authenticate(self, auth: Mapping[str, object], peer: str) -> Identity:
        return Identity("ada")


doorman = Doorman()
stranger = 7


def make(sections: dict[str, Any]) -> list[Authenticator]:
    return setup.authenticators(Settings(**sections), random.Random(1), lambda: NOW)


def fault(sections: dict[str, Any]) -> str:
    with pytest.raises(AuthError) as caught:
        make(sections)
    assert HEX[:8] not in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_guests_are_the_default() -> None:
    (guest,) = make({})
    assert isinstance(guest, GuestAuthenticator)


async def test_all_kinds_in_the_order_given(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(HEX + "\n")
    made = make(
        {
            "gateway": {"authenticators": f"ticket, jwt, {__name__}:doorman, guest"},
            "ticket": {"keys": f"new:{HEX}, old:{HEX}0", "audience": "game"},
            "jwt": {"key_files": str(tmp_path / "secret"), "algorithms": "HS256", "audience": "game"},
        }
    )
    assert [type(each) for each in made] == [TicketAuthenticator, JwtAuthenticator, Doorman, GuestAuthenticator]
    key = TicketKey("old", (HEX + "0").encode())
    ticket = issue_ticket(key, "ada", audience="game", expires_at=NOW + 9)
    assert (await made[0].authenticate({"ticket": ticket}, PEER)).user == "ada"


async def test_keys_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(f"# made in November\n\nnew:{HEX}\nold:{HEX}0\n")
    (made,) = make({"gateway": {"authenticators": ["ticket"]}, "ticket": {"keys_file": file}})
    ticket = issue_ticket(TicketKey("old", f"{HEX}0".encode()), "ada", audience="skyloom", expires_at=NOW + 9)
    assert (await made.authenticate({"ticket": ticket}, PEER)).user == "ada"


TICKET = {"authenticators": ["ticket"]}
JWT = {"authenticators": ["jwt"]}


def test_what_is_wrong_with_tickets(tmp_path: Path) -> None:
    assert fault({"gateway": TICKET}).startswith("ticket.keys or ticket.keys_file: set one of them")
    both = {"keys": f"a:{HEX}", "keys_file": tmp_path}
    assert fault({"gateway": TICKET, "ticket": both}).startswith("ticket.keys or ticket.keys_file: set one of them")
    assert fault({"gateway": TICKET, "ticket": {"keys": HEX}}).startswith("ticket.keys, key 1: a ticket key is written")
    short = {"keys": f"a:{HEX},b:{HEX[:31]}"}
    assert "ticket.keys, key 2: a ticket key's secret has 31 bytes" in fault({"gateway": TICKET, "ticket": short})
    twice = {"keys": f"a:{HEX},a:{HEX}1"}
    assert "an id of its own" in fault({"gateway": TICKET, "ticket": twice})
    assert fault({"gateway": TICKET, "ticket": {"keys": " , "}}) == "ticket.keys: holds no key; write each as ID:SECRET"
    missing = {"keys_file": tmp_path / "no"}
    assert fault({"gateway": TICKET, "ticket": missing}).endswith("no cannot be read: No such file or directory")
    (tmp_path / "odd").write_bytes(b"\xff")
    assert "is not text in UTF-8" in fault({"gateway": TICKET, "ticket": {"keys_file": tmp_path / "odd"}})
    (tmp_path / "huge").write_bytes(b"x" * 70_000)
    assert "over 65536 bytes" in fault({"gateway": TICKET, "ticket": {"keys_file": tmp_path / "huge"}})


def test_what_is_wrong_with_tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "secret").write_text(HEX)
    right = {"key_files": [tmp_path / "secret"], "algorithms": ["HS256"], "audience": "game"}
    for name, nothing in (("key_files", ()), ("algorithms", ()), ("audience", None)):
        assert fault({"gateway": JWT, "jwt": {**right, name: nothing}}).startswith(f"jwt.{name}: set it")
    assert fault({"gateway": JWT, "jwt": {**right, "algorithms": ["none"]}}).startswith("jwt: algorithms must be")
    assert fault({"gateway": JWT, "jwt": {**right, "key_files": [tmp_path / "no"]}}).startswith("jwt.key_files: ")
    monkeypatch.setitem(__import__("sys").modules, "jwt", None)
    assert fault({"gateway": JWT, "jwt": right}) == (
        "jwt: needs more packages; install them with pip install 'skyloom[auth]'"
    )


def test_what_is_wrong_with_ones_own() -> None:
    def own(*names: str) -> dict[str, Any]:
        return {"gateway": {"authenticators": names}}

    assert "module 'no_such_module' cannot be imported" in fault(own("no_such_module:x"))
    what = "an object with scheme, development and authenticate; did you mean doorman?"
    assert fault(own(f"{__name__}:nobody")).endswith(f" has no 'nobody' that is {what}")
    assert fault(own(f"{__name__}:stranger")).endswith(f".stranger is an int, not {what}")
    assert fault(own(f"{__name__}:Doorman")).endswith(f".Doorman is the class Doorman, not {what}")
    assert fault(own("guest", "guest")) == "gateway.authenticators: two have the scheme guest; keep one of them"


def server(host: str, *authenticators: Authenticator, **gateway: object) -> Server:
    settings = Settings(gateway=GatewaySettings.model_validate({"host": host, **gateway}))
    return Server([other], settings, authenticators or None)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.5.5.5"])
def test_guests_come_in_from_this_machine(host: str) -> None:
    assert len(server(host).authenticators) == 1


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "game.example"])
def test_guests_from_elsewhere_must_be_allowed(host: str) -> None:
    with pytest.raises(AuthError) as caught:
        server(host)
    assert str(caught.value) == (
        f"guest: lets anybody in under any name, and {host} is reached from other machines; choose "
        "other authenticators (--set gateway.authenticators=ticket), or allow it with --allow-guests"
    )
    assert len(server(host, allow_guests=True).authenticators) == 1
    assert server(host, doorman).authenticators == (doorman,)
