"""The chat page after a lost connection, a lost session and a reload."""

import pytest
from playwright.async_api import BrowserContext, expect

from tests.e2e.chat_reader import arrive, depart, enter, notices, restart, room_item, say, texts
from tests.e2e.fake_chat import FakeChat

pytestmark = pytest.mark.asyncio(loop_scope="module")

ANSWER_MILLISECONDS = 10_000
REJOIN_MILLISECONDS = 5_000
RETURN_MILLISECONDS = 60_000


async def test_after_a_restart_the_page_is_back_in_its_rooms_with_what_it_missed(
    chat: FakeChat, context: BrowserContext
) -> None:
    page = await enter(chat, context, "ada", "raid", "lobby")
    chat.post("lobby", "grace", "before")
    chat.down = True
    await chat.sessions[0].close(1012, "restart")
    await expect(page.get_by_test_id("banner")).to_be_visible()
    await expect(page.get_by_test_id("status")).to_have_attribute("data-status", "suspended")
    chat.post("lobby", "grace", "meanwhile")
    chat.post("raid", "grace", "elsewhere")
    chat.down = False
    await expect(page.get_by_test_id("status")).to_have_attribute("data-status", "connected")
    await expect(page.get_by_test_id("banner")).to_be_hidden()
    await expect(texts(page)).to_have_text(["before", "meanwhile"])
    await expect(page.get_by_test_id("announcer")).to_have_text("1 new message")
    await expect(room_item(page, "raid").get_by_test_id("unread")).to_have_text("1")
    chat.post("lobby", "grace", "after")
    await expect(texts(page)).to_have_text(["before", "meanwhile", "after"])


async def test_a_message_whose_answer_was_lost_is_shown_once(chat: FakeChat, context: BrowserContext) -> None:
    page = await enter(chat, context, "ada", "lobby")
    chat.unanswered.add("chat.say")
    await say(page, "did it arrive?")
    await expect(page.locator('[data-state="sending"]')).to_have_count(1)
    chat.post("lobby", "ada", "did it arrive?")
    chat.unanswered.clear()
    chat.down = True
    await chat.sessions[0].close(1012, "restart")
    await expect(page.get_by_test_id("status")).to_have_attribute("data-status", "suspended")
    chat.down = False
    await expect(page.get_by_test_id("status")).to_have_attribute("data-status", "connected")
    await expect(texts(page)).to_have_text(["did it arrive?"])
    await expect(page.locator("[data-state]")).to_have_count(0)


async def test_a_message_that_was_refused_can_be_sent_again(chat: FakeChat, context: BrowserContext) -> None:
    page = await enter(chat, context, "ada", "lobby")
    session = chat.members["lobby"].pop("ada")
    await say(page, "anyone?")
    await expect(page.locator('[data-state="failed"]')).to_contain_text("Not sent: refused: chat.not_a_member")
    chat.members["lobby"]["ada"] = session
    await page.get_by_test_id("resend").click()
    await expect(page.locator("[data-state]")).to_have_count(0)
    assert [message["text"] for message in chat.rooms["lobby"]] == ["anyone?"]


async def test_a_session_taken_over_elsewhere_is_not_fought_for(chat: FakeChat, context: BrowserContext) -> None:
    page = await enter(chat, context, "ada", "lobby")
    await chat.sessions[0].close(4409, "replaced")
    await expect(page.get_by_test_id("banner")).to_contain_text("connected elsewhere")
    await page.wait_for_timeout(1500)
    assert chat.accepted == 1
    await page.get_by_test_id("retry").click()
    await expect(page.get_by_test_id("name-input")).to_have_value("ada")


async def test_a_reload_comes_back_to_the_same_rooms(chat: FakeChat, context: BrowserContext) -> None:
    page = await enter(chat, context, "ada", "raid", "lobby")
    await page.reload()
    await expect(page.get_by_test_id("room-title")).to_have_text("# lobby")
    await expect(page.get_by_test_id("room-item")).to_have_count(2)
    await expect(page.get_by_test_id("me")).to_have_text("ada")


async def test_after_a_restart_who_was_there_returns_silently_and_who_is_new_is_announced(
    chat: FakeChat, context: BrowserContext
) -> None:
    chat.heartbeat_seconds = 3600
    await context.clock.install(time="2030-01-01T12:00")
    page = await enter(chat, context, "ada", "lobby")
    await page.clock.pause_at("2030-01-01T13:00")
    await restart(chat, page, "lobby", "carl")
    await expect(notices(page)).to_contain_text(["carl joined"])  # who came in before this page was back
    await expect(page.get_by_test_id("member")).to_have_count(2)
    arrive(chat, "lobby", "grace")
    await expect(page.get_by_test_id("member")).to_have_count(3)
    arrive(chat, "lobby", "eve")
    await expect(notices(page)).to_contain_text(["carl joined", "eve joined"])
    await page.clock.run_for(RETURN_MILLISECONDS)
    told = ["carl joined", "eve joined", "linus left"]  # he was not seen again
    await expect(notices(page)).to_contain_text(told)
    depart(chat, "lobby", "grace")
    arrive(chat, "lobby", "grace")
    arrive(chat, "lobby", "linus")
    await expect(notices(page)).to_contain_text([*told, "grace left", "grace joined", "linus joined"])
    await expect(page.get_by_test_id("member")).to_have_count(5)


