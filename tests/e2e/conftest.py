"""The browser that a module's tests share."""

from collections.abc import AsyncIterator

import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, async_playwright, expect

from tests.e2e.fake_chat import FakeChat
from tests.e2e.fake_gateway import launch

SOON_MILLISECONDS = 15_000


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    expect.set_options(timeout=SOON_MILLISECONDS)
    async with async_playwright() as playwright:
        browser = await launch(playwright)
        yield browser
        await browser.close()


@pytest_asyncio.fixture(loop_scope="module")
async def context(browser: Browser) -> AsyncIterator[BrowserContext]:
    context = await browser.new_context(viewport={"width": 1280, "height": 800})
    yield context
    await context.close()


@pytest_asyncio.fixture(loop_scope="module")
async def chat() -> AsyncIterator[FakeChat]:
    """The chat that its page talks to, with two rooms."""
    chat = FakeChat()
    chat.add_room("lobby", "grace", "linus")
    chat.add_room("raid", "grace")
    yield chat
    # Nothing that the Content-Security-Policy forbids, no script error.
    assert [trouble for trouble in chat.troubles if "WebSocket connection" not in trouble] == []
