"""The chat page by keyboard, on a phone and with a screen reader."""

import pytest
from playwright.async_api import Browser, BrowserContext, expect

from tests.e2e.chat_reader import enter, join, room_item, say, texts
from tests.e2e.fake_chat import FakeChat

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.ci]


async def test_enter_sends_and_shift_enter_breaks_the_line(chat: FakeChat, context: BrowserContext) -> None:
    page = await enter(chat, context, "ada", "lobby")
    await page.get_by_test_id("text").focus()
    await page.keyboard.type("first")
    await page.keyboard.press("Shift+Enter")
    await page.keyboard.type("second")
    await page.keyboard.press("Enter")
    await expect(page.get_by_test_id("text")).to_have_value("")
    assert [message["text"] for message in chat.rooms["lobby"]] == ["first\nsecond"]


async def test_the_keyboard_changes_rooms_and_finds_them(chat: FakeChat, context: BrowserContext) -> None:
    page = await enter(chat, context, "ada", "raid", "lobby")
    await page.keyboard.press("Alt+ArrowUp")
    await expect(page.get_by_test_id("room-title")).to_have_text("# raid")
    await page.keyboard.press("Alt+ArrowUp")
    await expect(page.get_by_test_id("room-title")).to_have_text("# lobby")
    await page.keyboard.press("Control+k")
    await expect(page.get_by_test_id("room-name-input")).to_be_focused()


async def test_new_messages_are_announced(chat: FakeChat, context: BrowserContext) -> None:
    page = await enter(chat, context, "ada", "lobby")
    chat.post("lobby", "grace", "hear this")
    await expect(page.get_by_test_id("announcer")).to_have_text("grace: hear this")
    assert await page.get_by_test_id("announcer").get_attribute("aria-live") == "polite"


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_a_phone_shows_one_pane_at_a_time_and_nothing_sticks_out(
    chat: FakeChat, browser: Browser, scheme: str
) -> None:
    context = await browser.new_context(
        viewport={"width": 390, "height": 844}, color_scheme="dark" if scheme == "dark" else "light"
    )
    page = await enter(chat, context, "ada")
    await expect(page.get_by_test_id("text")).to_be_hidden()
    await page.get_by_test_id("join-room").first.click()
    await expect(page.get_by_test_id("text")).to_be_visible()
    await expect(page.get_by_test_id("room-name-input")).to_be_hidden()
    chat.post("lobby", "grace", "w" * 300)
    await expect(texts(page)).to_have_count(1)
    assert await page.evaluate("document.documentElement.scrollWidth") == 390
    await page.get_by_test_id("back").click()
    chat.post("lobby", "grace", "unseen")
    await expect(room_item(page, "lobby").get_by_test_id("unread")).to_have_text("1")
    ground = await page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (int(ground[4:].split(",")[0]) < 60) == (scheme == "dark")
    await context.close()


async def test_a_phone_with_no_room_open_says_what_to_do(chat: FakeChat, browser: Browser) -> None:
    context = await browser.new_context(viewport={"width": 390, "height": 844})
    page = await enter(chat, context, "ada")
    hint = page.get_by_test_id("hint")
    await expect(hint).to_be_visible()
    await expect(hint).to_contain_text("Pick a room")
    await page.get_by_test_id("join-room").first.click()
    await page.get_by_test_id("back").click()
    await expect(hint).to_be_hidden()  # one that is in a room knows how
    await page.set_viewport_size({"width": 1280, "height": 800})
    await page.get_by_test_id("leave").click()
    await expect(page.get_by_test_id("empty")).to_be_visible()
    await expect(hint).to_be_hidden()
    await context.close()


async def test_that_there_are_no_rooms_is_said_once(chat: FakeChat, browser: Browser) -> None:
    chat.members.clear()
    context = await browser.new_context(viewport={"width": 390, "height": 844})
    page = await enter(chat, context, "ada")
    none = page.get_by_test_id("no-rooms")
    await expect(page.get_by_test_id("hint")).to_contain_text("Start the first room")
    await expect(none).to_be_hidden()
    await page.get_by_test_id("room-name-input").fill("lobby")
    await expect(none).to_have_text("No room matches “lobby”.")
    await page.get_by_test_id("room-name-input").fill("")
    await page.set_viewport_size({"width": 1280, "height": 800})
    await expect(none).to_have_text("There are no rooms yet.")
    await expect(none).to_be_visible()
    await context.close()


