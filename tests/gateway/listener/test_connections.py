"""The count of connections."""

from __future__ import annotations

import pytest

from skyloom_gateway.listener import Connections
from skyloom_gateway.listener.connections import Refusal, open_files_max


@pytest.mark.parametrize(("setting", "files", "limit"), [(100, 1024, 100), (10_000, 1024, 768), (10, 100, 1)])
def test_the_limit_stays_below_that_of_open_files(setting: int, files: int, limit: int) -> None:
    assert Connections(setting, 10, files_max=files).connections_max == limit


def test_the_system_is_asked_for_the_limit_of_open_files() -> None:
    files = open_files_max()
    assert files is None or Connections(10**9, 10).connections_max == files - 256


@pytest.mark.parametrize(
    ("addresses", "admitted"),
    [
        (["10.0.0.1"] * 5, 2),
        (["10.0.0.1", "10.0.0.2"] * 2, 4),
        (["2001:db8::1", "2001:db8::2", "2001:db8:0:0:ffff::1"], 2),
        (["2001:db8::1", "2001:db8:0:1::1", "2001:db8:0:2::1"], 3),
        (["::ffff:10.0.0.1", "10.0.0.1", "10.0.0.1"], 2),
        (["fe80::1%eth0", "fe80::2%eth0", "fe80::3%eth0"], 2),
        (["127.0.0.1"] * 5, 5),
        (["::1"] * 5, 5),
        (["::ffff:127.0.0.1"] * 5, 5),
        ([None] * 5, 5),
    ],
)
def test_connections_are_counted_by_network(addresses: list[str | None], admitted: int) -> None:
    connections = Connections(1000, 2, files_max=10_000)
    tickets = [connections.admit(address, 0.0) for address in addresses]
    assert [ticket.refusal for ticket in tickets] == [None] * admitted + [Refusal.ADDRESS] * (len(addresses) - admitted)
    for ticket in tickets:
        ticket.release()
        ticket.release()
    assert connections.admitted == connections.refused == 0
    assert connections._by_network == {}


def test_loopback_can_be_limited() -> None:
    connections = Connections(1000, 1, loopback_is_limited=True, files_max=10_000)
    assert connections.admit("127.0.0.1", 0.0).refusal is None
    assert connections.admit("127.0.0.1", 0.0).refusal is Refusal.ADDRESS


def test_too_many_refused_at_once_are_a_flood() -> None:
    connections = Connections(1, 10, refused_max=2, files_max=10_000)
    tickets = [connections.admit(None, 0.0) for _ in range(4)]
    assert [t.refusal for t in tickets] == [None, Refusal.FULL, Refusal.FULL, Refusal.FLOOD]
    tickets[0].release()
    assert connections.admit(None, 0.0).refusal is None


def test_an_address_opens_so_many_in_a_time() -> None:
    """Also when it closes each at once; others are not held up."""
    connections = Connections(1000, 100, connects_per_second=2, connects_burst=3, files_max=10_000)

    def knock(address: str, now: float) -> Refusal | None:
        ticket = connections.admit(address, now)
        ticket.release()
        return ticket.refusal

    assert [knock("10.0.0.1", 50.0) for _ in range(5)] == [None, None, None, Refusal.RATE, Refusal.RATE]
    assert knock("10.0.0.2", 50.0) is None
    assert knock("127.0.0.1", 50.0) is None
    assert knock("10.0.0.1", 50.5) is None
    assert knock("10.0.0.1", 50.5) is Refusal.RATE
    assert [knock("127.0.0.1", 60.0) for _ in range(10)] == [None] * 10


def test_it_counts_which_limit_refused() -> None:
    connections = Connections(3, 2, connects_per_second=1, connects_burst=3, refused_max=1, files_max=10_000)
    for address in ("192.0.2.1", "192.0.2.1", "192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.1"):
        connections.admit(address, 0)
    assert connections.hits == {"connections_per_address": 1, "connections": 1, "connects_per_second_per_address": 1}
