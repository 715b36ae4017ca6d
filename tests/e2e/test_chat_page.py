"""The chat page in Chromium, with the gateway played by FakeChat."""

import pytest
from playwright.async_api import BrowserContext, expect

from tests.e2e.chat_reader import enter, room_item, say, texts
from tests.e2e.fake_chat import FakeChat

pytestmark = pytest.mark.asyncio(loop_scope="module")

DIRECTORY_AGAIN_MILLISECONDS = 2_000


async def test_two_people_talk_and_one_leaves(chat: FakeChat, context: BrowserContext) -> None:
    ada = await enter(chat, context, "ada", "den")
    bob = await enter(chat, context, "bob", "den")
    await expect(ada.get_by_test_id("notice")).to_contain_text("bob joined")
    await say(ada, "Hello bob")
    await expect(texts(bob)).to_have_text(["Hello bob"])
    await say(bob, "Hello ada")
    await expect(texts(ada)).to_have_text(["Hello bob", "Hello ada"])
    await expect(texts(bob)).to_have_text(["Hello bob", "Hello ada"])
    await expect(ada.get_by_test_id("member")).to_have_count(2)
    await bob.get_by_test_id("leave").click()
    await expect(bob.get_by_test_id("empty")).to_be_visible()
    await expect(ada.get_by_test_id("notice").last).to_contain_text("bob left")
    await expect(ada.get_by_test_id("member")).to_have_count(1)


async def test_rooms_are_listed_with_their_members_and_joined_by_a_click(
    chat: FakeChat, context: BrowserContext
) -> None:
    page = await enter(chat, context, "ada")
    others = page.get_by_test_id("join-room")
    await expect(others).to_have_count(2)
    await expect(others.first).to_contain_text("lobby")
    await expect(others.first.get_by_test_id("member-count")).to_have_text("2")
    await others.first.click()
    await expect(page.get_by_test_id("room-title")).to_have_text("# lobby")
    await expect(page.get_by_test_id("member")).to_have_count(3)
    await expect(page.get_by_test_id("room-count")).to_have_text("3 members")


async def test_pushes_that_overtake_the_answer_to_a_join_are_not_lost(chat: FakeChat, context: BrowserContext) -> None:
    def overtake() -> None:
        chat.members["lobby"]["eve"] = None
        chat.tell("lobby", "chat.joined", {"room": "lobby", "user": "eve", "time": chat.now})
        chat.post("lobby", "eve", "quick")

    chat.post("lobby", "grace", "before")
    chat.overtaking = overtake
    page = await enter(chat, context, "ada", "lobby")
    await expect(texts(page)).to_have_text(["before", "quick"])
    await expect(page.get_by_test_id("member").filter(has_text="eve")).to_have_count(1)
    await expect(page.get_by_test_id("room-count")).to_have_text("4 members")


@pytest.mark.ci
async def test_a_room_too_full_to_list_is_counted(chat: FakeChat, context: BrowserContext) -> None:
    chat.unlisted = 1000
    page = await enter(chat, context, "ada", "lobby")
    await expect(page.get_by_test_id("room-count")).to_have_text("1003 members")
    await expect(page.get_by_test_id("member")).to_have_count(3)
    chat.tell("lobby", "chat.left", {"room": "lobby", "user": "one of the thousand", "time": chat.now})
    await expect(page.get_by_test_id("room-count")).to_have_text("1002 members")


async def test_a_new_room_is_empty_and_says_so(chat: FakeChat, context: BrowserContext) -> None:
    page = await enter(chat, context, "ada")
    await page.get_by_test_id("room-name-input").fill("new room")
    await expect(page.get_by_test_id("room-submit")).to_have_text("Create")
    await page.keyboard.press("Enter")
    await expect(page.get_by_test_id("room-title")).to_have_text("# new-room")
    await expect(page.get_by_test_id("beginning")).to_contain_text("Nothing has been said yet")
    await expect(page.get_by_test_id("text")).to_be_focused()


