"""How many clients are authenticated at once, and how often an address may be denied."""

from __future__ import annotations

import asyncio

import pytest

from skyloom_gateway.auth import Denied
from skyloom_gateway.logins import Logins, Refused

HERE = "192.0.2.7"


async def login(logins: Logins, address: str | None, error: Exception | None = None, seconds: float = 1.0) -> str:
    now = asyncio.get_running_loop().time()
    try:
        async with logins.turn(address, now):
            await asyncio.sleep(seconds)
            if error is not None:
                raise error
    except Refused as refused:
        return refused.error.code
    except (Denied, OSError) as failed:
        return type(failed).__name__
    return "in"


async def test_so_many_at_once_and_the_others_wait_in_line() -> None:
    logins = Logins(3, 100, 100)
    loop = asyncio.get_running_loop()
    began = loop.time()
    ends = []

    async def timed(number: int) -> None:
        assert await login(logins, f"192.0.2.{number}") == "in"
        ends.append((number, round(loop.time() - began)))

    await asyncio.gather(*map(timed, range(7)))
    assert ends == [(0, 1), (1, 1), (2, 1), (3, 2), (4, 2), (5, 2), (6, 3)]


async def test_one_address_cannot_take_every_turn() -> None:
    logins = Logins(64, 8, 100)
    found = await asyncio.gather(*(login(logins, HERE) for _ in range(20)), login(logins, "192.0.2.8"))
    assert found == ["in"] * 8 + ["gateway.too_many_logins"] * 12 + ["in"]
    assert await login(logins, HERE) == "in"
    assert logins._under_way == {}


async def test_who_is_counted_by_no_address_waits_like_all() -> None:
    logins = Logins(1, 1, 1)
    assert await asyncio.gather(*(login(logins, None, Denied("no")) for _ in range(5))) == ["Denied"] * 5


async def test_an_address_that_is_denied_again_and_again_is_not_looked_at() -> None:
    logins = Logins(64, 64, 3)
    denied = Denied("no")
    found = [await login(logins, HERE, denied, 0) for _ in range(5)]
    assert found == ["Denied"] * 3 + ["gateway.too_many_denials"] * 2
    assert await login(logins, HERE, None, 0) == "gateway.too_many_denials"
    assert await login(logins, "192.0.2.8", denied, 0) == "Denied"
    await asyncio.sleep(20.1)
    assert await login(logins, HERE, None, 0) == "in"
    assert await login(logins, HERE, denied, 0) == "Denied"
    assert await login(logins, HERE, denied, 0) == "gateway.too_many_denials"


async def test_denials_at_once_are_counted_while_they_are_looked_at() -> None:
    logins = Logins(64, 64, 3)
    found = await asyncio.gather(*(login(logins, HERE, Denied("no")) for _ in range(10)))
    assert found == ["Denied"] * 3 + ["gateway.too_many_denials"] * 7


@pytest.mark.parametrize("error", [None, OSError("the database is away")])
async def test_what_is_no_denial_does_not_count_as_one(error: Exception | None) -> None:
    logins = Logins(64, 64, 3)
    for _ in range(10):
        assert await login(logins, HERE, error, 0) in ("in", "OSError")


async def test_a_client_that_leaves_gives_its_turn_back() -> None:
    logins = Logins(1, 2, 3)
    first, second = (asyncio.create_task(login(logins, HERE)) for _ in range(2))
    await asyncio.sleep(0.1)
    first.cancel()
    second.cancel()
    await asyncio.wait([first, second])
    assert [*await asyncio.gather(login(logins, HERE), login(logins, HERE))] == ["in", "in"]
    assert logins._under_way == {}
