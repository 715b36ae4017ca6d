"""Nobody waits long for somebody else: a turn of the loop does a little for each, and leaves nothing behind."""

from __future__ import annotations

import gc
import tracemalloc

import pytest

from skyloom_gateway.listener import ListenerSettings
from skyloom_gateway.listener.port import CUTS_AT_ONCE, SMALL_WRITE_BYTES, STREAMS_AT_ONCE, WRITE_BYTES_AT_ONCE
from skyloom_gateway.listener.stream import FRAMES_AT_ONCE
from tests.gateway.listener.fakes import CLOSE, PING, TEXT, FakeTransport, Recorder, Rig, frame, tcp_frame

LARGE = b"x" * 30_000


@pytest.fixture(params=["websocket", "tcp"])
def rig(request: pytest.FixtureRequest) -> Rig:
    return Rig(request.param)


def framed(recorder: Recorder, *payloads: bytes) -> bytes:
    return b"".join(tcp_frame(one) if recorder.link.kind == "tcp" else frame(TEXT, one) for one in payloads)


def numbers(count: int) -> list[bytes]:
    return [b"%d" % n for n in range(count)]


def arrive(transport: FakeTransport, data: bytes) -> None:
    """Like `Rig.feed`, and the loop's next turn is for the test to take."""
    assert transport.protocol is not None
    transport.protocol.data_received(data)


def test_a_flood_in_one_read_waits_for_the_others(rig: Rig) -> None:
    flooding = [rig.open()[:2] for _ in range(3 * STREAMS_AT_ONCE)]
    honest, heard, _ = rig.open()
    for transport, recorder in flooding:
        arrive(transport, framed(recorder, *numbers(100)))
        assert recorder.messages == numbers(FRAMES_AT_ONCE)
        assert not transport.reading
    arrive(honest, framed(heard, b"me"))
    assert heard.messages == [b"me"]
    taken = len(flooding) * FRAMES_AT_ONCE
    while any(not transport.reading for transport, _ in flooding):
        rig.timers.turn()
        now = sum(len(recorder.messages) for _, recorder in flooding)
        assert taken < now <= taken + STREAMS_AT_ONCE * FRAMES_AT_ONCE
        taken = now
        rest = [len(recorder.messages) for _, recorder in flooding]
        assert max(rest) - min(rest) <= FRAMES_AT_ONCE  # one after the other
    assert all(recorder.messages == numbers(100) for _, recorder in flooding)


def test_what_waits_is_read_before_the_end(rig: Rig) -> None:
    """TLS tells of the end of a stream while reading is paused, and may bring more bytes."""
    transport, recorder, _ = rig.open()
    arrive(transport, framed(recorder, *numbers(30)))
    arrive(transport, framed(recorder, b"last"))
    assert recorder.messages == numbers(FRAMES_AT_ONCE)
    assert transport.protocol is not None
    transport.protocol.eof_received()
    assert recorder.messages == [*numbers(30), b"last"]


def test_what_waits_is_dropped_with_the_connection(rig: Rig) -> None:
    transport, recorder, _ = rig.open()
    arrive(transport, framed(recorder, *numbers(30)))
    transport.lose()
    rig.timers.advance(0)
    assert recorder.messages == numbers(FRAMES_AT_ONCE)
    assert recorder.code == 1006


def test_a_close_in_the_midst_is_kept_and_the_rest_is_not_heard() -> None:
    rig = Rig()
    transport, recorder, peer = rig.open()
    goodbye = frame(CLOSE, (1000).to_bytes(2, "big"))
    arrive(transport, framed(recorder, *numbers(10)) + frame(PING) + goodbye + framed(recorder, b"never"))
    rig.timers.advance(0)
    transport.settle()
    assert recorder.messages == numbers(10)
    assert peer.close_code == 1000


def test_a_small_answer_does_not_wait_for_large_ones(rig: Rig) -> None:
    slow = [rig.open()[:2] for _ in range(100)]
    honest, heard, _ = rig.open()
    for _, recorder in slow:
        recorder.link.send(LARGE)
    heard.link.send(b"x" * (SMALL_WRITE_BYTES - 10))
    before = len(honest.written)
    written = sum(len(transport.written) for transport, _ in slow)
    rig.timers.turn()
    assert len(honest.written) > before
    turns = 0
    while True:
        now = sum(len(transport.written) for transport, _ in slow)
        assert now - written <= WRITE_BYTES_AT_ONCE + len(LARGE) + 14
        if now == written:
            break
        written = now
        turns += 1
        rig.timers.turn()
    assert turns > len(slow) * len(LARGE) // WRITE_BYTES_AT_ONCE
    assert all(bytes(transport.written).count(LARGE) == 1 for transport, _ in slow)


