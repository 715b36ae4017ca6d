"""Random streams, cut anywhere, against the `websockets` library's own parser, which sees each of them whole."""

from __future__ import annotations

import random

import pytest
from websockets.frames import Frame
from websockets.protocol import State
from websockets.server import ServerProtocol

from skyloom_gateway.listener import ListenerSettings
from tests.gateway.listener.fakes import BINARY, CLOSE, CONT, PING, PONG, TEXT, Rig, frame

FRAME_BYTES_MAX = 1000
LENGTHS = [0, 1, 5, 124, 125, 126, 127, 300, 998, 999, 1000]
# What no client may send, and the library says so by itself: reserved bits and opcodes, no mask, bad control frames.
FOUL = [
    frame(TEXT, b"x", rsv=0x40),
    frame(TEXT, b"x", masked=False),
    frame(3, b"x"),
    frame(PING, b"x" * 126),
    frame(PING, b"", fin=False),
    frame(CLOSE, b"\x03"),
    frame(TEXT, b"x" * (FRAME_BYTES_MAX + 1)),
    frame(TEXT, b"x" * (FRAME_BYTES_MAX + 1), size=64),
    b"\x81\xff" + (2**62).to_bytes(8, "big"),
]
Sent = tuple[int, bytes]


def stream(chance: random.Random, opcode: int) -> bytes:
    """Messages, whole and in fragments, control frames anywhere between; now and then something foul at the end."""

    def text(length: int) -> bytes:
        return bytes(chance.choices(range(32, 127), k=length))

    def control() -> bytes:
        return frame(chance.choice([PING, PING, PONG]), text(chance.choice([0, 1, 125])))

    parts = []
    for _ in range(chance.randrange(1, 12)):
        if chance.random() < 0.3:
            parts.append(control())
        if chance.random() < 0.7:
            parts.append(frame(opcode, text(chance.choice(LENGTHS)), size=chance.choice([0, 0, 16, 64])))
            continue
        count = chance.randrange(2, 6)
        for n in range(count):
            if chance.random() < 0.3:
                parts.append(control())
            part = text(chance.randrange(0, FRAME_BYTES_MAX // count))
            parts.append(frame(opcode if n == 0 else CONT, part, fin=n == count - 1))
    if chance.random() < 0.5:
        within = frame(opcode, b"x", fin=False) + frame(opcode, b"y")
        parts.append(chance.choice([*FOUL, within, frame(CLOSE, (4000).to_bytes(2, "big") + b"bye")]))
        parts.append(frame(opcode, b"never"))
    return b"".join(parts)


def library(data: bytes, opcode: int) -> tuple[list[bytes], list[Sent]]:
    """The messages in a stream, and what a server that echoes them answers: echoes, pongs and at last a close."""
    protocol = ServerProtocol(state=State.OPEN, max_size=FRAME_BYTES_MAX)
    messages: list[bytes] = []
    sent: list[Sent] = []
    partial = b""
    protocol.receive_data(data)
    for event in protocol.events_received():
        assert isinstance(event, Frame)
        if event.opcode == PING:
            sent.append((PONG, bytes(event.data)))
        elif event.opcode in (CONT, TEXT, BINARY):
            partial += event.data
            if event.fin:
                messages.append(partial)
                sent.append((opcode, partial))
                partial = b""
    if protocol.close_sent is not None:
        sent.append((CLOSE, int(protocol.close_sent.code).to_bytes(2, "big")))
    return messages, sent


def cut(data: bytes, chance: random.Random) -> list[bytes]:
    """The stream in pieces: whole, byte by byte, or at random."""
    kind = chance.random()
    if kind < 0.1:
        return [data]
    if kind < 0.2 and len(data) < 3000:
        return [data[n : n + 1] for n in range(len(data))]
    points = sorted({0, len(data), *(chance.randrange(len(data) + 1) for _ in range(chance.randrange(1, 30)))})
    return [data[start:stop] for start, stop in zip(points, points[1:], strict=False)]


def check(seed: int, *, fast_path: bool) -> None:
    chance = random.Random(seed)
    opcode = chance.choice([TEXT, BINARY])
    data = stream(chance, opcode)
    settings = ListenerSettings(frame_bytes_max=FRAME_BYTES_MAX, control_frames_per_second_max=1000)
    rig = Rig(settings=settings, fast_path=fast_path)
    transport, recorder, peer = rig.open("skyloom.v1.json" if opcode == TEXT else "skyloom.v1.msgpack")
    recorder.on_message = recorder.link.send
    found: list[Sent] = []
    for piece in cut(data, chance):
        rig.feed(transport, piece)
        if chance.random() < 0.5:  # else several reads in one turn of the loop
            found += peer.frames()
    found += peer.frames()
    messages, sent = library(data, opcode)
    assert recorder.messages == messages, seed
    # The reason of a close is for people; the code is what was agreed.
    assert [(code, body[:2] if code == CLOSE else body) for code, body in found] == sent, seed


@pytest.mark.parametrize("fast_path", [True, False], ids=["fast", "library"])
def test_both_paths_say_what_the_library_says(fast_path: bool) -> None:
    for seed in range(150):
        check(seed, fast_path=fast_path)


@pytest.mark.ci
def test_the_fast_path_says_what_the_library_says_for_long() -> None:
    for seed in range(1000, 5_000):
        check(seed, fast_path=True)
