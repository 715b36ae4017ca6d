"""Hub and agents in memory and in virtual time: rooms, members, messages, errors."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from skyloom.sql import DatabaseBusy, DatabaseError
from skyloom_chat.hub import NEW_ROOMS_BURST, NEW_ROOMS_PER_HOUR, ROOMS_LISTED_MAX, ROOMS_MAX, ROOMS_OF_A_CLIENT_MAX
from skyloom_chat.room import Room
from tests.apps.chat.memory import Chat, MemoryHistory, open_chat


@pytest.fixture
async def chat() -> AsyncIterator[Chat]:
    async with open_chat(None, "lobby") as chat:
        yield chat


# -- rooms -----------------------------------------------------------------------------------------------------


async def test_a_room_is_made_joined_and_listed(chat: Chat) -> None:
    ada = await chat.talker("ada")
    assert await ada.ask("chat.create_room", room="den") == {"room": "den"}
    assert chat.history.names == ["lobby", "den"]
    joined = await ada.ask("chat.join", room="den")
    assert joined == {"room": "den", "members": ["ada"], "history": [], "member_count": 1, "more": False}
    assert await ada.ask("chat.rooms") == {"rooms": [{"room": "den", "members": 1}, {"room": "lobby", "members": 0}]}


async def test_of_two_that_make_a_room_at_once_one_is_told(chat: Chat) -> None:
    chat.history.pause = lambda: 0.1
    ada, bob = await chat.talker("ada"), await chat.talker("bob")
    codes = await asyncio.gather(ada.code("chat.create_room", room="den"), bob.code("chat.create_room", room="den"))
    assert list(codes) == ["", "chat.room_exists"]
    assert await bob.code("chat.create_room", room="lobby") == "chat.room_exists"


async def test_a_room_is_not_there_before_it_is_stored(chat: Chat) -> None:
    chat.history.pause = lambda: 1.0
    ada, bob = await chat.talker("ada"), await chat.talker("bob")
    making = asyncio.create_task(ada.ask("chat.create_room", room="den"))
    await asyncio.sleep(0.5)
    assert await bob.code("chat.join", room="den") == "chat.room_not_found"
    await making
    assert await bob.code("chat.join", room="den") == ""


async def test_a_room_that_could_not_be_stored_can_be_made_later(chat: Chat) -> None:
    ada = await chat.talker("ada")
    chat.history.failure = DatabaseError("/secret/path: disk full")
    assert await ada.code("chat.create_room", room="den") == "chat.storage_failed"
    chat.history.failure = None
    assert await ada.code("chat.join", room="den") == "chat.room_not_found"
    assert await ada.code("chat.create_room", room="den") == ""


async def test_a_room_that_was_stored_unanswered_is_found_by_who_makes_it_again(chat: Chat) -> None:
    ada = await chat.talker("ada")
    chat.history.names.append("den")
    assert await ada.code("chat.create_room", room="den") == "chat.room_exists"
    assert await ada.code("chat.join", room="den") == ""


async def test_rooms_have_bounds(chat: Chat) -> None:
    ada = await chat.talker("ada")
    chat.hub.rooms = {f"r{n}": Room(f"r{n}") for n in range(ROOMS_MAX)}
    assert await ada.code("chat.create_room", room="one-more") == "chat.too_many_rooms"
    assert len((await ada.ask("chat.rooms"))["rooms"]) == ROOMS_LISTED_MAX
    for n in range(ROOMS_OF_A_CLIENT_MAX):
        await ada.ask("chat.join", room=f"r{n}")
    assert await ada.code("chat.join", room="r9000") == "chat.too_many_rooms"
    assert await ada.code("chat.join", room="r0") == ""  # is in there
    await ada.ask("chat.leave", room="r0")
    assert await ada.code("chat.join", room="r9000") == ""


async def test_one_user_cannot_use_up_all_rooms(chat: Chat) -> None:
    """Not even with many sessions; it may go on as time passes, and the others may at once."""
    sessions = [await chat.talker("ada") for _ in range(4)]
    codes = [await sessions[n % 4].code("chat.create_room", room=f"r{n}") for n in range(NEW_ROOMS_BURST + 8)]
    assert codes == [""] * NEW_ROOMS_BURST + ["chat.too_many_rooms"] * 8
    bob = await chat.talker("bob")
    assert await bob.code("chat.create_room", room="bobs") == ""
    await asyncio.sleep(3600 / NEW_ROOMS_PER_HOUR + 1)
    assert await sessions[0].code("chat.create_room", room="later") == ""
    assert await sessions[1].code("chat.create_room", room="too-soon") == "chat.too_many_rooms"


@pytest.mark.parametrize("route", ["chat.create_room", "chat.join", "chat.leave", "chat.history"])
@pytest.mark.parametrize("room", ["", "x" * 65, "den\n", "a b", "é", 5, None])
async def test_a_room_name_that_cannot_be_never_reaches_the_hub(chat: Chat, route: str, room: object) -> None:
    ada = await chat.talker("ada")
    assert await ada.code(route, room=room) == "gateway.invalid_body"
    assert list(chat.hub.rooms) == ["lobby"]


@pytest.mark.parametrize("route", ["chat.join", "chat.history"])
async def test_a_room_that_is_not_there(chat: Chat, route: str) -> None:
    ada = await chat.talker("ada")
    assert await ada.code(route, room="x" * 64) == "chat.room_not_found"


async def test_leaving_a_room_that_one_is_not_in_is_no_error(chat: Chat) -> None:
    ada, bob = await chat.talker("ada"), await chat.talker("bob", "lobby")
    assert await ada.ask("chat.leave", room="lobby") == {}
    assert await ada.ask("chat.leave", room="nowhere") == {}
    await chat.settle()
    assert bob.pushes == []


# -- members ---------------------------------------------------------------------------------------------------


async def test_joining_and_leaving_are_told_to_the_others_only(chat: Chat) -> None:
    ada, bob = await chat.talker("ada", "lobby"), await chat.talker("bob", "lobby")
    outside = await chat.talker("eve")
    await chat.settle()
    assert [(route, body["room"], body["user"]) for route, body in ada.pushes] == [("chat.joined", "lobby", "bob")]
    assert bob.pushes == []
    await bob.ask("chat.leave", room="lobby")
    await chat.settle()
    assert [(route, body["user"]) for route, body in ada.pushes[1:]] == [("chat.left", "bob")]
    assert bob.pushes == outside.pushes == []


async def test_a_second_tab_is_not_told_and_is_listed_once(chat: Chat) -> None:
    bob = await chat.talker("bob", "lobby")
    first, second = await chat.talker("ada", "lobby"), await chat.talker("ada")
    assert (await second.ask("chat.join", room="lobby"))["members"] == ["bob", "ada"]
    await second.ask("chat.join", room="lobby")  # again
    await chat.settle()
    assert [route for route, _ in bob.pushes] == ["chat.joined"]
    assert first.pushes == []
    await first.ask("chat.leave", room="lobby")
    await chat.settle()
    assert bob.pushed("chat.left") == []
    assert (await bob.ask("chat.rooms"))["rooms"] == [{"room": "lobby", "members": 2}]
    await second.ask("chat.leave", room="lobby")
    await chat.settle()
    assert len(bob.pushed("chat.left")) == 1


async def test_what_one_tab_says_reaches_the_other(chat: Chat) -> None:
    first, second = await chat.talker("ada", "lobby"), await chat.talker("ada", "lobby")
    said = await first.ask("chat.say", room="lobby", text="hello")
    await chat.settle()
    assert second.pushed("chat.message") == [said | {"room": "lobby", "user": "ada", "text": "hello"}]
    assert first.pushes == []


@pytest.mark.parametrize("how", ["disconnect", "kill"])
async def test_who_goes_without_a_word_leaves_all_rooms(chat: Chat, how: str) -> None:
    ada = await chat.talker("ada", "lobby")
    await ada.ask("chat.create_room", room="den")
    await ada.ask("chat.join", room="den")
    bob = await chat.talker("bob", "lobby", "den")
    if how == "kill":
        assert chat.node.kill(bob.agent)
        await chat.settle()
    else:
        await bob.disconnect()
    assert sorted(body["room"] for body in ada.pushed("chat.left")) == ["den", "lobby"]
    assert (await ada.ask("chat.join", room="lobby"))["members"] == ["ada"]
    assert bob.agent not in chat.hub._rooms_of


async def test_who_dies_while_joining_is_not_left_in_the_room(chat: Chat) -> None:
    chat.history.pause = lambda: 1.0
    ada = await chat.talker("ada")
    joining = asyncio.create_task(ada.code("chat.join", room="lobby"))
    await asyncio.sleep(0.5)
    chat.node.kill(ada.agent)
    with pytest.raises(Exception, match="killed"):
        await joining
    await asyncio.sleep(5)
    assert chat.hub.rooms["lobby"].users == []
    assert chat.hub._rooms_of == {}


# -- messages --------------------------------------------------------------------------------------------------


async def test_a_message_goes_to_the_others_once(chat: Chat) -> None:
    ada, bob, eve = [await chat.talker(name, "lobby") for name in ("ada", "bob", "eve")]
    outside = await chat.talker("mallory")
    said = await ada.ask("chat.say", room="lobby", text="hello")
    await chat.settle()
    message = said | {"room": "lobby", "user": "ada", "text": "hello"}
    assert bob.pushed("chat.message") == eve.pushed("chat.message") == [message]
    assert ada.pushed("chat.message") == []
    assert outside.pushes == []
    assert (await outside.ask("chat.join", room="lobby"))["history"] == [message]


@pytest.mark.parametrize("text", ["x", "x" * 2000, "\U0001f3b2" * 2000, "<b>&\"'\n", " "])
async def test_texts_arrive_as_they_are(chat: Chat, text: str) -> None:
    ada, bob = await chat.talker("ada", "lobby"), await chat.talker("bob", "lobby")
    await ada.ask("chat.say", room="lobby", text=text)
    await chat.settle()
    assert [message["text"] for message in bob.pushed("chat.message")] == [text]


@pytest.mark.parametrize("text", ["", "x" * 2001, "a\0b", 5, None])
async def test_a_text_that_cannot_be_is_refused(chat: Chat, text: object) -> None:
    ada = await chat.talker("ada", "lobby")
    assert await ada.code("chat.say", room="lobby", text=text) == "gateway.invalid_body"
    assert chat.history.messages == []


async def test_only_members_speak(chat: Chat) -> None:
    ada = await chat.talker("ada")
    assert await ada.code("chat.say", room="lobby", text="x") == "chat.not_a_member"
    assert await ada.code("chat.say", room="nowhere", text="x") == "chat.not_a_member"
    await ada.ask("chat.join", room="lobby")
    await ada.ask("chat.leave", room="lobby")
    assert await ada.code("chat.say", room="lobby", text="x") == "chat.not_a_member"
    assert chat.history.messages == []


async def test_ids_and_pushes_have_one_order(chat: Chat) -> None:
    chat.history.pause = lambda: 0.01
    listener = await chat.talker("eve", "lobby")
    talkers = [await chat.talker(f"user{n}", "lobby") for n in range(10)]
    listener.pushes.clear()
    said = await asyncio.gather(
        *(talker.ask("chat.say", room="lobby", text=f"{n}") for n in range(5) for talker in talkers)
    )
    await chat.settle()
    ids = [message["id"] for message in listener.pushed("chat.message")]
    assert ids == sorted(ids) == sorted(answer["id"] for answer in said)
    assert len(set(ids)) == 50
    # One client's requests are handled in the order in which they came.
    for talker in talkers:
        texts = [m["text"] for m in listener.pushed("chat.message") if m["user"] == talker.user]
        assert texts == ["0", "1", "2", "3", "4"]


async def test_typing_is_told_to_the_others_and_needs_membership(chat: Chat) -> None:
    ada, bob = await chat.talker("ada", "lobby"), await chat.talker("bob", "lobby")
    outside = await chat.talker("eve")
    ada.pushes.clear()
    for talker in (ada, outside):
        await talker.ask_nothing("chat.typing", room="lobby")
    await chat.settle()
    assert bob.pushes == [("chat.typing", {"room": "lobby", "user": "ada"})]
    assert ada.pushes == outside.pushes == []


# -- history ---------------------------------------------------------------------------------------------------


async def test_history_is_paged_backwards(chat: Chat) -> None:
    ada = await chat.talker("ada", "lobby")
    for n in range(120):
        await ada.ask("chat.say", room="lobby", text=f"{n}")
    joined = await ada.ask("chat.join", room="lobby")
    assert [message["id"] for message in joined["history"]] == list(range(71, 121))
    assert joined["more"]
    seen = joined["history"]
    for first, more in ((21, True), (1, False)):
        page = await ada.ask("chat.history", room="lobby", before=seen[0]["id"])
        assert page["more"] is more
        seen = page["messages"] + seen
        assert seen[0]["id"] == first
    assert [message["text"] for message in seen] == [str(n) for n in range(120)]
    page = await ada.ask("chat.history", room="lobby", limit=3)
    assert [message["id"] for message in page["messages"]] == [118, 119, 120]
    assert await ada.ask("chat.history", room="lobby", before=1) == {"messages": [], "more": False}
    assert (await ada.ask("chat.history", room="lobby", limit=119))["more"]
    assert not (await ada.ask("chat.history", room="lobby", limit=120))["more"]


@pytest.mark.parametrize(("stored", "more"), [(0, False), (49, False), (50, False), (51, True), (101, True)])
async def test_a_restarted_hub_knows_what_was_said_and_whether_there_is_more(stored: int, more: bool) -> None:
    history = MemoryHistory()
    for n in range(stored):
        history.commit("lobby", "ada", f"{n}", float(n))
    async with open_chat(history, "lobby") as chat:
        bob = await chat.talker("bob")
        joined = await bob.ask("chat.join", room="lobby")
        assert [message["text"] for message in joined["history"]] == [f"{n}" for n in range(stored)][-50:]
        assert joined["more"] is more


@pytest.mark.parametrize("more_said", [1, 50, 51])
async def test_messages_said_since_the_start_count_too(chat: Chat, more_said: int) -> None:
    ada = await chat.talker("ada", "lobby")
    for n in range(more_said):
        await ada.ask("chat.say", room="lobby", text=f"{n}")
    joined = await ada.ask("chat.join", room="lobby")
    assert len(joined["history"]) == min(50, more_said)
    assert joined["more"] is (more_said > 50)
    assert chat.history.reads == 1


# -- storage ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("failure", [DatabaseError("/secret/path: disk full"), DatabaseBusy("12 wait")])
async def test_a_failing_storage_is_told_without_internals(chat: Chat, failure: DatabaseError) -> None:
    ada, bob = await chat.talker("ada", "lobby"), await chat.talker("bob", "lobby")
    ada.pushes.clear()
    chat.history.failure = failure
    for route, body in (("chat.say", {"text": "x"}), ("chat.history", {})):
        error = await ada.failure(route, room="lobby", **body)
        assert error.code == "chat.storage_failed"
        assert error.kind == "unavailable"
        assert error.retryable
        assert error.details == {}
        assert "secret" not in error.message
        assert "12" not in error.message
    chat.history.failure = None
    assert await ada.code("chat.say", room="lobby", text="x") == ""
    await chat.settle()
    assert len(bob.pushed("chat.message")) == 1


async def test_a_join_that_cannot_read_lets_nobody_in(chat: Chat) -> None:
    chat.history.failure = DatabaseError("gone")
    ada = await chat.talker("ada")
    assert await ada.code("chat.join", room="lobby") == "chat.storage_failed"
    assert chat.hub.rooms["lobby"].users == []
    chat.history.failure = None
    assert await ada.code("chat.join", room="lobby") == ""


async def test_a_slow_write_does_not_hold_up_the_others(chat: Chat) -> None:
    ada, bob = await chat.talker("ada", "lobby"), await chat.talker("bob", "lobby")
    chat.history.pause = lambda: 1.0
    saying = asyncio.create_task(ada.ask("chat.say", room="lobby", text="x"))
    started = asyncio.get_running_loop().time()
    await bob.ask("chat.rooms")
    await bob.ask("chat.join", room="lobby")
    assert asyncio.get_running_loop().time() - started < 0.1
    await saying
