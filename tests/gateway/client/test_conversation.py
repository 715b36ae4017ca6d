"""The client's protocol state, without any I/O."""

import pytest

from skyloom_gateway.client.conversation import Answer, Begun, Conversation, Event, Limits, Pending, Quiet, Tick
from skyloom_gateway.client.errors import MessageTooLarge, ProtocolViolation
from skyloom_gateway.wire.codec import Codec
from skyloom_gateway.wire.frame import ID_MAX, Hello, Push, Request, Resume
from skyloom_gateway.wire.json import JSON
from skyloom_gateway.wire.msgpack import MSGPACK
from tests.gateway.client.double import WELCOME


def connected(codec: Codec, now: float = 0.0) -> Conversation:
    conversation = Conversation(codec)
    conversation.connected({"scheme": "guest"}, {"name": "test"}, now)
    return conversation


def greeted(codec: Codec, **fields: object) -> Conversation:
    conversation = connected(codec)
    assert conversation.receive(codec.welcome(WELCOME | fields), now=0.0) == Begun(recovered=False)
    return conversation


def push(codec: Codec, seq: int) -> bytes:
    return codec.push(seq, codec.push_tail("test.tick", codec.encode_body({})))


def asked(conversation: Conversation, count: int = 1) -> list[Pending]:
    """Requests that were sent."""
    pending = [conversation.request("test.echo", {"n": n}) for n in range(count)]
    for _ in pending:
        assert conversation.take() is not None
    return pending


def return_of(conversation: Conversation, **fields: object) -> tuple[Hello, Event]:
    """A second connection: its hello, as the gateway reads it, and what the welcome amounts to."""
    codec = conversation.codec
    hello = codec.decode(conversation.connected({"scheme": "guest"}, {"name": "test"}, 100.0))
    assert isinstance(hello, Hello)
    return hello, conversation.receive(codec.welcome(WELCOME | {"key": "k-2"} | fields), now=100.0)


def taken(conversation: Conversation) -> list[int]:
    """The ids of what is sent now."""
    ids = []
    while (frame := conversation.take()) is not None:
        request = conversation.codec.decode(frame)
        assert isinstance(request, Request)
        ids.append(request.id)
    return ids


