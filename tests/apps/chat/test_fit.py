"""Answers that fit their connection."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import to_json

from skyloom import Address
from skyloom_chat.fit import ANSWER_BYTES_MAX, fit_joined, fit_messages
from skyloom_chat.messages import Joined, Message, Messages
from skyloom_chat.room import Member
from skyloom_gateway import ClientRef
from skyloom_gateway.wire import CODECS
from tests.apps.chat.memory import Chat, MemoryHistory, Talker, open_chat
from tests.examples import examples

TCP_BODY_BYTES = 65_000
UNSENT_BYTES = 256 * 1024
CODEC = {codec.name: codec for codec in CODECS.values()}
# The longest in json, in msgpack, and what people write.
TEXTS = st.text(st.sampled_from('\x01\U0001f3b2a"é'), min_size=1, max_size=2000)


def message(id: int, text: str) -> Message:
    return Message(id=id, room="r" * 64, user="\U0001f3b2" * 64, text=text, time=1_790_000_000.123456)


@examples(40)
@given(
    texts=st.lists(st.tuples(TEXTS, st.integers(1, 2000)), max_size=60),
    members=st.lists(st.tuples(st.text(min_size=1, max_size=64), st.integers(1, 500)), max_size=8),
    encoding=st.sampled_from(["json", "msgpack"]),
)
def test_what_is_kept_is_the_newest_and_fits(
    texts: list[tuple[str, int]], members: list[tuple[str, int]], encoding: str
) -> None:
    history = [message(n, (text * times)[:2000]) for n, (text, times) in enumerate(texts)]
    names = [name for name, times in members for _ in range(times)]
    size = ANSWER_BYTES_MAX[encoding]
    limit = {"json": UNSENT_BYTES, "msgpack": TCP_BODY_BYTES}[encoding]
    joined = Joined(room="r" * 64, members=names, history=history, member_count=len(names), more=False)
    fitted = fit_joined(joined, size)
    assert len(CODEC[encoding].encode_body(fitted)) <= limit
    assert fitted.members == names[len(names) - len(fitted.members) :]
    assert fitted.history == history[len(history) - len(fitted.history) :]
    assert fitted.more is (len(fitted.history) < len(history))
    assert bool(fitted.history) is bool(history)
    assert bool(fitted.members) is bool(names)
    page = fit_messages(Messages(messages=history, more=True), size)
    assert len(CODEC[encoding].encode_body(page)) <= limit
    assert page.messages == history[len(history) - len(page.messages) :]
    assert len(page.messages) >= len(fitted.history)
    assert page.more


@pytest.mark.parametrize(("encoding", "limit"), [("json", UNSENT_BYTES), ("msgpack", TCP_BODY_BYTES)])
def test_many_names_and_long_messages_share_the_space(encoding: str, limit: int) -> None:
    history = [message(n, "\U0001f3b2" * 2000) for n in range(50)]
    names = ["\U0001f3b2" * 64] * 2000
    joined = Joined(room="r", members=names, history=history, member_count=2000, more=False)
    fitted = fit_joined(joined, ANSWER_BYTES_MAX[encoding])
    size = len(CODEC[encoding].encode_body(fitted))
    assert limit * 0.6 < size <= limit
    assert fitted.members
    assert fitted.history
    assert fitted.more


def test_nothing_is_left_out_without_need() -> None:
    history = [message(n, "x" * 2000) for n in range(50)]
    joined = Joined(room="r", members=["ada"] * 1000, history=history, member_count=1000, more=False)
    assert fit_joined(joined, ANSWER_BYTES_MAX["json"]) is joined
    page = Messages(messages=history, more=False)
    assert fit_messages(page, len(to_json(history))) is page
    short = fit_messages(page, len(to_json(history)) - 3)
    assert (len(short.messages), short.more) == (49, True)


async def read_all(talker: Talker) -> list[int]:
    """All ids of the room, page by page."""
    answer = await talker.ask("chat.join", room="lobby")
    ids = [one["id"] for one in answer["history"]]
    while answer["more"]:
        answer = await talker.ask("chat.history", room="lobby", before=ids[0], limit=1000)
        ids = [one["id"] for one in answer["messages"]] + ids
    return ids


@pytest.mark.parametrize("text", ["x" * 2000, "\U0001f3b2" * 2000, "\x01" * 2000])
async def test_a_room_of_long_messages_is_read_page_by_page(text: str) -> None:
    history = MemoryHistory()
    for _ in range(120):
        history.commit("lobby", "ada", text, 0.5)
    async with open_chat(history, "lobby") as chat:
        assert await read_all(await chat.talker("bob")) == list(range(1, 121))


def fill(chat: Chat, names: list[str]) -> None:
    room = chat.hub.rooms["lobby"]
    for number, name in enumerate(names):
        client = ClientRef(chat.gate.address, f"x{number}", "msgpack")
        room.enter(Address("elsewhere", number + 1), Member(name, client))


async def test_a_room_of_two_thousand_lists_them_all() -> None:
    names = [f"guest-{n:06}" for n in range(1999)]
    async with open_chat(None, "lobby") as chat:
        fill(chat, names)
        ada = await chat.talker("ada")
        joined = await ada.ask("chat.join", room="lobby")
        assert joined["members"] == [*names, "ada"]
        assert joined["member_count"] == 2000
        assert (await ada.ask("chat.rooms"))["rooms"] == [{"room": "lobby", "members": 2000}]


async def test_a_room_with_more_names_than_fit_lists_the_latest() -> None:
    names = [f"{n:03}" + "\U0001f3b2" * 61 for n in range(300)]
    async with open_chat(None, "lobby") as chat:
        fill(chat, names)
        ada = await chat.talker("ada")
        joined = await ada.ask("chat.join", room="lobby")
        assert joined["member_count"] == 301
        assert 100 < len(joined["members"]) < 300
        assert joined["members"] == [*names, "ada"][-len(joined["members"]) :]