def test_slow_readers_are_cut_off_a_few_at_a_time(rig: Rig) -> None:
    slow = [rig.open()[:2] for _ in range(3 * CUTS_AT_ONCE)]
    for transport, recorder in slow:
        transport.room = 0
        recorder.link.send(LARGE)
    rig.timers.advance(0)
    for _, recorder in slow:
        for _ in range(10):
            recorder.link.send(LARGE)
        assert recorder.link.buffered_bytes <= len(LARGE) + 14  # it is given up at once
    cut = 0
    while cut < len(slow):
        rig.timers.turn()
        now = sum(transport.aborted for transport, _ in slow)
        assert cut < now <= cut + CUTS_AT_ONCE
        cut = now
    for transport, recorder in slow:
        transport.settle()
        assert recorder.code == 1013


def test_a_fault_of_one_transport_takes_nobody_elses_turn(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop reports what a callback raises and goes on; whoever stands behind must still be served."""

    def turns() -> None:
        raised = 0
        for _ in range(10):
            try:
                rig.timers.turn()
            except ZeroDivisionError:
                raised += 1
        assert raised == 1

    def fault(*_: object) -> None:
        raise ZeroDivisionError

    clients = [rig.open()[:2] for _ in range(2 * CUTS_AT_ONCE)]
    first = clients[0][0]
    for transport, recorder in clients:  # reading
        arrive(transport, framed(recorder, *numbers(2 * FRAMES_AT_ONCE)))
    with monkeypatch.context() as patch:
        patch.setattr(first, "resume_reading", fault)
        turns()
    assert all(recorder.messages == numbers(2 * FRAMES_AT_ONCE) for _, recorder in clients)
    for _, recorder in clients:  # writing
        recorder.link.send(b"hello")
    with monkeypatch.context() as patch:
        patch.setattr(first, "write", fault)
        turns()
    assert all(b"hello" in transport.written for transport, _ in clients[1:])
    for transport, recorder in clients:  # cutting off
        transport.room = 0
        recorder.link.send(LARGE)
    rig.timers.advance(0)
    for _, recorder in clients:
        for _ in range(10):
            recorder.link.send(LARGE)
    with monkeypatch.context() as patch:
        patch.setattr(first, "abort", fault)
        turns()
    assert all(transport.aborted for transport, _ in clients[1:])


def test_what_many_wait_for_is_in_memory_once(rig: Rig) -> None:
    links = [rig.open()[:2] for _ in range(100)]
    for transport, recorder in links:
        transport.room = 0
        recorder.link.send(b"x")
    rig.timers.advance(0)
    tail = b"t" * 60_000
    tracemalloc.start()
    try:
        for _, recorder in links:
            for _ in range(3):
                recorder.link.send(b"head", tail)
        grown, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert grown < len(tail)
    for transport, _ in links:
        transport.take(1 << 40)
        assert bytes(transport.written).count(b"head" + tail) == 3


@pytest.mark.parametrize("length", [0, 1, 120, 122, 200, 1020, 1024, 1025, 60_000])
def test_a_frame_in_two_parts_is_one_frame(rig: Rig, length: int) -> None:
    _, recorder, peer = rig.open()
    recorder.link.send(b"head", b"t" * length)
    recorder.link.send(b"next")
    found = peer.tcp_frames() if recorder.link.kind == "tcp" else [data for _, data in peer.frames()]
    assert found == [b"head" + b"t" * length, b"next"]


def test_messages_in_two_parts_count_once() -> None:
    rig = Rig(settings=ListenerSettings(output_messages_max=5))
    transport, recorder, _ = rig.open()
    transport.room = 0
    recorder.link.send(b"x")
    rig.timers.advance(0)
    for _ in range(5):
        recorder.link.send(b"head", b"t" * 2000)
    rig.timers.advance(0)
    assert not transport.aborted
    recorder.link.send(b"head", b"t" * 2000)
    rig.timers.advance(0)
    assert transport.aborted


def test_a_connection_leaves_nothing_to_collect(rig: Rig) -> None:
    """A full garbage collection stops everybody; a flood of connections must not be what calls for it."""
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        transport, recorder, _client = rig.open()  # kept: the library's own client leaves something
        arrive(transport, framed(recorder, b"{}"))
        recorder.link.send(b"{}")
        rig.timers.advance(0)
        transport.lose(ConnectionResetError())
        rig.timers.advance(100)
        rig.recorders.clear()
        transport.protocol = None
        del recorder
        gc.collect()
        # Not simply everything: other threads of this process, and the tests before, leave theirs.
        assert [each for each in gc.garbage if type(each).__module__.startswith(("skyloom", "websockets"))] == []
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