async def test_a_room_name_that_cannot_be_is_refused_on_the_spot(chat: FakeChat, context: BrowserContext) -> None:
    page = await enter(chat, context, "ada")
    await page.get_by_test_id("room-name-input").fill("no/slash")
    await page.keyboard.press("Enter")
    await expect(page.get_by_test_id("room-error")).to_contain_text("letters, digits")
    assert all(frame.get("route") != "chat.create_room" for frame in chat.sessions[0].received)


@pytest.mark.ci
async def test_other_rooms_count_what_is_unread_and_mark_where_it_begins(
    chat: FakeChat, context: BrowserContext
) -> None:
    page = await enter(chat, context, "ada", "raid", "lobby")
    chat.post("raid", "grace", "one")
    chat.post("raid", "grace", "two")
    await expect(room_item(page, "raid").get_by_test_id("unread")).to_have_text("2")
    await expect(page).to_have_title("(2) #lobby · Skyloom chat")
    await expect(texts(page)).to_have_count(0)
    await room_item(page, "raid").click()
    await expect(texts(page)).to_have_text(["one", "two"])
    await expect(page.get_by_test_id("divider-new")).to_be_visible()
    await expect(room_item(page, "raid").get_by_test_id("unread")).to_have_count(0)
    await expect(page).to_have_title("#raid · Skyloom chat")


@pytest.mark.ci
async def test_the_unsent_text_of_each_room_is_kept(chat: FakeChat, context: BrowserContext) -> None:
    page = await enter(chat, context, "ada", "raid", "lobby")
    await page.get_by_test_id("text").fill("for the lobby")
    await room_item(page, "raid").click()
    await expect(page.get_by_test_id("text")).to_have_value("")
    await room_item(page, "lobby").click()
    await expect(page.get_by_test_id("text")).to_have_value("for the lobby")


@pytest.mark.ci
async def test_scrolling_up_loads_all_that_was_said_once_and_in_order(chat: FakeChat, context: BrowserContext) -> None:
    for n in range(120):
        chat.post("lobby", "grace", f"message {n}")
    page = await enter(chat, context, "ada", "lobby")
    await expect(texts(page)).to_have_count(50)
    for count in (100, 120):
        await page.get_by_test_id("timeline").evaluate("box => box.scrollTop = 0")
        await expect(texts(page)).to_have_count(count)
        await expect(page.get_by_test_id("load-older")).not_to_have_text("Loading…")
    assert await texts(page).all_text_contents() == [f"message {n}" for n in range(120)]
    await expect(page.get_by_test_id("beginning")).to_be_visible()
    await expect(page.get_by_test_id("load-older")).to_be_hidden()


@pytest.mark.ci
async def test_what_is_read_stays_put_when_older_or_newer_messages_come(
    chat: FakeChat, context: BrowserContext
) -> None:
    for n in range(120):
        chat.post("lobby", "grace", f"message {n}")
    page = await enter(chat, context, "ada", "lobby")
    await expect(texts(page)).to_have_count(50)
    await page.get_by_test_id("timeline").evaluate("box => box.scrollTop = 60")
    await expect(texts(page)).to_have_count(100)
    place = await texts(page).nth(55).bounding_box()
    assert place is not None
    assert 60 < place["y"] < 800
    chat.post("lobby", "grace", "news")
    await expect(page.get_by_test_id("jump")).to_have_text("1 new message")
    assert await texts(page).nth(55).bounding_box() == place
    await page.get_by_test_id("jump").click()
    await expect(texts(page).last).to_be_in_viewport()
    await expect(page.get_by_test_id("jump")).to_be_hidden()