async def test_a_phone_sees_in_the_list_of_rooms_that_the_connection_is_lost(chat: FakeChat, browser: Browser) -> None:
    context = await browser.new_context(viewport={"width": 390, "height": 844})
    page = await enter(chat, context, "ada")
    chat.down = True
    await chat.sessions[0].close(1012, "restart")
    await expect(page.get_by_test_id("banner")).to_be_visible()
    await expect(page.get_by_test_id("retry")).to_be_visible()
    await context.close()


async def test_controls_are_named_as_they_look(chat: FakeChat, context: BrowserContext) -> None:
    page = await enter(chat, context, "ada", "lobby")
    await expect(page.get_by_role("button", name="Join raid 1 member", exact=True)).to_be_visible()
    await expect(page.get_by_role("button", name="lobby 3 members", exact=True)).to_be_visible()
    await room_item(page, "lobby").click()
    await join(page, "raid")
    chat.post("lobby", "grace", "psst")
    await expect(page.get_by_role("button", name="lobby 1 unread", exact=True)).to_be_visible()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Skyloom chat")
    chat.post("raid", "grace", "hello")
    await expect(page.get_by_test_id("messages").get_by_role("listitem")).to_have_count(2)  # the day and the message


async def test_a_lost_connection_is_told_once_and_not_second_by_second(chat: FakeChat, context: BrowserContext) -> None:
    page = await enter(chat, context, "ada", "lobby")
    chat.down = True
    await chat.sessions[0].close(1012, "restart")
    banner = page.get_by_role("status").filter(has=page.get_by_test_id("retry"))
    await expect(banner).to_be_visible()
    await page.evaluate(
        """window.told = [];
        const words = document.querySelector("#banner-text > :not([aria-hidden])");
        new MutationObserver(() => told.push(1)).observe(words, {childList: true, subtree: true})"""
    )
    before = await banner.inner_text()
    assert "Trying again in" in before or "Connecting" in before
    await expect(banner).not_to_have_text(before, use_inner_text=True)
    assert await page.evaluate("told") == []


async def test_a_message_that_was_not_sent_is_announced(chat: FakeChat, context: BrowserContext) -> None:
    page = await enter(chat, context, "ada", "lobby")
    chat.members["lobby"].pop("ada")
    await say(page, "anyone?")
    await expect(page.get_by_test_id("announcer")).to_contain_text("Not sent: refused")


async def test_the_focus_is_never_lost(chat: FakeChat, browser: Browser) -> None:
    context = await browser.new_context(viewport={"width": 390, "height": 844})
    page = await enter(chat, context, "ada")
    await expect(page.get_by_test_id("room-name-input")).to_be_focused()
    await join(page, "lobby")
    await expect(page.get_by_test_id("text")).to_be_focused()
    await page.get_by_test_id("show-members").press("Enter")
    await expect(page.get_by_test_id("hide-members")).to_be_focused()
    await page.keyboard.press("Escape")
    await expect(page.get_by_test_id("show-members")).to_be_focused()
    await page.get_by_test_id("back").press("Enter")
    await expect(room_item(page, "lobby")).to_be_focused()
    await page.keyboard.press("Enter")
    await page.get_by_test_id("leave").press("Enter")
    await expect(page.get_by_test_id("join-room").first).to_be_focused()
    await context.close()


async def test_a_long_room_name_leaves_room_to_write(chat: FakeChat, browser: Browser) -> None:
    context = await browser.new_context(viewport={"width": 390, "height": 844})
    page = await enter(chat, context, "ada", "lobby")
    short = await page.get_by_test_id("composer").bounding_box()
    await page.get_by_test_id("back").click()
    await join(page, "a-room-whose-name-is-as-long-as-a-room-name-may-be-64-characters")
    assert await page.get_by_test_id("composer").bounding_box() == short
    await context.close()


async def test_a_name_that_is_too_long_loses_its_end_whatever_its_script(
    chat: FakeChat, context: BrowserContext
) -> None:
    name = "המשתמש בעברית עם שם ארוך מאוד מאוד"
    chat.add_room("den", name)
    page = await enter(chat, context, "ada", "den")
    chat.post("den", name, "שלום")
    for shown in (page.locator(".member-name").filter(has_text=name), page.locator(".author")):
        assert await shown.evaluate("each => getComputedStyle(each).direction") == "rtl"
