"""Tickets: what is taken once, what never, and what the holder is told."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyloom_gateway.auth import Denied, Identity, TicketAuthenticator, TicketKey, issue_ticket
from skyloom_gateway.auth.used_tickets import UsedTickets

PEER = "192.0.2.1:5000"
KEY = TicketKey("new", b"n" * 32)
OLD = TicketKey("old", b"o" * 40)
STRANGE = TicketKey("new", b"x" * 32)
NOW = 1_800_000_000.0
NOT_VALID = "the ticket is not valid; get a new one"


class Door:
    """An authenticator and its clock."""

    def __init__(self, *keys: TicketKey, **options: Any) -> None:
        self.time = NOW
        self.authenticator = TicketAuthenticator(keys or (KEY, OLD), "skyloom", lambda: self.time, **options)

    async def come(self, ticket: object) -> Identity:
        return await self.authenticator.authenticate({"scheme": "ticket", "ticket": ticket}, PEER)

    async def denial(self, ticket: object) -> Denied:
        with pytest.raises(Denied) as caught:
            await self.come(ticket)
        assert caught.value.message.isascii()
        return caught.value


def made(key: TicketKey = KEY, user: str = "ada", seconds: float = 60, **options: Any) -> str:
    return issue_ticket(key, user, **{"audience": "skyloom", "expires_at": NOW + seconds, **options})


def signed(content: object, key: TicketKey = KEY, version: str = "st1") -> str:
    """What a login server in another language makes; written from the description, without our code."""
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    head = f"{version}.{key.id}." + base64.urlsafe_b64encode(body).decode().rstrip("=")
    mac = hmac.new(key.secret, head.encode(), hashlib.sha256).digest()
    return head + "." + base64.urlsafe_b64encode(mac).decode().rstrip("=")


CONTENT = {"user": "ada", "aud": "skyloom", "exp": NOW + 60, "id": "0123456789abcdef"}


@pytest.mark.parametrize("key", [KEY, OLD])
async def test_a_ticket_lets_in_whom_it_names(key: TicketKey) -> None:
    identity = await Door().come(made(key, "Ada Löv", claims={"roles": ["admin"]}))
    assert identity == Identity("Ada Löv", {"roles": ["admin"]})


async def test_a_ticket_of_another_program_is_as_good() -> None:
    door = Door()
    assert await door.come(signed(CONTENT)) == Identity("ada")
    assert await door.come(signed({**CONTENT, "id": "another-one-of-them", "claims": {"a": 1}, "more": 2})) == Identity(
        "ada", {"a": 1}
    )


async def test_a_ticket_serves_once() -> None:
    door = Door()
    ticket = made()
    await door.come(ticket)
    for seconds in (0, 59, 5.9):
        door.time += seconds
        assert (await door.denial(ticket)).message == "the ticket was used before; get a new one"
    door.time += 0.1
    assert (await door.denial(ticket)).message == "the ticket has expired; get a new one"
    assert (await door.come(made(seconds=100))).user == "ada"
    assert len(door.authenticator.used) == 1  # the first one is forgotten


async def test_one_id_in_two_tickets_serves_once() -> None:
    door = Door()
    await door.come(made(id="0123456789abcdef"))
    assert "used before" in (await door.denial(made(user="bob", id="0123456789abcdef"))).message


@pytest.mark.parametrize(("seconds", "taken"), [(-4.9, True), (-5, False), (-60, False), (0, True)])
async def test_clocks_may_differ_a_little(seconds: float, taken: bool) -> None:
    door = Door()
    if taken:
        await door.come(made(seconds=seconds))
    else:
        assert "expired" in (await door.denial(made(seconds=seconds))).message


async def test_a_ticket_that_lives_too_long() -> None:
    door = Door(lifetime_seconds_max=100, skew_seconds=0)
    await door.come(made(seconds=100))
    assert (await door.denial(made(seconds=100.1))).detail.startswith("the ticket lives longer than")


WRONG = {
    "no text": (7, "no text"),
    "nothing": (None, "no text"),
    "a list": (["st1"], "no text"),
    "empty": ("", "no ticket, but other text|signed with no key"),
    "dots": ("...", "signed with no key"),
    "unknown key": (made(TicketKey("who", b"x" * 32)), "signed with no key"),
    "another's key of the same id": (made(STRANGE), "signed with no key"),
    "another version": (signed(CONTENT, version="st2"), "signed with no key"),
    "without a signature": (made().rpartition(".")[0] + ".", "signed with no key"),
    "other audience": (made(audience="other"), "another audience"),
    "audiences": (signed({**CONTENT, "aud": ["skyloom"]}), "another audience"),
    "no exp": (signed({**CONTENT, "exp": None}), "exp is no time"),
    "exp as text": (signed({**CONTENT, "exp": "1900000000"}), "exp is no time"),
    "exp true": (signed({**CONTENT, "exp": True}), "exp is no time"),
    "exp for ever": (signed(json.dumps(CONTENT).replace(str(NOW + 60), "1e999").encode()), "exp is no time"),
    "exp not a number": (signed({**CONTENT, "exp": float("nan")}), "exp is no time"),
    "exp enormous": (signed({**CONTENT, "exp": 10**400}), "exp is no time"),
    "no id": (signed({**CONTENT, "id": None}), "id is not"),
    "short id": (signed({**CONTENT, "id": "x" * 15}), "id is not"),
    "long id": (signed({**CONTENT, "id": "x" * 65}), "id is not"),
    "no user": (signed({**CONTENT, "user": None}), "user or claims"),
    "a user that reorders text": (signed({**CONTENT, "user": "a\u202eb"}), "user or claims"),
    "long user": (signed({**CONTENT, "user": "x" * 129}), "user or claims"),
    "claims in a list": (signed({**CONTENT, "claims": ["admin"]}), "user or claims"),
    "a list for content": (signed([1]), "no object"),
    "no JSON": (signed(b"{"), "no ticket"),
    "deep JSON": (signed(b"[" * 2000), "no ticket|no text"),
    "too long": ("st1.new." + "A" * 4000 + ".AAAA", "no text of at most 3072"),
    "not ASCII": ("st1.new.ä.é", "no ticket"),
    "half a character": ("st1.new.\ud800.AAAA", "no ticket"),
}


@pytest.mark.parametrize("name", WRONG)
async def test_what_is_no_ticket_is_told_no_more(name: str) -> None:
    ticket, detail = WRONG[name]
    denied = await Door().denial(ticket)
    assert denied.message == NOT_VALID
    assert any(part in denied.detail for part in detail.split("|")), denied.detail
    if isinstance(ticket, str) and len(ticket) > 3:
        assert ticket not in denied.detail


@pytest.mark.parametrize("secret", [b"", b"\0" * 32, b"nobody", b"None"])
async def test_an_unknown_key_is_no_key_that_one_could_guess(secret: bytes) -> None:
    head, _, _ = signed(CONTENT, TicketKey("nobody", b"x" * 32)).rpartition(".")
    mac = hmac.new(secret, head.encode(), hashlib.sha256).digest()
    forged = head + "." + base64.urlsafe_b64encode(mac).decode().rstrip("=")
    assert (await Door().denial(forged)).message == NOT_VALID


@given(st.integers(0, 10_000), st.integers(0, 7))
async def test_no_bit_of_a_ticket_can_be_changed(position: int, bit: int) -> None:
    ticket = made(id="0123456789abcdef")
    position %= len(ticket)
    changed = ticket[:position] + chr(ord(ticket[position]) ^ (1 << bit)) + ticket[position + 1 :]
    assert (await Door().denial(changed)).message == NOT_VALID


@pytest.mark.parametrize("last", string.ascii_letters + string.digits + "-_=+/ ")
async def test_one_ticket_has_one_form(last: str) -> None:
    """The last character of a signature has two bits to spare."""
    ticket = made(id="0123456789abcdef")
    if last != ticket[-1]:
        assert (await Door().denial(ticket[:-1] + last)).message == NOT_VALID
    assert (await Door().denial(ticket + last)).message == NOT_VALID


@given(st.text(max_size=200))
async def test_any_text_is_denied(text: str) -> None:
    for ticket in (text, f"st1.new.{text}", f"st1.new.{text}.AAAA"):
        assert (await Door().denial(ticket)).message == NOT_VALID


async def test_the_memory_of_used_tickets_is_bounded_and_forgets_none_early() -> None:
    door = Door(used_max=3)
    tickets = [made(seconds=seconds) for seconds in (10, 20, 30, 40)]
    for ticket in tickets[:3]:
        await door.come(ticket)
    denied = await door.denial(tickets[3])
    assert (denied.message, denied.detail) == (
        "too many tickets are in use; try again later",
        "ticket.used_max is reached",
    )
    door.time += 15
    await door.come(tickets[3])
    for ticket in tickets[1:]:
        assert "used before" in (await door.denial(ticket)).message
    assert len(door.authenticator.used) == 3


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 10)), max_size=60), st.integers(1, 8))
def test_used_tickets_are_a_set_with_an_end(steps: list[tuple[int, int]], tickets_max: int) -> None:
    used, model, now = UsedTickets(tickets_max), dict[str, float](), 0.0
    for step, life in steps:
        now += step / 2
        model = {id: until for id, until in model.items() if until > now}
        used.forget(now)
        assert used.full == (len(model) >= tickets_max)
        id = str(life % 6)
        assert (id in used) == (id in model)
        if used.full:
            with pytest.raises(OverflowError):
                used.add("more", now + life)
        elif id not in used:
            used.add(id, now + life)
            model[id] = now + life
        assert len(used) == len(model)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("secretsecretsecretsecretsecretsecret", "written ID:SECRET"),
        ("a b:" + "s" * 32, "id is 1 to 32"),
        (":" + "s" * 32, "id is 1 to 32"),
        ("a.b:" + "s" * 32, "id is 1 to 32"),
        ("a:" + "s" * 31, "has 31 bytes and needs 32: make one with `openssl rand -hex 32`"),
        ("a:", "has 0 bytes"),
    ],
)
def test_keys_that_are_none(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        TicketKey.parse(text)
    assert "ssss" not in str(caught.value)
    assert "secretsecret" not in str(caught.value)


def test_a_key_is_not_shown() -> None:
    assert "nnn" not in repr(TicketKey.parse("new:" + "n" * 32))
    assert TicketKey.parse(" new:" + "n" * 32 + "\n") == KEY


def test_keys_have_ids_of_their_own() -> None:
    for keys in ((), (KEY, STRANGE)):
        with pytest.raises(ValueError, match="at least one key, and each key an id of its own"):
            TicketAuthenticator(keys, "skyloom", lambda: NOW)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"user": ""}, "user must have 1 to 128"),
        ({"user": "a\nb"}, "user must have printable"),
        ({"claims": {"big": "x" * 3000}}, "over 3072: give it fewer claims"),
        ({"expires_at": float("inf")}, "JSON compliant|Out of range"),
    ],
)
def test_tickets_that_nobody_would_take_are_not_made(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        made(**options)


def test_no_two_tickets_are_the_same() -> None:
    assert made() != made()
