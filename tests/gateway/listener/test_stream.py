"""Keepalive, stalls and bounds of output: the same for WebSocket and TCP."""

from __future__ import annotations

from pathlib import Path

import pytest

from skyloom_gateway.listener import ListenerSettings, WebSocketListener
from skyloom_gateway.wire import MSGPACK
from tests.gateway.listener.fakes import (
    PING,
    PONG,
    FakeTransport,
    Peer,
    Recorder,
    Rig,
    frame,
    tcp_frame,
    upgrade,
)

Opened = tuple[FakeTransport, Recorder, Peer]


@pytest.fixture(params=["websocket", "tcp"])
def rig(request: pytest.FixtureRequest) -> Rig:
    return Rig(request.param)


@pytest.fixture
def opened(rig: Rig) -> Opened:
    return rig.open()


def pings(rig: Rig, peer: Peer) -> int:
    if rig.recorders[-1].link.kind == "tcp":
        return peer.tcp_frames().count(MSGPACK.ping())
    return [opcode for opcode, _ in peer.frames()].count(PING)


def sign_of_life(rig: Rig) -> bytes:
    return tcp_frame(MSGPACK.pong()) if rig.recorders[-1].link.kind == "tcp" else frame(PONG)


def test_silence_is_pinged_and_then_ended(rig: Rig, opened: Opened) -> None:
    transport, recorder, peer = opened
    rig.timers.advance(19.9)
    assert pings(rig, peer) == 0
    rig.timers.advance(0.2)
    assert pings(rig, peer) == 1
    rig.timers.advance(19.8)
    assert not transport.aborted
    rig.timers.advance(0.2)
    assert transport.aborted
    transport.settle()
    assert recorder.closings == [(1006, "no sign of life")]
    assert rig.timers.pending == 0


def test_any_byte_is_a_sign_of_life(rig: Rig, opened: Opened) -> None:
    transport, _, peer = opened
    for _ in range(10):
        rig.timers.advance(15)
        rig.feed(transport, sign_of_life(rig)[:1])
        rig.feed(transport, sign_of_life(rig)[1:])
    assert pings(rig, peer) == 0
    assert not transport.aborted


def test_an_answer_to_the_ping_buys_another_round(rig: Rig, opened: Opened) -> None:
    transport, _, peer = opened
    for _ in range(5):
        rig.timers.advance(35)
        rig.feed(transport, sign_of_life(rig))
    assert not transport.aborted
    assert pings(rig, peer) == 5


def test_a_loop_that_stood_still_ends_nobody(rig: Rig, opened: Opened) -> None:
    transport, _, peer = opened
    rig.timers.time += 300  # the keepalive timer is long overdue when the loop comes round to it
    rig.timers.advance(0)
    assert not transport.aborted
    assert pings(rig, peer) == 1


def test_output_while_the_client_reads_has_no_bound(rig: Rig, opened: Opened) -> None:
    transport, recorder, _ = opened
    for _ in range(2000):
        recorder.link.send(b"x" * 1000)
    assert recorder.link.buffered_bytes <= 64 * 1024
    rig.timers.advance(0)
    assert not transport.aborted
    assert recorder.link.buffered_bytes == 0


def test_too_many_waiting_messages_cut_the_client_off(rig: Rig, opened: Opened) -> None:
    transport, recorder, _ = opened
    transport.room = 0
    recorder.link.send(b"{}")
    rig.timers.advance(0)  # this one is with the transport now
    for _ in range(256):
        recorder.link.send(b"{}")
    assert not transport.aborted
    recorder.link.send(b"{}")
    rig.timers.advance(0)
    assert transport.aborted
    transport.settle()
    assert recorder.code == 1013
    assert rig.timers.pending == 0


def test_too_many_waiting_bytes_cut_the_client_off(rig: Rig, opened: Opened) -> None:
    transport, recorder, _ = opened
    transport.room = 0
    recorder.link.send(b"x" * 50_000)
    rig.timers.advance(0)
    for _ in range(4):
        recorder.link.send(b"x" * 50_000)
    assert not transport.aborted
    assert 250_000 <= recorder.link.buffered_bytes <= 256 * 1024
    recorder.link.send(b"x" * 50_000)
    rig.timers.advance(0)
    assert transport.aborted
    assert recorder.link.buffered_bytes <= 50_010  # what the transport itself holds, until it is lost


def test_bounds_hold_inside_a_batch_too(rig: Rig, opened: Opened) -> None:
    transport, recorder, _ = opened
    transport.room = 1000

    def answer(_data: bytes) -> None:
        for _ in range(20):
            recorder.link.send(b"x" * 60_000)

    recorder.on_message = answer
    data = tcp_frame(b"go") if recorder.link.kind == "tcp" else frame(1, b"go")
    rig.feed(transport, data)
    rig.timers.advance(0)
    assert transport.aborted
    transport.settle()
    assert recorder.code == 1013


def test_waiting_output_is_written_at_once_in_order(rig: Rig, opened: Opened) -> None:
    transport, recorder, peer = opened
    transport.room = 0
    for n in range(100):
        recorder.link.send(b"%d" % n)
        rig.timers.advance(0)
    writes = transport.writes
    transport.take(1 << 30)
    assert transport.writes == writes + 1
    frames = peer.tcp_frames() if recorder.link.kind == "tcp" else [data for _, data in peer.frames()]
    assert frames == [b"%d" % n for n in range(100)]
    assert recorder.link.buffered_bytes == 0