@pytest.mark.ci
async def test_who_is_new_in_a_room_too_full_to_list_is_not_guessed(chat: FakeChat, context: BrowserContext) -> None:
    chat.unlisted = 1000
    await context.clock.install(time="2030-01-01T12:00")
    page = await enter(chat, context, "ada", "lobby")
    await restart(chat, page, "lobby", "carl")
    await expect(page.get_by_test_id("member").filter(has_text="carl")).to_be_visible()
    await expect(notices(page)).to_have_count(0)


@pytest.mark.ci
async def test_a_room_that_cannot_be_entered_again_at_once_is_tried_again(
    chat: FakeChat, context: BrowserContext
) -> None:
    chat.heartbeat_seconds = 3600
    await context.clock.install(time="2030-01-01T12:00")
    page = await enter(chat, context, "ada", "lobby")
    await page.clock.pause_at("2030-01-01T13:00")
    chat.unanswered.add("chat.join")
    await restart(chat, page, "lobby")
    await say(page, "I am back")
    await page.clock.run_for(ANSWER_MILLISECONDS)
    await expect(page.get_by_test_id("room-error")).to_contain_text("no answer")
    chat.unanswered.clear()
    await page.clock.run_for(REJOIN_MILLISECONDS)
    await expect(page.get_by_test_id("room-error")).to_have_text("")
    chat.post("lobby", "grace", "hello")
    await expect(texts(page)).to_have_text(["hello", "I am back"])  # which was refused


@pytest.mark.ci
async def test_two_restarts_in_a_row_announce_nobody(chat: FakeChat, context: BrowserContext) -> None:
    chat.heartbeat_seconds = 3600
    await context.clock.install(time="2030-01-01T12:00")
    page = await enter(chat, context, "ada", "lobby")
    await page.clock.pause_at("2030-01-01T13:00")
    for _ in range(2):
        await restart(chat, page, "lobby")
        await expect(page.get_by_test_id("member")).to_have_count(1)
        await page.clock.run_for(RETURN_MILLISECONDS - 10_000)
    for name in ("grace", "linus"):
        arrive(chat, "lobby", name)
    await expect(page.get_by_test_id("member")).to_have_count(3)
    await expect(notices(page)).to_have_count(0)


async def test_what_is_written_while_the_server_is_away_is_sent_to_the_new_one(
    chat: FakeChat, context: BrowserContext
) -> None:
    page = await enter(chat, context, "ada", "lobby")
    chat.down = True
    await chat.sessions[0].close(1012, "restart")
    await expect(page.get_by_test_id("status")).to_have_attribute("data-status", "suspended")
    await say(page, "first")
    await say(page, "second")
    await expect(page.locator('[data-state="sending"]')).to_have_count(2)
    chat.down = False
    await expect(page.locator("[data-state]")).to_have_count(0)
    await expect(texts(page)).to_have_text(["first", "second"])
    assert [message["text"] for message in chat.rooms["lobby"]] == ["first", "second"]


async def test_what_was_missed_while_the_services_moved_is_fetched(chat: FakeChat, context: BrowserContext) -> None:
    page = await enter(chat, context, "ada", "lobby")
    session = chat.members["lobby"].pop("ada")
    assert session is not None
    chat.post("lobby", "grace", "meanwhile")
    chat.members["lobby"]["ada"] = session
    session.push("chat.returned", {"room": "lobby"})
    await expect(texts(page)).to_have_text(["meanwhile"])
    await expect(page.get_by_test_id("announcer")).to_have_text("1 new message")


async def test_a_message_of_which_nobody_knows_is_not_called_unsent(chat: FakeChat, context: BrowserContext) -> None:
    page = await enter(chat, context, "ada", "lobby")
    chat.refused["chat.say"] = "gateway.outcome_unknown"
    await say(page, "did it arrive?")
    await expect(page.locator('[data-state="failed"]')).to_contain_text("No answer; it may not have been sent.")
    chat.post("lobby", "ada", "did it arrive?")
    chat.sessions[0].push("chat.returned", {"room": "lobby"})
    await expect(texts(page)).to_have_text(["did it arrive?"])
    await expect(page.locator("[data-state]")).to_have_count(0)
