"""WebSocket links, in memory, with the fast path on and off."""

from __future__ import annotations

import struct

import pytest

from skyloom_gateway.listener import ListenerSettings
from skyloom_gateway.listener.stream import FRAMES_AT_ONCE
from skyloom_gateway.wire import JSON, MSGPACK
from tests.gateway.listener.fakes import BINARY, CLOSE, CONT, PING, PONG, TEXT, Rig, frame, upgrade


@pytest.fixture(params=[True, False], ids=["fast", "library"])
def rig(request: pytest.FixtureRequest) -> Rig:
    return Rig(fast_path=request.param)


def small_rig(rig: Rig, settings: ListenerSettings) -> Rig:
    assert hasattr(rig.listener, "fast_path")
    return Rig(settings=settings, fast_path=rig.listener.fast_path)


@pytest.mark.parametrize(
    ("offered", "codec", "selected"),
    [
        (None, JSON, None),
        ("skyloom.v1.json", JSON, b"skyloom.v1.json"),
        ("skyloom.v1.msgpack", MSGPACK, b"skyloom.v1.msgpack"),
        ("other, skyloom.v1.msgpack, skyloom.v1.json", MSGPACK, b"skyloom.v1.msgpack"),
    ],
)
def test_subprotocol_chooses_the_codec(rig: Rig, offered: str | None, codec: object, selected: bytes | None) -> None:
    transport, recorder, _ = rig.open(offered)
    assert recorder.link.codec is codec
    assert recorder.link.kind == "websocket"
    assert recorder.link.peer == "127.0.0.1:5"
    if selected is None:
        assert b"Sec-WebSocket-Protocol" not in transport.written
    else:
        assert b"Sec-WebSocket-Protocol: " + selected + b"\r\n" in transport.written


def test_only_unknown_subprotocols_are_refused(rig: Rig) -> None:
    transport = rig.connect()
    rig.feed(transport, upgrade("skyloom.v9.json"))
    assert transport.written.startswith(b"HTTP/1.1 400 ")
    assert transport.eof
    assert rig.recorders == []


@pytest.mark.parametrize("length", [0, 1, 125, 126, 127, 65_535, 65_536])
@pytest.mark.parametrize(("offered", "opcode"), [("skyloom.v1.json", TEXT), ("skyloom.v1.msgpack", BINARY)])
def test_messages_of_every_length_field(rig: Rig, offered: str, opcode: int, length: int) -> None:
    transport, recorder, peer = rig.open(offered)
    message = b"x" * length
    recorder.on_message = recorder.link.send
    rig.feed(transport, frame(opcode, message) + frame(opcode, b"next"))
    assert recorder.messages == [message, b"next"]
    assert peer.frames() == [(opcode, message), (opcode, b"next")]


def test_one_read_is_answered_in_one_write(rig: Rig) -> None:
    transport, recorder, peer = rig.open()
    recorder.on_message = recorder.link.send
    before = transport.writes
    count = FRAMES_AT_ONCE - 1
    rig.feed(transport, b"".join(frame(TEXT, b"%d" % n) for n in range(count)) + frame(PING, b"p"))
    assert transport.writes == before + 1
    assert [data for _, data in peer.frames()] == [b"%d" % n for n in range(count)] + [b"p"]


def test_a_message_cut_into_single_bytes(rig: Rig) -> None:
    transport, recorder, _ = rig.open()
    for byte in frame(TEXT, b"hello" * 30) + frame(TEXT, b"x"):
        rig.feed(transport, bytes([byte]))
    assert recorder.messages == [b"hello" * 30, b"x"]


def test_fragments_make_one_message_with_a_ping_between(rig: Rig) -> None:
    transport, recorder, peer = rig.open()
    rig.feed(transport, frame(TEXT, b"a\xc3", fin=False) + frame(PING, b"?") + frame(CONT, b"\xa4", fin=False))
    assert recorder.messages == []
    rig.feed(transport, frame(CONT, b"c") + frame(TEXT, b"d"))
    assert recorder.messages == [b"a\xc3\xa4c", b"d"]
    assert peer.frames() == [(PONG, b"?")]


