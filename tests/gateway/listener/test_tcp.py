"""TCP links, in memory."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyloom_gateway.listener import Connections, ListenerSettings
from skyloom_gateway.wire import MSGPACK, ErrorFrame
from tests.gateway.listener.fakes import Peer, Rig, tcp_frame


@pytest.fixture
def rig() -> Rig:
    return Rig("tcp")


def test_a_connection_is_a_link_at_once(rig: Rig) -> None:
    _, recorder, _ = rig.open()
    assert recorder.link.codec is MSGPACK
    assert recorder.link.kind == "tcp"
    assert recorder.link.peer == "127.0.0.1:5"


@pytest.mark.parametrize("length", [0, 1, 255, 256, 65_535])
def test_frames_of_every_length(rig: Rig, length: int) -> None:
    transport, recorder, peer = rig.open()
    recorder.on_message = recorder.link.send
    rig.feed(transport, tcp_frame(b"x" * length) + tcp_frame(b"next"))
    assert recorder.messages == [b"x" * length, b"next"]
    assert peer.tcp_frames() == [b"x" * length, b"next"]
    assert transport.writes == (1 if length < 65_535 else 2)  # a cork holds 64 KiB


@given(st.lists(st.binary(max_size=400), max_size=8), st.data())
def test_frames_are_the_same_wherever_the_stream_is_cut(messages: list[bytes], data: st.DataObject) -> None:
    rig = Rig("tcp")
    transport, recorder, _ = rig.open()
    stream = b"".join(map(tcp_frame, messages))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=10)))
    for start, stop in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        if start < stop:
            rig.feed(transport, stream[start:stop])
    assert recorder.messages == messages


def error_of(frames: list[bytes]) -> tuple[str, int]:
    error = MSGPACK.decode_server(frames[-1])
    assert isinstance(error, ErrorFrame)
    return error.error.code, error.id


def test_a_frame_over_the_limit_is_refused_by_its_length(rig: Rig) -> None:
    rig = Rig("tcp", settings=ListenerSettings(frame_bytes_max=1000))
    transport, recorder, peer = rig.open()
    rig.feed(transport, tcp_frame(b"ok") + (1001).to_bytes(2, "big"))
    assert error_of(peer.tcp_frames()) == ("gateway.frame_too_big", 0)
    assert transport.eof
    rig.feed(transport, b"more" * 100)
    assert recorder.messages == [b"ok"]
    transport.lose()
    assert recorder.code == 1009


def test_an_answer_over_the_protocols_limit_closes_the_link(rig: Rig) -> None:
    transport, recorder, peer = rig.open()
    recorder.link.send(b"x" * 65_536)
    assert error_of(peer.tcp_frames()) == ("gateway.frame_too_big", 0)
    transport.lose()
    assert recorder.code == 1009


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (4429, "gateway.rate_limited"),
        (1012, "gateway.restart"),
        (1011, "gateway.closed"),
        (4999, "gateway.closed"),
    ],
)
def test_a_close_says_why_in_an_error_frame(rig: Rig, code: int, error: str) -> None:
    transport, recorder, peer = rig.open()
    recorder.link.close(code, "because")
    recorder.link.close(1000, "again")
    assert error_of(peer.tcp_frames()) == (error, 0)
    assert transport.eof
    rig.timers.advance(rig.settings.close_timeout_seconds)
    assert transport.aborted
    transport.settle()
    assert recorder.closings == [(code, "because")]


def test_an_orderly_close_has_no_error(rig: Rig) -> None:
    transport, recorder, peer = rig.open()
    recorder.link.close(1000, "bye")
    assert peer.tcp_frames() == []
    assert transport.eof


def test_a_close_sends_the_frame_it_is_given(rig: Rig) -> None:
    _, recorder, peer = rig.open()
    recorder.link.close(4401, "no", b"mine")
    assert peer.tcp_frames() == [b"mine"]


def test_close_inside_received_ends_the_batch(rig: Rig) -> None:
    transport, recorder, _ = rig.open()
    recorder.on_message = lambda _: recorder.link.close(4400, "no")
    rig.feed(transport, tcp_frame(b"a") + tcp_frame(b"b"))
    assert recorder.messages == [b"a"]


@pytest.mark.parametrize(("rest", "code"), [(b"", 1001), (b"\x00", 1006), (b"\x00\x05abc", 1006)])
def test_the_end_of_the_stream(rig: Rig, rest: bytes, code: int) -> None:
    transport, recorder, _ = rig.open()
    rig.feed(transport, tcp_frame(b"last"))
    if rest:
        rig.feed(transport, rest)
    assert transport.protocol is not None
    transport.protocol.eof_received()
    transport.lose()
    assert recorder.messages == [b"last"]
    assert recorder.code == code
    assert rig.timers.pending == 0


def test_a_full_server_says_so() -> None:
    rig = Rig("tcp", connections=Connections(1, 10, refused_max=1, files_max=10_000))
    first, _, _ = rig.open()
    second = rig.connect()
    assert error_of(Peer(second).tcp_frames()) == ("gateway.overloaded", 0)
    assert second.eof
    third = rig.connect()
    assert third.aborted
    for transport in (third, second):
        transport.lose()
    assert len(rig.recorders) == 1
    first.lose()
    assert rig.connections.refused == rig.connections.admitted == 0
    rig.open()
    assert len(rig.recorders) == 2