@pytest.mark.ci
async def test_typing_is_told_both_ways_and_ends_with_the_message(chat: FakeChat, context: BrowserContext) -> None:
    ada = await enter(chat, context, "ada", "lobby")
    bob = await enter(chat, context, "bob", "lobby")
    await ada.get_by_test_id("text").press_sequentially("Hel")
    await expect(bob.get_by_test_id("typing")).to_have_text("ada is typing…")
    notes = [frame for frame in chat.sessions[0].received if frame["type"] == "notify"]
    assert notes == [{"type": "notify", "route": "chat.typing", "body": {"room": "lobby"}}]
    await ada.keyboard.press("Enter")
    await expect(bob.get_by_test_id("typing")).to_have_text("")


@pytest.mark.ci
async def test_markup_in_names_and_texts_is_only_text(chat: FakeChat, context: BrowserContext) -> None:
    attack = "<img src=x onerror=document.title='owned'><b>x</b>"
    ada = await enter(chat, context, attack[:64], "lobby")
    bob = await enter(chat, context, "bob", "lobby")
    await say(ada, attack)
    await expect(texts(bob)).to_have_text([attack])
    await expect(bob.get_by_test_id("member").nth(1)).to_contain_text(attack[:64])
    for page in (ada, bob):
        assert await page.locator("img, b").count() == 0
        assert "owned" not in await page.title()


async def test_a_refused_name_says_why(chat: FakeChat, context: BrowserContext) -> None:
    chat.hello_error = ("gateway.unauthenticated", "This name is taken.", 4401)
    page = await chat.open(context)
    await page.get_by_test_id("name-input").fill("ada")
    await page.keyboard.press("Enter")
    for _ in range(100):
        if chat.closings:
            break
        await page.wait_for_timeout(20)
    await chat.closings.pop()
    await expect(page.get_by_test_id("sign-in-error")).to_have_text("This name is taken.")
    await expect(page.get_by_test_id("sign-in-button")).to_be_enabled()
    await expect(page.get_by_test_id("name-input")).to_be_focused()


@pytest.mark.ci
async def test_signing_out_forgets_the_rooms_and_keeps_the_name(chat: FakeChat, context: BrowserContext) -> None:
    page = await enter(chat, context, "ada", "lobby")
    await page.get_by_test_id("sign-out").click()
    await expect(page.get_by_test_id("name-input")).to_have_value("ada")
    await page.reload()
    await expect(page.get_by_test_id("sign-in")).to_be_visible()
    await page.get_by_test_id("sign-in-button").click()
    await expect(page.get_by_test_id("empty")).to_be_visible()


async def test_a_search_finds_rooms_that_others_made_a_moment_ago(chat: FakeChat, context: BrowserContext) -> None:
    await context.clock.install(time="2030-01-01T12:00")
    page = await enter(chat, context, "ada")
    await expect(page.get_by_test_id("join-room")).to_have_count(2)
    await page.clock.pause_at("2030-01-01T13:00")
    session = chat.sessions[0]

    def asked() -> int:
        return sum(frame.get("route") == "chat.rooms" for frame in session.received)

    before = asked()
    chat.add_room("den", "eve")
    await page.get_by_test_id("room-name-input").blur()
    await page.get_by_test_id("room-name-input").focus()
    await page.clock.run_for(DIRECTORY_AGAIN_MILLISECONDS)
    await expect(page.get_by_test_id("join-room")).to_have_count(3)
    assert asked() == before + 1
    chat.add_room("den-of-eve", "eve")
    for letter in "den-of-eve":
        await page.get_by_test_id("room-name-input").press_sequentially(letter)
        await page.clock.run_for(DIRECTORY_AGAIN_MILLISECONDS // 12)  # faster than it may ask
    await expect(page.get_by_test_id("no-rooms")).to_contain_text("No room matches")
    await page.clock.run_for(DIRECTORY_AGAIN_MILLISECONDS)
    await expect(page.get_by_test_id("join-room")).to_have_count(1)
    await expect(page.get_by_test_id("room-submit")).to_have_text("Join")
    assert asked() == before + 2
