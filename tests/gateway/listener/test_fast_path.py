"""The fast path and the library's say the same of any stream, cut anywhere."""

from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st

from skyloom_gateway.listener import ListenerSettings
from skyloom_gateway.listener.frames import BAD, client_frame_bytes
from tests.examples import examples
from tests.gateway.listener.fakes import BINARY, CLOSE, CONT, PING, PONG, TEXT, Rig, frame

LIMIT = 300

payloads = st.one_of(
    st.binary(max_size=20),
    st.text(max_size=40).map(str.encode),
    st.sampled_from([120, 125, 126, 127, 299, 300, 301]).map(lambda length: b"x" * length),
)
sizes = st.sampled_from([0, 0, 0, 16, 64])
good_data = st.builds(lambda data, size: frame(TEXT, data, size=size), st.text(max_size=70).map(str.encode), sizes)
fragmented = st.lists(st.text(max_size=30), min_size=2, max_size=4).map(
    lambda parts: b"".join(
        frame(TEXT if n == 0 else CONT, part.encode(), fin=n == len(parts) - 1) for n, part in enumerate(parts)
    )
)
control = st.builds(frame, st.sampled_from([PING, PONG]), st.binary(max_size=125))
closing = st.builds(
    lambda code, reason: frame(CLOSE, struct.pack("!H", code) + reason),
    st.sampled_from([1000, 1001, 1006, 3000, 4000, 5000]),
    st.sampled_from([b"", b"bye", b"\xff"]),
)
any_frame = st.builds(
    lambda opcode, data, fin, rsv, masked, size: frame(opcode, data, fin=fin, rsv=rsv, masked=masked, size=size),
    st.sampled_from([CONT, TEXT, BINARY, 3, CLOSE, PING, PONG, 11]),
    payloads,
    st.booleans(),
    st.sampled_from([0, 0, 0, 0, 0x10, 0x40]),
    st.sampled_from([True, True, True, True, False]),
    sizes,
)
streams = st.lists(
    st.one_of(good_data, good_data, fragmented, control, closing, any_frame, st.binary(max_size=8)),
    max_size=10,
).map(b"".join)


def play(
    fast_path: bool, pieces: list[bytes], offered: str, *, answer: bytes = b"", end: bool = False
) -> tuple[object, ...]:
    """All that can be told from outside: messages, the cause of the end, output, and whether it ended."""
    rig = Rig(settings=ListenerSettings(frame_bytes_max=LIMIT, fragments_max=5), fast_path=fast_path)
    transport, recorder, _ = rig.open(offered)
    if answer == b"close":
        recorder.on_message = lambda data: recorder.link.close(4400, "no") if len(data) % 3 == 0 else None
    else:
        recorder.on_message = recorder.link.send
    transport.written.clear()
    steps: list[object] = []
    for piece in pieces:
        rig.feed(transport, piece)
        steps.append((len(recorder.messages), bytes(transport.written), transport.eof))
    if end and transport.protocol is not None:
        transport.protocol.eof_received()
    transport.lose()
    assert rig.timers.pending == 0
    return recorder.messages, recorder.closings, steps, transport.aborted


def cut(stream: bytes, cuts: list[int]) -> list[bytes]:
    points = sorted({0, len(stream), *(point % (len(stream) + 1) for point in cuts)})
    return [stream[start:stop] for start, stop in zip(points, points[1:], strict=False)]


offers = st.sampled_from(["skyloom.v1.json", "skyloom.v1.msgpack"])
cut_points = st.lists(st.integers(0, 5000), max_size=12)


@examples(400)
@given(streams, cut_points, offers, st.booleans())
def test_both_paths_agree_step_by_step(stream: bytes, cuts: list[int], offered: str, end: bool) -> None:
    pieces = cut(stream, cuts)
    fast = play(True, pieces, offered, end=end)
    slow = play(False, pieces, offered, end=end)
    assert fast == slow


@examples(200)
@given(streams, cut_points, offers)
def test_both_paths_agree_when_the_receiver_closes(stream: bytes, cuts: list[int], offered: str) -> None:
    pieces = cut(stream, cuts)
    assert play(True, pieces, offered, answer=b"close") == play(False, pieces, offered, answer=b"close")


@examples(100)
@given(st.lists(st.one_of(good_data, fragmented), max_size=12).map(b"".join), cut_points, cut_points)
def test_cuts_do_not_matter(stream: bytes, cuts: list[int], others: list[int]) -> None:
    first = play(True, cut(stream, cuts), "skyloom.v1.json")
    second = play(True, cut(stream, others), "skyloom.v1.json")
    assert first[:2] == second[:2]


@given(st.binary(max_size=20), st.integers(125, 70_000))
def test_a_frames_size_needs_no_more_than_its_header(data: bytes, limit: int) -> None:
    size = client_frame_bytes(data, 0, limit)
    if size == BAD:
        return
    longer = client_frame_bytes(data + b"\x00" * 20, 0, limit)
    if size <= len(data) or size > 10:
        assert size == longer or len(data) < 10
    else:
        assert size > len(data)
