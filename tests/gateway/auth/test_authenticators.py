"""Authenticators: who may come in, and what the others are told."""

import random
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyloom_gateway.auth import Authenticator, Denied, GuestAuthenticator, Identity, authenticate

PEER = "127.0.0.1:5000"


class TicketAuthenticator:
    scheme = "ticket"
    development = False

    async def authenticate(self, auth: Mapping[str, object], peer: str) -> Identity:
        if auth.get("ticket") != "good":
            raise Denied("the ticket is not valid; get a new one")
        return Identity("ada", {"peer": peer})


def guests(seed: int = 1) -> GuestAuthenticator:
    return GuestAuthenticator(random.Random(seed))


@pytest.mark.parametrize("name", ["a", "ada", "Ada Lovelace", "Адa", "爱达", "🎲", "x" * 64, "<b>", "0"])
async def test_a_guest_is_called_what_it_says(name: str) -> None:
    assert await guests().authenticate({"scheme": "guest", "name": name}, PEER) == Identity(name)


@pytest.mark.parametrize("auth", [{"scheme": "guest"}, {"scheme": "guest", "name": None}])
async def test_a_guest_without_a_name_gets_one_from_the_seed(auth: Mapping[str, object]) -> None:
    first = (await guests(1).authenticate(auth, PEER)).user
    assert first == (await guests(1).authenticate(auth, PEER)).user
    assert first != (await guests(2).authenticate(auth, PEER)).user
    assert first.startswith("guest-")
    assert len(first) == 12
    assert first[6:].isalpha()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("", "1 to 64"),
        ("x" * 65, "1 to 64"),
        (" ada", "blank"),
        ("ada ", "blank"),
        (" ", "blank"),
        ("a\nb", "printable"),
        ("a\0b", "printable"),
        ("a\x1b[31m", "printable"),
        ("a\u202eb", "printable"),
        ("a\u2028b", "printable"),
        ("a\u00a0", "printable"),
        ("\ud800", "printable"),
        (5, "text"),
        (["ada"], "text"),
        ({"a": {}}, "text"),
        (True, "text"),
    ],
)
async def test_names_that_a_guest_may_not_have(name: object, said: str) -> None:
    with pytest.raises(Denied, match=said) as caught:
        await guests().authenticate({"scheme": "guest", "name": name}, PEER)
    assert caught.value.message == str(caught.value)


@given(st.text(max_size=70))
async def test_a_name_is_taken_as_it_is_or_denied(name: str) -> None:
    fits = name.isprintable() and 1 <= len(name) <= 64 and name == name.strip()
    if fits:
        assert (await guests().authenticate({"name": name}, PEER)).user == name
    else:
        with pytest.raises(Denied) as caught:
            await guests().authenticate({"name": name}, PEER)
        assert caught.value.message.isprintable()


async def test_the_scheme_chooses_the_authenticator() -> None:
    both: list[Authenticator] = [guests(), TicketAuthenticator()]
    assert (await authenticate(both, {"scheme": "guest", "name": "bob"}, PEER)).user == "bob"
    identity = await authenticate(both, {"scheme": "ticket", "ticket": "good"}, PEER)
    assert identity == Identity("ada", {"peer": PEER})
    with pytest.raises(Denied, match="get a new one"):
        await authenticate(both, {"scheme": "ticket", "ticket": "bad"}, PEER)


@pytest.mark.parametrize("scheme", ["jwt", "GUEST", "", 5, [], {}, True])
async def test_an_unknown_scheme_is_told_which_there_are(scheme: object) -> None:
    with pytest.raises(Denied) as caught:
        await authenticate([TicketAuthenticator(), guests()], {"scheme": scheme}, PEER)
    assert caught.value.message == "auth.scheme is not one of this server's; on offer: guest, ticket"


async def test_a_missing_scheme_is_told_so() -> None:
    with pytest.raises(Denied, match="auth.scheme is missing; on offer: guest"):
        await authenticate([guests()], {"name": "ada"}, PEER)


async def test_a_bug_in_an_authenticator_is_not_a_denial() -> None:
    class Broken(TicketAuthenticator):
        async def authenticate(self, auth: Mapping[str, object], peer: str) -> Identity:
            raise KeyError("ticket")

    with pytest.raises(KeyError):
        await authenticate([Broken()], {"scheme": "ticket"}, PEER)


def test_only_guests_are_for_development() -> None:
    assert guests().development
    assert not TicketAuthenticator().development


def test_claims_of_one_identity_are_not_shared_with_another() -> None:
    with pytest.raises(TypeError):
        Identity("ada").claims["role"] = "admin"  # type: ignore[index]  # the point of the test
