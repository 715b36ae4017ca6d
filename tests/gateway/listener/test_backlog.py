"""Output that waits for all clients together: who is cut off for it, and who is not."""

from __future__ import annotations

import pytest

from skyloom_gateway.listener import Connections, ListenerSettings, Pages
from tests.gateway.listener.fakes import FakeTransport, Recorder, Rig, upgrade

TOTAL = 800_000
Opened = tuple[FakeTransport, Recorder]


@pytest.fixture(params=["websocket", "tcp"])
def rig(request: pytest.FixtureRequest) -> Rig:
    return Rig(request.param, connections=Connections.within(ListenerSettings(output_bytes_total_max=TOTAL)))


def stalled(rig: Rig, size: int) -> Opened:
    """A client for whom so much waits, at the least."""
    transport, recorder, _ = rig.open()
    transport.room = 0
    say(rig, recorder, size)
    return transport, recorder


def say(rig: Rig, recorder: Recorder, size: int) -> None:
    while size > 0:
        recorder.link.send(b"x" * min(size, 50_000))
        rig.timers.advance(0)
        size -= 50_000


def test_those_for_whom_the_most_waits_are_cut_until_an_eighth_is_free(rig: Rig) -> None:
    sizes = [200_000, 50_000, 150_000, 250_000, 100_000]  # 750,000
    clients = [stalled(rig, size) for size in sizes]
    assert not any(transport.aborted for transport, _ in clients)
    say(rig, clients[1][1], 50_000)
    assert [transport.aborted for transport, _ in clients] == [False, False, False, True, False]
    clients[3][0].settle()
    assert clients[3][1].closings == [(1013, "slow consumer: too much output waits for all clients together")]
    assert rig.connections.backlog.bytes == sum(recorder.link.buffered_bytes for _, recorder in clients)
    say(rig, clients[1][1], 100_000)
    say(rig, clients[4][1], 149_000)
    say(rig, clients[2][1], 5_000)
    assert [transport.aborted for transport, _ in clients] == [False, False, False, True, True]


def test_no_more_are_cut_than_it_takes(rig: Rig) -> None:
    clients = [stalled(rig, 50_000) for _ in range(16)]
    say(rig, clients[0][1], 10)
    assert sum(transport.aborted for transport, _ in clients) == 3
    assert 600_000 < rig.connections.backlog.bytes <= 700_000


def test_who_takes_its_output_is_not_cut_whatever_the_others_do(rig: Rig) -> None:
    reader, reading, _ = rig.open()
    for _ in range(40):
        stalled(rig, 200_000)
        say(rig, reading, 100_000)
    assert not reader.aborted
    assert rig.connections.backlog.bytes <= TOTAL


def test_what_a_slow_client_has_taken_since_does_not_count(rig: Rig) -> None:
    slow, waiting = stalled(rig, 0)
    for _ in range(2):
        waiting.link.send(b"x" * 64_000)  # in one write
    others = [stalled(rig, 200_000) for _ in range(3)]
    slow.take(120_000)  # the kernel takes it in parts, and nobody hears of it until all is gone
    say(rig, others[0][1], 50_000)
    _, last = stalled(rig, 20_000)
    say(rig, last, 10_000)
    assert not any(transport.aborted for transport in (slow, *(other for other, _ in others)))
    assert rig.connections.backlog.bytes < 700_000


def test_a_client_that_catches_up_or_goes_no_longer_counts(rig: Rig) -> None:
    first, second, third = (stalled(rig, 100_000)[0] for _ in range(3))
    first.take(1 << 30)
    second.lose()
    assert 100_000 <= rig.connections.backlog.bytes < 101_000
    third.take(1 << 30)
    assert rig.connections.backlog.bytes == 0


def test_both_ports_share_the_sum(rig: Rig) -> None:
    other = Rig("tcp", connections=rig.connections)
    most, _ = stalled(other, 250_000)
    for _ in range(4):
        stalled(rig, 150_000)
    other.timers.advance(0)
    assert most.aborted


def test_pages_that_nobody_reads_count_within_a_second() -> None:
    pages = Pages()
    pages.add("/big", b"x" * 500_000)
    rig = Rig(pages=pages, connections=Connections.within(ListenerSettings(output_bytes_total_max=TOTAL)))
    transports = []
    for _ in range(3):
        transport = rig.connect()
        transport.room = 0
        rig.feed(transport, upgrade(None, "/big").replace(b"Upgrade: websocket\r\nConnection: Upgrade\r\n", b""))
        transports.append(transport)
    assert rig.connections.backlog.bytes > 1_500_000
    rig.timers.advance(1.01)
    assert [transport.aborted for transport in transports] == [True, True, False]