def test_every_ping_is_answered_in_its_place(rig: Rig) -> None:
    transport, recorder, peer = rig.open()
    recorder.on_message = recorder.link.send
    pings = [b"%d" % n for n in range(50)]
    rig.feed(transport, frame(TEXT, b"a") + b"".join(frame(PING, ping) for ping in pings) + frame(TEXT, b"b"))
    assert peer.frames() == [(TEXT, b"a"), *((PONG, ping) for ping in pings), (TEXT, b"b")]


def test_a_client_that_takes_no_output_gets_the_newest_pong_only(rig: Rig) -> None:
    transport, recorder, peer = rig.open()
    transport.room = 0
    recorder.link.send(b"{}")
    rig.feed(transport, frame(PING, b"0"))
    for n in range(50):
        rig.feed(transport, frame(PING, b"%d" % n))
    transport.take(1 << 40)
    assert peer.frames() == [(TEXT, b"{}"), (PONG, b"0"), (PONG, b"49")]


def test_a_flood_of_pings_is_closed(rig: Rig) -> None:
    transport, recorder, peer = rig.open()
    limit = rig.settings.control_frames_per_second_max
    rig.feed(transport, frame(PING) * limit)
    assert recorder.code is None
    rig.timers.advance(1)
    rig.feed(transport, frame(PING) * limit)
    assert peer.close_code is None
    rig.feed(transport, frame(PING) * 40_000)
    assert peer.close_code == 4429


def test_pongs_that_nobody_reads_do_not_pile_up(rig: Rig) -> None:
    transport, recorder, _ = rig.open()
    transport.room = 0
    recorder.link.send(b"{}")
    for _ in range(20):
        for _ in range(50):
            rig.feed(transport, frame(PING, b"p" * 125))
        assert recorder.link.buffered_bytes <= 4 + 127
        rig.timers.advance(1)
        transport.settle()
        if transport.lost:
            break
    assert recorder.code == 1013
    assert rig.timers.pending == 0


def test_the_clients_close_is_answered(rig: Rig) -> None:
    transport, recorder, peer = rig.open()
    rig.feed(transport, frame(TEXT, b"last") + frame(CLOSE, struct.pack("!H", 4000) + b"bye") + frame(TEXT, b"no"))
    assert recorder.messages == [b"last"]
    assert peer.close_code == 4000
    assert transport.eof
    assert recorder.closings == []
    transport.lose()
    assert recorder.closings == [(4000, "bye")]
    assert rig.timers.pending == 0


def test_a_close_without_a_code_is_1005(rig: Rig) -> None:
    transport, recorder, peer = rig.open()
    rig.feed(transport, frame(CLOSE))
    assert peer.close_code == 1005
    transport.lose()
    assert recorder.code == 1005


def test_our_close_waits_for_the_client_and_then_ends_the_stream(rig: Rig) -> None:
    transport, recorder, peer = rig.open()
    recorder.link.close(4401, "who are you?", b'{"why":1}')
    recorder.link.close(1000, "second")
    recorder.link.send(b"late")
    assert peer.frames() == [(TEXT, b'{"why":1}'), (CLOSE, struct.pack("!H", 4401) + b"who are you?")]
    assert not transport.eof
    rig.feed(transport, frame(TEXT, b"ignored") + frame(CLOSE, struct.pack("!H", 4401)))
    assert transport.eof
    transport.lose()
    assert recorder.messages == []
    assert recorder.closings == [(4401, "who are you?")]


def test_our_close_in_the_midst_of_a_frame(rig: Rig) -> None:
    transport, recorder, _ = rig.open()
    data = frame(TEXT, b"x" * 300)
    rig.feed(transport, data[:200])
    recorder.link.close(1000, "done")
    rig.feed(transport, data[200:])
    rig.feed(transport, frame(CLOSE, struct.pack("!H", 1000)))
    assert transport.eof
    assert recorder.messages == []


def test_our_close_is_cut_off_when_the_client_does_not_answer(rig: Rig) -> None:
    transport, recorder, _ = rig.open()
    recorder.link.close(1001, "bye")
    rig.timers.advance(4.9)
    assert not transport.aborted
    rig.timers.advance(0.2)
    assert transport.aborted
    transport.settle()
    assert recorder.closings == [(1001, "bye")]