def test_what_is_sent_in_one_turn_is_one_write(rig: Rig, opened: Opened) -> None:
    transport, recorder, peer = opened
    before = transport.writes
    for n in range(10):
        recorder.link.send(b"%d" % n)
    assert transport.writes == before
    # A read in between takes it all along.
    rig.feed(transport, sign_of_life(rig)[:1])
    assert transport.writes == before + 1
    recorder.link.send(b"10")
    rig.timers.advance(0)
    assert transport.writes == before + 2
    recorder.link.send(b"11")
    recorder.link.close(4401, "no")
    assert transport.writes == before + 3
    rig.timers.advance(0)
    frames = peer.tcp_frames() if recorder.link.kind == "tcp" else [data for _, data in peer.frames()]
    assert frames[:12] == [b"%d" % n for n in range(12)]


def test_a_large_batch_is_written_before_its_turn_ends(rig: Rig, opened: Opened) -> None:
    transport, recorder, _ = opened
    before = transport.writes
    for _ in range(10):
        recorder.link.send(b"x" * 20_000)
    assert transport.writes == before + 2
    rig.timers.advance(0)
    assert transport.writes == before + 3


def test_a_client_that_takes_nothing_is_cut_off_within_ten_seconds(rig: Rig, opened: Opened) -> None:
    transport, recorder, _ = opened
    transport.room = 10
    recorder.link.send(b"x" * 100)
    rig.timers.advance(7.9)
    assert not transport.aborted
    rig.timers.advance(2.0)
    assert transport.aborted
    transport.settle()
    assert recorder.closings == [(1013, "slow consumer: took no output")]
    assert rig.timers.pending == 0


def test_a_slow_client_that_takes_something_lives(rig: Rig, opened: Opened) -> None:
    transport, recorder, _ = opened
    transport.room = 0
    recorder.link.send(b"x" * 100)
    for _ in range(10):
        rig.timers.advance(6)
        transport.take(2)
        rig.feed(transport, sign_of_life(rig))
    assert not transport.aborted
    transport.take(1000)
    rig.timers.advance(15)
    assert not transport.aborted


@pytest.mark.parametrize("waited", [0.0, 7.0])
def test_a_close_that_nobody_reads_is_cut_off(rig: Rig, opened: Opened, waited: float) -> None:
    transport, recorder, _ = opened
    transport.room = 0
    recorder.link.send(b"x" * 100)
    rig.timers.advance(waited)
    recorder.link.close(1001, "bye")
    rig.timers.advance(5.01)
    assert transport.aborted
    transport.settle()
    assert recorder.code == 1001


def test_a_client_that_sends_on_after_the_close_is_cut_off(rig: Rig, opened: Opened) -> None:
    transport, recorder, _ = opened
    recorder.link.close(4429, "flood")
    data = tcp_frame(b"") * 1024 if recorder.link.kind == "tcp" else frame(PING) * 1024
    fed = 0
    while not transport.aborted:
        rig.feed(transport, data)
        fed += len(data)
        assert fed <= 128 * 1024 + len(data)
    assert fed > 128 * 1024
    transport.settle()
    assert recorder.closings == [(4429, "flood")]


def test_a_close_follows_the_output_that_waits(rig: Rig, opened: Opened) -> None:
    transport, recorder, peer = opened
    transport.room = 0
    recorder.link.send(b"first")
    rig.timers.advance(0)
    recorder.link.send(b"second")
    recorder.link.close(4401, "no", b"why")
    assert not transport.eof
    transport.take(1 << 30)
    if recorder.link.kind == "tcp":
        assert peer.tcp_frames() == [b"first", b"second", b"why"]
        assert transport.eof
    else:
        assert [data for _, data in peer.frames()][:3] == [b"first", b"second", b"why"]


def test_without_half_close_the_stream_is_closed(rig: Rig) -> None:
    # TLS has no half-close in asyncio.
    rig = Rig("tcp")
    transport = rig.connect(eof=False)
    rig.recorders[-1].link.close(1000, "bye")
    assert transport.closed
    assert not transport.eof


def test_a_fault_in_the_acceptor_ends_the_connection(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> Recorder:
        raise RuntimeError("a bug")

    monkeypatch.setattr(rig.listener, "acceptor", fail)
    transport = rig.connect()
    if isinstance(rig.listener, WebSocketListener):
        rig.feed(transport, upgrade())
    assert transport.aborted
    transport.settle()
    assert rig.timers.pending == 0
    assert rig.connections.admitted == 0


def test_a_fault_in_closed_is_contained(rig: Rig, opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    transport, recorder, _ = opened

    def fail(_code: int, _reason: str) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(recorder, "closed", fail)
    transport.lose()
    assert rig.connections.admitted == 0


@pytest.mark.parametrize(
    ("field", "value"),
    [("stall_seconds", 0), ("connections_max", 0), ("output_bytes_max", -1), ("frame_bytes_max", 124)],
)
def test_limits_that_cannot_hold_are_refused(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=field):
        ListenerSettings(**{field: value})  # type: ignore[arg-type] # one field of several types, chosen by the test


def test_settings_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="port is 70000"):
        ListenerSettings(port=70_000)
    with pytest.raises(ValueError, match="path is 'ws'"):
        ListenerSettings(path="ws")
    with pytest.raises(ValueError, match="given together"):
        ListenerSettings(certificate_file=Path("x"))
