"""The chat as people meet it: a real gateway in its own process, and its pages in Chromium."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Page, Route, expect

from tests.e2e.server_process import GatewayProcess, running_gateway

pytestmark = pytest.mark.asyncio(loop_scope="module")

ATTACK = "<img src=x onerror=alert(1)>&lt;b&gt;<script>alert(2)</script>"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[GatewayProcess]:
    async with running_gateway(tmp_path_factory.mktemp("gateway")) as gateway:
        yield gateway
    assert "Traceback" not in gateway.log


@pytest_asyncio.fixture(loop_scope="module")
async def restarted(tmp_path: Path) -> AsyncIterator[GatewayProcess]:
    """A gateway for one test to end and start again."""
    async with running_gateway(tmp_path) as gateway:
        yield gateway
    assert "Traceback" not in gateway.log


class Person:
    """Somebody at a browser of their own; what goes wrong in the page collects in `troubles`."""

    def __init__(self, context: BrowserContext, page: Page, troubles: list[str]) -> None:
        self.context, self.page, self.troubles = context, page, troubles

    @classmethod
    async def arrive(cls, browser: Browser, gateway: GatewayProcess, name: str) -> Person:
        context = await browser.new_context(viewport={"width": 1280, "height": 800})
        page = await context.new_page()
        troubles: list[str] = []

        def complain(message: ConsoleMessage) -> None:
            # The Content-Security-Policy's refusals and failed loads are console errors too.
            if message.type in ("error", "warning"):
                troubles.append(message.text)

        page.on("console", complain)
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("dialog", lambda dialog: troubles.append(dialog.message))
        await page.goto(gateway.url)
        await page.get_by_role("link", name="Chat").click()
        await page.get_by_test_id("name-input").fill(name)
        await page.get_by_test_id("sign-in-button").click()
        await expect(page.get_by_test_id("status")).to_have_attribute("data-status", "connected")
        return cls(context, page, troubles)

    async def join(self, room: str) -> None:
        await self.page.get_by_test_id("room-name-input").fill(room)
        await self.page.get_by_test_id("room-submit").click()
        await expect(self.page.get_by_test_id("room-title")).to_have_text(f"# {room}")

    async def say(self, text: str) -> None:
        await self.page.get_by_test_id("text").fill(text)
        await self.page.keyboard.press("Enter")

    async def sees(self, *texts: str) -> None:
        await expect(self.page.get_by_test_id("message-text")).to_have_text(list(texts))
        await expect(self.page.locator("[data-state]")).to_have_count(0)  # nothing is unsent

    async def count_members(self, count: int) -> None:
        await expect(self.page.get_by_test_id("member")).to_have_count(count)

    async def go(self) -> None:
        await self.context.close()


async def test_two_join_talk_and_one_leaves(gateway: GatewayProcess, browser: Browser) -> None:
    ada = await Person.arrive(browser, gateway, "ada")
    await ada.join("talk")
    bob = await Person.arrive(browser, gateway, "bob")
    room = bob.page.locator('[data-testid="join-room"][data-room="talk"]')
    await expect(room.get_by_test_id("member-count")).to_have_text("1")
    await room.click()
    await expect(ada.page.get_by_test_id("notice")).to_contain_text("bob joined")
    await ada.say("Hello bob")
    await bob.sees("Hello bob")
    await bob.page.get_by_test_id("text").press_sequentially("Hel")
    await expect(ada.page.get_by_test_id("typing")).to_have_text("bob is typing…")
    await bob.say("Hello ada")
    for person in (ada, bob):
        await person.sees("Hello bob", "Hello ada")
        await person.count_members(2)
    await bob.page.get_by_test_id("leave").click()
    await expect(ada.page.get_by_test_id("notice").last).to_contain_text("bob left")
    await ada.count_members(1)
    await room.click()
    await bob.sees("Hello bob", "Hello ada")
    await ada.count_members(2)
    await bob.go()  # closes the window
    await ada.count_members(1)
    assert ada.troubles == bob.troubles == []
    await ada.go()


@pytest.mark.ci
async def test_two_windows_of_one_person_show_the_same(gateway: GatewayProcess, browser: Browser) -> None:
    first = await Person.arrive(browser, gateway, "ada")
    await first.join("windows")
    second = await Person.arrive(browser, gateway, "ada")
    await second.join("windows")
    await first.say("from the first")
    await second.say("from the second")
    for window in (first, second):
        await window.sees("from the first", "from the second")
        await window.count_members(1)
        await expect(window.page.get_by_test_id("notice")).to_have_count(0)
    assert first.troubles == second.troubles == []
    await second.go()
    await first.say("alone again")
    await first.sees("from the first", "from the second", "alone again")
    await first.count_members(1)
    await first.go()


@pytest.mark.ci
async def test_markup_in_names_and_texts_is_only_text(gateway: GatewayProcess, browser: Browser) -> None:
    ada = await Person.arrive(browser, gateway, ATTACK)
    bob = await Person.arrive(browser, gateway, "bob")
    await ada.join("markup")
    await bob.join("markup")
    await ada.say(ATTACK)
    for person in (ada, bob):
        await person.sees(ATTACK)
        await expect(person.page.get_by_test_id("member").filter(has_text=ATTACK)).to_have_count(1)
        assert await person.page.locator("img, b, script:not([src])").count() == 0
    assert ada.troubles == bob.troubles == []
    await ada.go()
    await expect(bob.page.get_by_test_id("notice").last).to_contain_text(f"{ATTACK} left")
    await bob.go()


@pytest.mark.ci
async def test_all_that_was_said_can_be_scrolled_to(gateway: GatewayProcess, browser: Browser) -> None:
    # Long enough that answers are cut to what a connection takes at once.
    texts = [f"{n:03} " + "\U0001f3b2" * 1990 for n in range(70)]
    client = await gateway.client("grace")
    await client.request("chat.create_room", {"room": "scroll"})
    await client.request("chat.join", {"room": "scroll"})
    for text in texts:
        await client.request("chat.say", {"room": "scroll", "text": text})
    ada = await Person.arrive(browser, gateway, "ada")
    await ada.join("scroll")
    timeline = ada.page.get_by_test_id("timeline")
    shown = ada.page.get_by_test_id("message-text")
    for _ in range(10):
        await expect(ada.page.get_by_test_id("load-older")).not_to_have_text("Loading…")
        if await ada.page.get_by_test_id("beginning").is_visible():
            break
        before = await shown.count()
        await timeline.evaluate("box => box.scrollTop = 0")
        await expect(shown).not_to_have_count(before)
    await ada.sees(*texts)
    assert ada.troubles == []
    await ada.go()
    await client.close()


async def test_a_name_typed_before_the_script_has_loaded_is_kept(gateway: GatewayProcess, browser: Browser) -> None:
    context = await browser.new_context()
    page = await context.new_page()
    script: asyncio.Queue[Route] = asyncio.Queue()
    await page.route("**/chat.js", script.put)
    await page.goto(f"{gateway.url}/chat/", wait_until="commit")
    await page.get_by_test_id("name-input").fill("ada")
    await expect(page.get_by_test_id("sign-in-button")).to_be_disabled()
    await (await script.get()).continue_()
    await page.get_by_test_id("sign-in-button").click()
    await expect(page.get_by_test_id("me")).to_have_text("ada")
    await context.close()


@pytest.mark.ci
async def test_the_page_comes_back_by_itself_after_a_restart(restarted: GatewayProcess, browser: Browser) -> None:
    ada = await Person.arrive(browser, restarted, "ada")
    await ada.join("raid")
    await ada.join("lobby")
    dan = await Person.arrive(browser, restarted, "dan")
    await dan.join("lobby")
    await ada.say("before")
    await ada.sees("before")
    restarted.signal(signal.SIGTERM)
    await restarted.wait()
    await expect(ada.page.get_by_test_id("banner")).to_be_visible()
    await restarted.start()  # on the same port
    bob = await restarted.client("bob")
    for room in ("lobby", "raid"):
        await bob.request("chat.join", {"room": room})
        await bob.request("chat.say", {"room": room, "text": "meanwhile"})
    await ada.sees("before", "meanwhile")
    await expect(ada.page.get_by_test_id("banner")).to_be_hidden()
    await expect(ada.page.locator('[data-room="raid"]').get_by_test_id("unread")).to_have_text("1")
    await bob.request("chat.say", {"room": "lobby", "text": "after"})
    await ada.say("I am back")
    for person in (ada, dan):
        await person.sees("before", "meanwhile", "after", "I am back")
        await person.count_members(3)
    # Those who were there before came back silently; who is new was announced to each of them, once.
    await expect(ada.page.get_by_test_id("notice")).to_contain_text(["dan joined", "bob joined"])
    await expect(dan.page.get_by_test_id("notice")).to_contain_text(["bob joined"])
    # While nobody listens there, the browser itself notes each attempt; a gateway that stops says why.
    told = ("WebSocket connection", "gateway.restart")
    for person in (ada, dan):
        assert [trouble for trouble in person.troubles if not any(words in trouble for words in told)] == []
        await person.go()
    await bob.close()