def test_close_inside_received_ends_the_batch(rig: Rig) -> None:
    transport, recorder, peer = rig.open()
    recorder.on_message = lambda data: recorder.link.close(4400, "no") if data == b"bad" else None
    rig.feed(transport, frame(TEXT, b"good") + frame(TEXT, b"bad") + frame(TEXT, b"more") + frame(PING))
    assert recorder.messages == [b"good", b"bad"]
    assert peer.frames() == [(CLOSE, struct.pack("!H", 4400) + b"no")]


@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 2999, 5000])
def test_a_code_that_may_not_travel_is_refused(rig: Rig, code: int) -> None:
    _, recorder, _ = rig.open()
    with pytest.raises(ValueError, match=f"close code {code}"):
        recorder.link.close(code, "")


def test_a_long_reason_is_cut_at_a_character(rig: Rig) -> None:
    _, recorder, peer = rig.open()
    recorder.link.close(1000, "ä" * 100)
    assert peer.frames() == [(CLOSE, struct.pack("!H", 1000) + "ä".encode() * 61)]


def test_a_fault_of_the_receiver_ends_its_link_only(rig: Rig) -> None:
    transport, recorder, peer = rig.open()
    other, other_recorder, _ = rig.open()

    def fail(_: bytes) -> None:
        raise RuntimeError("a bug")

    recorder.on_message = fail
    rig.feed(transport, frame(TEXT, b"x"))
    assert peer.close_code == 1011
    rig.feed(other, frame(TEXT, b"y"))
    assert other_recorder.messages == [b"y"]


def test_the_wrong_kind_of_message(rig: Rig) -> None:
    transport, recorder, peer = rig.open("skyloom.v1.json")
    rig.feed(transport, frame(BINARY, b"\x00"))
    assert peer.close_code == 4400
    transport, recorder, peer = rig.open("skyloom.v1.msgpack")
    rig.feed(transport, frame(TEXT, b"{}"))
    assert peer.close_code == 4400
    assert recorder.messages == []


def test_binary_need_not_be_text(rig: Rig) -> None:
    transport, recorder, _ = rig.open("skyloom.v1.msgpack")
    rig.feed(transport, frame(BINARY, b"\xff\xfe"))
    assert recorder.messages == [b"\xff\xfe"]


def test_the_frame_limit_is_a_setting(rig: Rig) -> None:
    rig = small_rig(rig, ListenerSettings(frame_bytes_max=200))
    transport, recorder, peer = rig.open()
    rig.feed(transport, frame(TEXT, b"x" * 200))
    assert len(recorder.messages) == 1
    rig.feed(transport, frame(TEXT, b"x" * 150, fin=False) + frame(CONT, b"x" * 51))
    assert peer.close_code == 1009
    assert len(recorder.messages) == 1


def test_too_many_fragments(rig: Rig) -> None:
    rig = small_rig(rig, ListenerSettings(fragments_max=3))
    transport, recorder, peer = rig.open()
    rig.feed(transport, frame(TEXT, b"", fin=False) + frame(CONT, b"", fin=False) + frame(CONT, b"a"))
    assert recorder.messages == [b"a"]
    rig.feed(transport, frame(TEXT, b"", fin=False) + frame(CONT, b"", fin=False) * 3)
    assert peer.close_code == 1009


