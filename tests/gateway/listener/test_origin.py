"""Which web pages may connect."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyloom_gateway.listener.origin import STRANGE_HOST, STRANGE_ORIGIN, TWO_ORIGINS, normal, refusal, same_origin

APP = ("https://app.example",)
LOOPBACK = "127.0.0.1:8000"

# origins, on loopback, the request's Host and Origin, and why it is refused
CASES = [
    # no browser
    (None, False, "game.example", None, None),
    (None, True, LOOPBACK, None, None),
    (None, True, None, None, None),
    ((), True, LOOPBACK, None, None),
    # on loopback: the pages of this machine
    (None, True, LOOPBACK, "http://127.0.0.1:8000", None),
    (None, True, LOOPBACK, "http://localhost:5173", None),
    (None, True, "localhost:8000", "https://LOCALHOST", None),
    (None, True, "game.localhost:8000", "http://game.localhost:8000", None),
    (None, True, "[::1]:8000", "http://[::1]:8000", None),
    (None, True, "mymachine:8000", "http://mymachine:8000", None),
    (None, True, LOOPBACK, "http://mymachine:8000", STRANGE_ORIGIN),
    (None, True, LOOPBACK, "https://elsewhere.example", STRANGE_ORIGIN),
    (None, True, LOOPBACK, "http://127.0.0.1.evil.example", STRANGE_ORIGIN),
    (None, True, LOOPBACK, "http://localhost.evil.example", STRANGE_ORIGIN),
    (None, True, LOOPBACK, "http://localhost@evil.example", STRANGE_ORIGIN),
    (None, True, LOOPBACK, "file://localhost", STRANGE_ORIGIN),
    (None, True, LOOPBACK, "http://localhost/", STRANGE_ORIGIN),
    (None, True, LOOPBACK, "null", STRANGE_ORIGIN),
    (None, True, LOOPBACK, "", STRANGE_ORIGIN),
    # DNS rebinding: the page's own name points here
    (None, True, "evil.example:8000", "http://evil.example:8000", STRANGE_HOST),
    (None, True, "evil.example:8000", None, STRANGE_HOST),
    (None, True, "evil.example.", "http://localhost:8000", STRANGE_HOST),
    (None, True, "127.0.0.1.evil.example", None, STRANGE_HOST),
    (None, True, "localhost.evil.example", None, STRANGE_HOST),
    (APP, True, "evil.example", "https://app.example", STRANGE_HOST),
    # behind a proxy of this machine
    (APP, True, "app.example", "https://app.example", None),
    (APP, True, "APP.example:443", "https://app.example", None),
    (APP, True, LOOPBACK, "https://app.example", None),
    # an allowlist is all of it
    (APP, True, LOOPBACK, "http://127.0.0.1:8000", STRANGE_ORIGIN),
    ((), True, LOOPBACK, "http://localhost:8000", STRANGE_ORIGIN),
    # for all: nothing without an allowlist, the page's own included
    (None, False, "game.example", "https://game.example", STRANGE_ORIGIN),
    (None, False, "127.0.0.1:8000", "http://127.0.0.1:8000", STRANGE_ORIGIN),
    (None, False, "localhost:8000", "http://localhost:8000", STRANGE_ORIGIN),
    (APP, False, "whatever.example", "https://app.example", None),
    (APP, False, "app.example", "https://App.example:443", None),
    (("HTTPS://App.Example:443",), False, "app.example", "https://app.example", None),
    (APP, False, "app.example", "http://app.example", STRANGE_ORIGIN),
    (APP, False, "app.example", "https://app.example:8443", STRANGE_ORIGIN),
    (APP, False, "app.example", "https://app.example.evil", STRANGE_ORIGIN),
    (APP, False, "app.example", "https://evilapp.example", STRANGE_ORIGIN),
    (APP, False, "app.example", "https://game.example", STRANGE_ORIGIN),
    (("null",), True, LOOPBACK, "null", None),
]


@pytest.mark.parametrize(("origins", "on_loopback", "host", "origin", "why"), CASES)
def test_origins_and_hosts(
    origins: tuple[str, ...] | None, on_loopback: bool, host: str | None, origin: str | None, why: str | None
) -> None:
    offered = () if origin is None else (origin,)
    hosts = () if host is None else (host,)
    assert refusal(offered, hosts, origins, on_loopback=on_loopback) == why


def test_a_header_that_stands_there_twice() -> None:
    twice = ("http://localhost", "http://localhost")
    assert refusal(twice, (LOOPBACK,), None, on_loopback=True) == TWO_ORIGINS
    assert refusal((), (LOOPBACK, LOOPBACK), None, on_loopback=True) == TWO_ORIGINS


@given(st.text(max_size=40), st.text(max_size=40))
def test_only_a_name_on_the_list_comes_in_from_elsewhere(origin: str, host: str) -> None:
    welcome = refusal((origin,), (host,), APP, on_loopback=False) is None
    assert welcome == (normal(origin) == APP[0])


@given(st.from_regex(r"[a-z]{1,8}(\.[a-z]{1,8}){1,3}", fullmatch=True))
def test_no_public_name_is_taken_for_this_machine(name: str) -> None:
    if not name.endswith(".localhost"):
        assert refusal((f"http://{name}:8000",), (f"{name}:8000",), None, on_loopback=True) == STRANGE_HOST
        assert refusal((f"http://{name}:8000",), (LOOPBACK,), None, on_loopback=True) == STRANGE_ORIGIN


@pytest.mark.parametrize(
    ("origin", "host", "same"),
    [
        ("https://game.example", "game.example", True),
        ("https://game.example", "game.example:443", True),
        ("http://GAME.example:80", "game.example", True),
        ("http://game.example", "game.example:8000", False),
        ("http://[::1]:8000", "[::1]:8000", True),
        ("http://[::1]", "[::1]", True),
        ("file://", "", False),
        ("file://game.example", "game.example", False),
        ("https://game.example", None, False),
    ],
)
def test_same_origin(origin: str, host: str | None, same: bool) -> None:
    assert same_origin(origin, host) is same
