"""The client's protocol state, without any I/O."""

import pytest

from skyloom_gateway.client.conversation import Answer, Conversation, Limits, Quiet, Say, Tick
from skyloom_gateway.client.errors import ProtocolViolation
from skyloom_gateway.wire.codec import Codec
from skyloom_gateway.wire.frame import ID_MAX, Push, Welcome
from skyloom_gateway.wire.json import JSON
from skyloom_gateway.wire.msgpack import MSGPACK
from tests.gateway.client.double import WELCOME


def greeted(codec: Codec, **fields: object) -> Conversation:
    conversation = Conversation(codec, now=0.0)
    assert isinstance(conversation.receive(codec.welcome(WELCOME | fields), now=0.0), Welcome)
    return conversation


def push(codec: Codec, seq: int) -> bytes:
    return codec.push(seq, codec.push_tail("test.tick", codec.encode_body({})))


@pytest.mark.parametrize("codec", [JSON, MSGPACK], ids=["json", "msgpack"])
class TestConversation:
    def test_nothing_but_a_welcome_comes_first(self, codec: Codec) -> None:
        with pytest.raises(ProtocolViolation, match="Push came before the welcome"):
            Conversation(codec, now=0.0).receive(push(codec, 1), now=0.0)

    def test_a_second_welcome_is_a_violation(self, codec: Codec) -> None:
        with pytest.raises(ProtocolViolation, match="second welcome"):
            greeted(codec).receive(codec.welcome(WELCOME), now=1.0)

    def test_pushes_count_up_without_a_gap(self, codec: Codec) -> None:
        conversation = greeted(codec)
        assert isinstance(conversation.receive(push(codec, 1), now=1.0), Push)
        assert conversation.seq == 1
        with pytest.raises(ProtocolViolation, match="push 3 came after push 1"):
            conversation.receive(push(codec, 3), now=1.0)

    def test_a_ping_is_answered(self, codec: Codec) -> None:
        assert greeted(codec).receive(codec.ping(), now=1.0) == Say(codec.pong())

    def test_ids_skip_those_still_unanswered_when_they_wrap(self, codec: Codec) -> None:
        conversation = greeted(codec)
        assert conversation.request("test.echo", {})[0] == 1
        conversation._last_id = ID_MAX - 1
        assert [conversation.request("test.echo", {})[0] for _ in range(2)] == [ID_MAX, 2]

    def test_an_answer_counts_once(self, codec: Codec) -> None:
        conversation = greeted(codec)
        request_id, _ = conversation.request("test.echo", {})
        answer = codec.response(request_id, codec.encode_body({"n": 1}))
        assert conversation.receive(answer, now=1.0) == Answer(request_id, {"n": 1})
        assert conversation.receive(answer, now=1.0) == Quiet(late=True)

    def test_a_silent_connection_is_pinged_once_and_then_given_up(self, codec: Codec) -> None:
        conversation = greeted(codec, heartbeat=10)
        assert conversation.tick(0.0) == Tick(10.0)
        assert conversation.tick(4.0) == Tick(6.0)
        assert conversation.tick(10.0) == Tick(10.0, frame=codec.ping())
        assert conversation.tick(15.0) == Tick(5.0)
        assert conversation.tick(20.0).dead

    def test_any_frame_is_life(self, codec: Codec) -> None:
        conversation = greeted(codec, heartbeat=10)
        conversation.tick(10.0)
        conversation.receive(push(codec, 1), now=12.0)
        assert conversation.tick(20.0) == Tick(2.0)

    def test_odd_limits_leave_the_protocols_own(self, codec: Codec) -> None:
        odd = {"frame_bytes": "many", "messages_per_second": -1, "new": 3}
        assert greeted(codec, limits=odd).limits == Limits()
        assert greeted(codec, limits={"frame_bytes": 100}).limits == Limits(100, 50.0)
