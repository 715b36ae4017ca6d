"""What a client says to a session, and what it hears."""

from skyloom_gateway.session import Close, Event, Greeting, Phase, Reply, Session, SessionLimits, State
from skyloom_gateway.wire import JSON, Codec, ErrorFrame, Welcome, WireError

START = 1000.0
LIMITS = SessionLimits()
SECRET = "secret"


def frame(codec: Codec, name: str, number: int = 1) -> bytes:
    body = codec.encode_body({"x": 1})
    return {
        "hello": codec.hello({"auth": {"scheme": "guest"}}),
        "request": codec.request(number, "a.b", body),
        "notify": codec.notify("a.b", body),
        "ack": codec.ack(number),
        "ping": codec.ping(),
        "pong": codec.pong(),
        "garbage": b"garbage",
        "nothing": b"",
        "push": codec.push(1, codec.push_tail("a", body)),
        "not utf-8": b'{"type":"\xff"}' if codec is JSON else b"\xc1",
        "4 KiB": codec.hello({"auth": {"x": "x" * 4096}}),
        "64 KiB": codec.notify("a", codec.encode_body("x" * 65536)),
    }[name]


def greeted(codec: Codec, limits: SessionLimits = LIMITS) -> Session:
    return Session("s1", "ada", codec, limits, START, SECRET)


def welcomed(session: Session, *, recovered: bool = False) -> Welcome:
    """What a client gets that comes to carry the session."""
    welcome = session.codec.decode_server(session.welcome(recovered, {"heartbeat": 20}))
    assert isinstance(welcome, Welcome)
    return welcome


def told(codec: Codec, event: Event) -> WireError:
    """The error in a Reply or a Close; its id must be 0 unless the test looks itself."""
    assert isinstance(event, Reply | Close)
    assert event.frame is not None
    decoded = codec.decode_server(event.frame)
    assert isinstance(decoded, ErrorFrame)
    return decoded.error


def check(codec: Codec, subject: Session | Greeting, event: Event, expected: object) -> None:
    """An event is the one expected; a number is the code of a Close."""
    if isinstance(expected, int):
        assert isinstance(event, Close)
        assert event.code == expected
        assert len(event.reason.encode()) <= 123
        assert told(codec, event).message == event.reason
        if isinstance(subject, Session):
            assert subject.state is State.CLOSED
        else:
            assert subject.phase is Phase.OVER
    elif isinstance(expected, type):
        assert type(event) is expected
    else:
        assert event == expected
