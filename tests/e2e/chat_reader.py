"""Somebody who uses the chat page, and others in its rooms who do not."""

from playwright.async_api import BrowserContext, Locator, Page, expect

from tests.e2e.fake_chat import FakeChat


async def enter(chat: FakeChat, context: BrowserContext, name: str, *rooms: str) -> Page:
    """A page whose reader is signed in and in these rooms, the last of them open."""
    page = await chat.open(context)
    await page.get_by_test_id("name-input").fill(name)
    await page.get_by_test_id("sign-in-button").click()
    await expect(page.get_by_test_id("status")).to_have_attribute("data-status", "connected")
    for room in rooms:
        await join(page, room)
    return page


async def join(page: Page, room: str) -> None:
    await page.get_by_test_id("room-name-input").fill(room)
    await page.get_by_test_id("room-submit").click()
    await expect(page.get_by_test_id("room-title")).to_have_text(f"# {room}")


async def say(page: Page, text: str) -> None:
    await page.get_by_test_id("text").fill(text)
    await page.keyboard.press("Enter")


def texts(page: Page) -> Locator:
    return page.get_by_test_id("message-text")


def room_item(page: Page, room: str) -> Locator:
    return page.locator(f'[data-testid="room-item"][data-room="{room}"]')


def notices(page: Page) -> Locator:
    return page.get_by_test_id("notice")


def arrive(chat: FakeChat, room: str, user: str) -> None:
    chat.members[room][user] = None
    chat.tell(room, "chat.joined", {"room": room, "user": user, "time": chat.now})


def depart(chat: FakeChat, room: str, user: str) -> None:
    del chat.members[room][user]
    chat.tell(room, "chat.left", {"room": room, "user": user, "time": chat.now})


async def restart(chat: FakeChat, page: Page, room: str, *people: str) -> None:
    """The server restarts: nobody is in the room but these people, until the page is back."""
    chat.down = True
    await chat.sessions[0].close(1012, "restart")
    await expect(page.get_by_test_id("status")).to_have_attribute("data-status", "suspended")
    chat.members[room] = dict.fromkeys(people)
    chat.down = False
    await page.clock.run_for(1000)
    await expect(page.get_by_test_id("status")).to_have_attribute("data-status", "connected")
