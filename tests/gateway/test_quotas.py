"""What the sessions of one user, and the clients of one address, may do together."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest
from structlog.testing import capture_logs

from skyloom import Node
from skyloom_gateway import Denied, Identity
from skyloom_gateway.quotas import Quotas
from skyloom_gateway.settings import GatewaySettings
from skyloom_gateway.wire.frame import ErrorFrame, Response, ServerFrame, Welcome
from tests.gateway.players import Player, World, open_gate

HERE, THERE = "192.0.2.7:5", "192.0.2.8:5"
SETTINGS = GatewaySettings(
    sessions_per_user=3,
    messages_per_second_per_user=20,
    messages_burst_per_user=40,
    messages_per_second_per_address=50,
    messages_burst_per_address=80,
    logins=4,
    logins_per_address=2,
    denials_per_minute_per_address=5,
)


class Doorkeeper:
    """Believes what the hello says, after a second; knows "eve"."""

    scheme = "door"
    development = False
    at_once = most = 0

    async def authenticate(self, auth: Mapping[str, object], peer: str) -> Identity:
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        try:
            await asyncio.sleep(1)
        finally:
            self.at_once -= 1
        if auth["name"] == "eve":
            raise Denied("not you")
        return Identity(str(auth["name"]))


@pytest.fixture
def doorkeeper() -> Doorkeeper:
    return Doorkeeper()


@pytest.fixture
async def door(gate_node: Node, doorkeeper: Doorkeeper) -> World:
    return await open_gate(gate_node, authenticators=[doorkeeper], settings=SETTINGS)


@pytest.fixture
async def guests(gate_node: Node) -> World:
    return await open_gate(gate_node, settings=SETTINGS)


def knock(world: World, name: str, peer: str = HERE, transport: str = "tcp") -> Player:
    player = world.player(transport)
    player.link.peer = peer
    player.hello(name, scheme="door")
    return player


async def come_in(world: World, name: str, peer: str = HERE, transport: str = "tcp") -> Player:
    player = knock(world, name, peer, transport)
    (welcome,) = await player.frames(2)
    assert isinstance(welcome, Welcome), welcome
    return player


def codes(frames: list[ServerFrame]) -> list[str]:
    return [frame.error.code for frame in frames if isinstance(frame, ErrorFrame)]


async def answered(players: list[Player], count: int) -> int:
    """Have each send `count` requests in turn; how many were answered, the others having been told why not."""
    for _ in range(count):
        for player in players:
            player.request("echo.nothing")
    total = 0
    for player in players:
        frames = await player.frames(0.2)
        assert len(frames) == count
        assert set(codes(frames)) <= {"gateway.rate_limited"}
        total += sum(isinstance(frame, Response) for frame in frames)
    return total


async def test_sessions_of_a_user_share_a_rate(door: World) -> None:
    ada = [await come_in(door, "ada", f"192.0.2.{n}:1") for n in range(3)]
    assert 40 - 3 * 7 <= await answered(ada, 30) <= 40
    bob = await come_in(door, "bob", "192.0.2.0:1")
    assert await answered([bob], 30) == 30
    await asyncio.sleep(1)  # 20 more for ada
    assert 8 <= await answered(ada, 30) <= 40


async def test_a_new_session_does_not_fill_the_bucket_up(door: World) -> None:
    ada = await come_in(door, "ada")
    assert await answered([ada], 40) == 40
    ada.link.lose(1000, "bye")
    again = await come_in(door, "ada", THERE)  # two seconds on: 40 more came in, of which no more than the burst
    assert await answered([again], 60) <= 40


async def test_clients_of_an_address_share_a_rate(guests: World) -> None:
    """Guests too, whatever they call themselves."""
    crowd = [await guests.guest(f"guest{n}") for n in range(5)]
    assert 80 - 5 * 7 <= await answered(crowd, 30) <= 80
    other = guests.player()
    other.link.peer = THERE
    await other.greet("guest0")
    assert await answered([other], 30) == 30


async def test_an_address_that_goes_on_over_the_rate_is_closed(guests: World) -> None:
    crowd = [await guests.guest(f"guest{n}") for n in range(5)]
    for _ in range(150):
        for player in crowd:
            player.request("echo.nothing")
    assert [player.close_code for player in crowd] == [4429] * 5


async def test_this_machine_is_exempt_unless_told_otherwise(gate_node: Node) -> None:
    world = await open_gate(gate_node, settings=SETTINGS)

    async def crowd() -> int:
        players = [world.player() for _ in range(4)]
        for player in players:
            player.link.peer = "[::1]:5"
            await player.greet()
        return await answered(players, 50)

    assert await crowd() == 200
    settings = SETTINGS.model_copy(update={"loopback_exempt": False})
    world.gate.quotas = Quotas(settings, world.gate.authenticators)
    assert await crowd() <= 80


async def test_a_guests_name_is_nobodys_share(guests: World) -> None:
    """Or anybody could use it up."""
    mallory = [guests.player() for _ in range(6)]
    for n, player in enumerate(mallory):
        player.link.peer = f"198.51.100.{n}:1"
        await player.greet("ada")
    assert await answered(mallory, 50) == 300


@pytest.mark.parametrize("transport", ["websocket-json", "tcp"])
async def test_sessions_of_a_user_are_bounded(door: World, transport: str) -> None:
    ada = [await come_in(door, "ada", transport=transport) for _ in range(3)]
    fourth = knock(door, "ada", transport=transport)
    fourth.request("echo.nothing")  # too early, and now for nothing
    with capture_logs() as logs:
        (error,) = await fourth.frames(2)
    assert [line for line in logs if line["log_level"] == "error"] == []
    assert isinstance(error, ErrorFrame)
    assert (error.id, error.error.code, error.error.retryable) == (0, "gateway.too_many_sessions", True)
    assert fourth.close_code == 4429
    assert len(door.gate.sessions) == 3
    assert isinstance((await (await come_in(door, "bob")).frames()), list)
    ada[0].link.lose(1000, "bye")
    await come_in(door, "ada")
    assert door.gate.quotas._seats["ada"].keys() < door.gate.sessions.keys()


async def test_a_session_whose_client_is_away_makes_room(door: World) -> None:
    first, second, third = [await come_in(door, "ada") for _ in range(3)]
    second.link.lose(1006, "gone")
    await asyncio.sleep(0.1)
    away = next(iter(door.gate.suspended))
    await come_in(door, "ada")
    assert away not in door.gate.sessions
    assert len(door.gate.sessions) == 3
    assert (first.close_code, third.close_code) == (None, None)


async def test_no_trace_is_left_of_users_who_are_gone(door: World) -> None:
    for n in range(5):
        player = await come_in(door, f"user{n}")
        player.link.lose(1000, "bye")
    await asyncio.sleep(1)
    assert door.gate.quotas._seats == {}
    assert door.gate.quotas.logins._under_way == {}


async def test_a_login_storm_waits_in_line(door: World, doorkeeper: Doorkeeper) -> None:
    storm = [knock(door, f"user{n}", f"192.0.2.{n}:1") for n in range(12)]
    await asyncio.sleep(3.5)
    assert doorkeeper.most == 4
    assert len(door.gate.sessions) == 12
    assert all(player.close_code is None for player in storm)


async def test_a_login_storm_of_one_address_is_refused(door: World, doorkeeper: Doorkeeper) -> None:
    storm = [knock(door, f"user{n}") for n in range(10)]
    other = knock(door, "bob", THERE)
    await asyncio.sleep(1.5)
    assert doorkeeper.most == 3
    assert [player.close_code for player in storm] == [None] * 2 + [4429] * 8
    for player in storm[2:]:
        assert codes(await player.frames()) == ["gateway.too_many_logins"]
    assert isinstance((await other.frames())[0], Welcome)


async def test_who_is_denied_too_often_is_not_looked_at(door: World, doorkeeper: Doorkeeper) -> None:
    for _ in range(5):
        eve = knock(door, "eve")
        assert codes(await eve.frames(1.1)) == ["gateway.unauthenticated"]
    eve = knock(door, "eve")
    (error,) = await eve.frames()
    assert isinstance(error, ErrorFrame)
    assert error.error.code == "gateway.too_many_denials"
    assert eve.close_code == 4429
    await asyncio.sleep(float(str(error.error.details["retry_after"])))
    await come_in(door, "ada")


async def test_who_leaves_the_line_gives_its_place_up(door: World, doorkeeper: Doorkeeper) -> None:
    first = [knock(door, f"user{n}", f"192.0.2.{n}:1") for n in range(8)]
    for player in first[:7]:
        player.leave()
    await asyncio.sleep(1.2)
    assert len(door.gate.sessions) == 1
    await come_in(door, "ada", "192.0.2.0:1")
    await come_in(door, "bob", "192.0.2.0:1")
