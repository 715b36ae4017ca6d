"""Whatever can be said in both encodings arrives as it was sent."""

from hypothesis import given
from hypothesis import strategies as st

from skyloom_gateway.wire import (
    ID_MAX,
    JSON,
    MSGPACK,
    SEQ_MAX,
    Ack,
    Codec,
    Drain,
    ErrorFrame,
    ErrorKind,
    Hello,
    Notify,
    Push,
    Request,
    Response,
    Resume,
    Welcome,
    WireError,
)

codecs = st.sampled_from([JSON, MSGPACK])
ids = st.integers(0, ID_MAX)
seqs = st.integers(0, SEQ_MAX)
routes = st.from_regex(r"[a-z][a-z0-9_.]{0,127}", fullmatch=True)
texts = st.text(max_size=40)
scalars = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
)
bodies = st.recursive(
    scalars | texts,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(texts, inner, max_size=5),
    max_leaves=60,
)
maps = st.dictionaries(texts, scalars | texts, max_size=5)


@given(codecs, ids, routes, bodies)
def test_request_and_notify(codec: Codec, id: int, route: str, body: object) -> None:
    request = codec.decode(codec.request(id, route, codec.encode_body(body)))
    assert isinstance(request, Request)
    assert (request.id, request.route) == (id, route)
    assert codec.decode_body(request.body) == body
    notify = codec.decode(codec.notify(route, codec.encode_body(body)))
    assert isinstance(notify, Notify)
    assert notify.route == route
    assert codec.decode_body(notify.body) == body


@given(codecs, maps, st.none() | maps, st.none() | st.builds(Resume, texts, texts, seqs))
def test_hello(codec: Codec, auth: dict[str, object], client: dict[str, object] | None, resume: Resume | None) -> None:
    fields: dict[str, object] = {"auth": auth, "client": client}
    if resume is not None:
        fields["resume"] = {"session": resume.session, "key": resume.key, "seq": resume.seq}
    assert codec.decode(codec.hello(fields)) == Hello(auth, client, resume)


@given(codecs, seqs)
def test_ack(codec: Codec, seq: int) -> None:
    assert codec.decode(codec.ack(seq)) == Ack(seq)


@given(codecs, ids, seqs, routes, bodies)
def test_response_and_push(codec: Codec, id: int, seq: int, route: str, body: object) -> None:
    packed = codec.encode_body(body)
    assert codec.decode_server(codec.response(id, packed)) == Response(id, body)
    assert codec.decode_server(codec.push(seq, codec.push_tail(route, packed))) == Push(seq, route, body)


@given(codecs, ids, st.builds(WireError, texts, st.sampled_from(ErrorKind), texts, st.booleans(), maps))
def test_error(codec: Codec, id: int, error: WireError) -> None:
    assert codec.decode_server(codec.error(id, error)) == ErrorFrame(id, error)


@given(codecs, texts, st.floats(0, 1e6))
def test_drain(codec: Codec, reason: str, reconnect_in: float) -> None:
    assert codec.decode_server(codec.drain(reason, reconnect_in)) == Drain(reason, reconnect_in)


@given(codecs, texts, texts, texts, st.booleans(), st.floats(0, 60), maps, st.none() | texts)
def test_welcome(
    codec: Codec,
    session: str,
    key: str,
    user: str,
    recovered: bool,
    heartbeat: float,
    limits: dict[str, object],
    contract: str | None,
) -> None:
    fields: dict[str, object] = {
        "session": session,
        "key": key,
        "user": user,
        "recovered": recovered,
        "heartbeat": heartbeat,
        "limits": limits,
        "contract": contract,
    }
    frame = codec.decode_server(codec.welcome(fields))
    assert frame == Welcome(session, key, user, recovered, heartbeat, limits, contract, fields)