@pytest.mark.parametrize("codec", [JSON, MSGPACK], ids=["json", "msgpack"])
class TestConversation:
    def test_nothing_but_a_welcome_comes_first(self, codec: Codec) -> None:
        with pytest.raises(ProtocolViolation, match="Push came before the welcome"):
            connected(codec).receive(push(codec, 1), now=0.0)

    def test_a_second_welcome_is_a_violation(self, codec: Codec) -> None:
        with pytest.raises(ProtocolViolation, match="second welcome"):
            greeted(codec).receive(codec.welcome(WELCOME), now=1.0)

    def test_pushes_count_up_without_a_gap_and_each_counts_once(self, codec: Codec) -> None:
        conversation = greeted(codec)
        assert isinstance(conversation.receive(push(codec, 1), now=1.0), Push)
        assert conversation.seq == 1
        assert conversation.receive(push(codec, 1), now=1.0) == Quiet()
        with pytest.raises(ProtocolViolation, match="push 3 came after push 1"):
            conversation.receive(push(codec, 3), now=1.0)

    def test_a_ping_is_answered_at_once(self, codec: Codec) -> None:
        conversation = greeted(codec)
        conversation.receive(codec.ping(), now=1.0)
        assert conversation.due == 1.0
        assert conversation.tick(1.0) == Tick(20.0, (codec.pong(),))

    def test_ids_skip_those_still_unanswered_when_they_wrap(self, codec: Codec) -> None:
        conversation = greeted(codec)
        assert asked(conversation)[0].id == 1
        conversation._last_id = ID_MAX - 1
        assert [pending.id for pending in asked(conversation, 2)] == [ID_MAX, 2]

    def test_an_answer_counts_once(self, codec: Codec) -> None:
        conversation = greeted(codec)
        (pending,) = asked(conversation)
        answer = codec.response(pending.id, codec.encode_body({"n": 1}))
        assert conversation.receive(answer, now=1.0) == Answer(pending, {"n": 1})
        assert conversation.receive(answer, now=1.0) == Quiet(late=True)

    def test_a_request_that_is_never_sent_takes_no_id(self, codec: Codec) -> None:
        conversation = greeted(codec)
        asked(conversation)
        conversation.forget(conversation.request("test.echo", {}))
        with pytest.raises(MessageTooLarge):
            conversation.request("test.echo", {"text": "x" * 5000})
        assert asked(conversation)[0].id == 2

    def test_a_silent_connection_is_pinged_once_and_then_given_up(self, codec: Codec) -> None:
        conversation = greeted(codec, heartbeat=20)
        assert conversation.tick(0.0) == Tick(20.0)
        assert conversation.tick(4.0) == Tick(16.0)
        assert conversation.tick(20.0) == Tick(10.0, (codec.ping(),))
        assert conversation.tick(25.0) == Tick(5.0)
        assert conversation.tick(30.0).dead

    def test_any_frame_is_life(self, codec: Codec) -> None:
        conversation = greeted(codec, heartbeat=20)
        conversation.tick(20.0)
        conversation.receive(codec.pong(), now=22.0)
        assert conversation.tick(30.0) == Tick(12.0)

    def test_pushes_are_acknowledged_together(self, codec: Codec) -> None:
        conversation = greeted(codec)
        conversation.tick(0.0)
        for seq in range(1, 4):
            conversation.receive(push(codec, seq), now=seq / 10)
        assert conversation.due == pytest.approx(1.1)
        assert conversation.tick(1.0).frames == ()
        assert conversation.tick(1.1).frames == (codec.ack(3),)
        assert conversation.tick(3.0).frames == ()
        for seq in range(4, 36):
            conversation.receive(push(codec, seq), now=4.0)
        assert conversation.due == 4.0
        assert conversation.tick(4.0).frames == (codec.ack(35),)

    def test_it_asks_for_the_session_that_it_had(self, codec: Codec) -> None:
        conversation = greeted(codec)
        conversation.receive(push(codec, 1), now=1.0)
        hello, event = return_of(conversation, recovered=True)
        assert hello.resume == Resume("s-1", "k-1", 1)
        assert event == Begun(recovered=True)
        assert isinstance(conversation.receive(push(codec, 2), now=100.0), Push)
        hello, _ = return_of(conversation, recovered=True)
        assert hello.resume == Resume("s-1", "k-2", 2)

    def test_a_key_is_kept_until_the_next_one_has_arrived(self, codec: Codec) -> None:
        conversation = greeted(codec)
        conversation.connected({"scheme": "guest"}, {"name": "test"}, 50.0)
        hello, _ = return_of(conversation, recovered=True)
        assert hello.resume == Resume("s-1", "k-1", 0)

    def test_unanswered_requests_are_repeated_under_their_ids_before_new_ones(self, codec: Codec) -> None:
        conversation = greeted(codec)
        one, two, three = asked(conversation, 3)
        conversation.receive(codec.response(two.id, codec.encode_body({})), now=1.0)
        new = conversation.request("test.echo", {})
        return_of(conversation, recovered=True)
        # The gateway was still at work on the first, and answers it unasked.
        answer = conversation.receive(codec.response(one.id, codec.encode_body({})), now=100.0)
        assert answer == Answer(one, {})
        assert taken(conversation) == [three.id, 4]
        assert new.id == 4

    def test_a_new_session_orphans_all_that_is_unanswered_and_counts_from_one(self, codec: Codec) -> None:
        conversation = greeted(codec)
        conversation.receive(push(codec, 1), now=1.0)
        (sent,) = asked(conversation)
        waiting = conversation.request("test.echo", {})
        hello, event = return_of(conversation, session="s-2")
        assert hello.resume is not None
        assert event == Begun(recovered=False, orphans=(sent, waiting))
        assert (sent.sent, waiting.sent) == (True, False)
        assert taken(conversation) == []
        assert asked(conversation)[0].id == 1
        assert isinstance(conversation.receive(push(codec, 1), now=101.0), Push)

    @pytest.mark.parametrize("fields", [{"session": "s-2"}, {"session": "s-1"}])
    def test_what_was_not_asked_for_cannot_be_recovered(self, codec: Codec, fields: dict[str, object]) -> None:
        conversation = connected(codec) if fields["session"] == "s-1" else greeted(codec)
        with pytest.raises(ProtocolViolation, match="did not ask for"):
            return_of(conversation, recovered=True, **fields)

    def test_odd_limits_leave_the_protocols_own(self, codec: Codec) -> None:
        odd = {"frame_bytes": "many", "messages_per_second": -1, "new": 3}
        assert greeted(codec, limits=odd).limits == Limits()
        assert greeted(codec, limits={"frame_bytes": 100}).limits == Limits(100, 50.0)