MALFORMED: dict[str, tuple[bytes, int]] = {
    "not masked": (frame(TEXT, b"x", masked=False), 1002),
    "reserved bit 1": (frame(TEXT, b"x", rsv=0x40), 1002),
    "reserved bit 2": (frame(TEXT, b"x", rsv=0x20), 1002),
    "reserved bit 3": (frame(TEXT, b"x", rsv=0x10), 1002),
    "opcode 3": (frame(3, b"x"), 1002),
    "opcode 7": (frame(7), 1002),
    "opcode 11": (frame(11, b"x"), 1002),
    "opcode 15": (frame(15), 1002),
    "fragmented ping": (frame(PING, fin=False), 1002),
    "fragmented close": (frame(CLOSE, fin=False), 1002),
    "long ping": (frame(PING, b"x" * 126), 1002),
    "long close": (frame(CLOSE, struct.pack("!H", 1000) + b"x" * 124), 1002),
    "ping with a 64-bit length": (frame(PING, b"x" * 200, size=64), 1002),
    "continuation of nothing": (frame(CONT, b"x"), 1002),
    "new message inside a message": (frame(TEXT, b"a", fin=False) + frame(TEXT, b"b"), 1002),
    "close inside a message": (frame(TEXT, b"a", fin=False) + frame(CLOSE, struct.pack("!H", 1000)), 1002),
    "close of one byte": (frame(CLOSE, b"\x03"), 1002),
    "close code 999": (frame(CLOSE, struct.pack("!H", 999)), 1002),
    "close code 1005": (frame(CLOSE, struct.pack("!H", 1005)), 1002),
    "close code 1006": (frame(CLOSE, struct.pack("!H", 1006)), 1002),
    "close code 5000": (frame(CLOSE, struct.pack("!H", 5000)), 1002),
    "close reason not UTF-8": (frame(CLOSE, struct.pack("!H", 1000) + b"\xff"), 1007),
    "text not UTF-8": (frame(TEXT, b"\xc3\x28"), 1007),
    "text ends in a character": (frame(TEXT, b"\xe2\x82"), 1007),
    "surrogate in text": (frame(TEXT, b"\xed\xa0\x80"), 1007),
    "fragments not UTF-8": (frame(TEXT, b"\xc3", fin=False) + frame(CONT, b"\x28"), 1007),
    "too big": (frame(TEXT, b"x" * 65_537), 1009),
    "claims 2^63": (bytes((0x81, 0xFF)) + b"\xff" * 8, 1009),
    "claims 4 GiB": (bytes((0x82, 0xFF)) + (1 << 32).to_bytes(8, "big"), 1009),
    "too big in fragments": (frame(TEXT, b"x" * 65_536, fin=False) + frame(CONT, b"x"), 1009),
    "binary for json": (frame(BINARY, b"x"), 4400),
    "binary fragments for json": (frame(BINARY, b"x", fin=False) + frame(CONT, b"x"), 4400),
}


@pytest.mark.parametrize("name", MALFORMED)
@pytest.mark.parametrize("after", [b"", frame(TEXT, b"good")], ids=["at first", "after a message"])
@pytest.mark.parametrize("cut", [False, True], ids=["whole", "bytewise"])
def test_malformed_input_gets_the_right_close_code(rig: Rig, name: str, after: bytes, cut: bool) -> None:
    data, code = MALFORMED[name]
    transport, recorder, peer = rig.open()
    whole = after + data + frame(TEXT, b"never")
    for piece in [whole[n : n + 1] for n in range(len(whole))] if cut and len(whole) < 1000 else [whole]:
        rig.feed(transport, piece)
    assert peer.close_code == code
    assert recorder.messages == ([b"good"] if after else [])
    rig.timers.advance(rig.settings.close_timeout_seconds)
    transport.settle()
    assert recorder.code == code
    assert rig.timers.pending == 0


def test_a_stream_that_ends_without_a_close_is_1006(rig: Rig) -> None:
    transport, recorder, _ = rig.open()
    rig.feed(transport, frame(TEXT, b"half")[:4])
    assert transport.protocol is not None
    transport.protocol.eof_received()
    transport.lose()
    assert recorder.code == 1006


def test_a_reset_is_1006_and_forgets_all_timers(rig: Rig) -> None:
    transport, recorder, _ = rig.open()
    transport.room = 0
    recorder.link.send(b"{}")
    rig.timers.advance(0)
    recorder.link.send(b"{}")
    transport.lose(ConnectionResetError("gone"))
    assert recorder.code == 1006
    assert rig.timers.pending == 0
    assert rig.connections.admitted == 0
    assert recorder.link.buffered_bytes == 0
    recorder.link.send(b"{}")
    recorder.link.close(1000, "")
    assert len(recorder.closings) == 1
