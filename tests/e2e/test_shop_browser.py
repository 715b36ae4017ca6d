"""The shop as people meet it: a real gateway with both apps in its own process, and its pages in Chromium."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, ConsoleMessage, Locator, Page, expect

from tests.e2e.server_process import CHAT, GatewayProcess, running_gateway

pytestmark = pytest.mark.asyncio(loop_scope="module")

BOTH = (*CHAT, "skyloom_shop:app")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[GatewayProcess]:
    async with running_gateway(tmp_path_factory.mktemp("gateway"), apps=BOTH) as gateway:
        yield gateway
    assert "Traceback" not in gateway.log


class Buyer:
    """Somebody at a browser of their own; what goes wrong in the page collects in `troubles`."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.troubles: list[str] = []
        page.on("console", self._complain)
        page.on("pageerror", lambda error: self.troubles.append(str(error)))

    def _complain(self, message: ConsoleMessage) -> None:
        # While nobody listens there, the browser itself notes each attempt to connect.
        if message.type in ("error", "warning") and "WebSocket connection" not in message.text:
            self.troubles.append(message.text)

    @classmethod
    async def arrive(cls, browser: Browser, gateway: GatewayProcess, name: str) -> Buyer:
        context = await browser.new_context(viewport={"width": 1280, "height": 800}, locale="en-GB")
        buyer = cls(await context.new_page())
        await buyer.page.goto(gateway.url)
        await buyer.page.get_by_role("link", name="Shop").click()
        await buyer.page.get_by_test_id("name-input").fill(name)
        await buyer.page.get_by_test_id("sign-in-button").click()
        await expect(buyer.page.get_by_test_id("item")).not_to_have_count(0)
        return buyer

    def item(self, sku: str) -> Locator:
        return self.page.locator(f'[data-testid="item"][data-sku="{sku}"]')

    async def add(self, sku: str) -> None:
        await self.item(sku).get_by_test_id("add").click()

    async def has(self, *, balance: str, orders: int) -> None:
        await expect(self.page.get_by_test_id("line")).to_have_count(0)
        await expect(self.page.get_by_test_id("balance")).to_have_text(balance)
        await expect(self.page.get_by_test_id("entry-status")).to_have_text(["Complete"] * orders)

    async def go(self) -> None:
        await self.page.context.close()
        assert self.troubles == []


async def test_what_one_buys_the_other_sees_leave_the_shelf(gateway: GatewayProcess, browser: Browser) -> None:
    ada = await Buyer.arrive(browser, gateway, "ada")
    bob = await Buyer.arrive(browser, gateway, "bob")
    await expect(bob.item("potion").get_by_test_id("stock")).to_have_text("500 in stock")
    await ada.add("potion")
    await ada.page.get_by_test_id("order").dblclick()
    await expect(ada.page.get_by_test_id("outcome")).to_contain_text("Ordered")
    await ada.has(balance="98.80", orders=1)
    await expect(bob.item("potion").get_by_test_id("stock")).to_have_text("499 in stock")
    await ada.page.goto(f"{gateway.url}/chat/")  # the tab knows the name there too
    await expect(ada.page.get_by_test_id("me")).to_have_text("ada")
    await ada.page.go_back()
    await ada.has(balance="98.80", orders=1)
    await ada.go()
    await bob.go()


async def test_the_last_one_is_sold_once(gateway: GatewayProcess, browser: Browser) -> None:
    ada = await Buyer.arrive(browser, gateway, "late")
    await ada.add("dragon-egg")
    for name in ("one", "two", "three"):
        client = await gateway.client(name)
        order = {"order_id": name, "items": [{"sku": "dragon-egg", "qty": 1}]}
        await client.request("shop.place_order", order)
        await client.close()
    await expect(ada.item("dragon-egg").get_by_test_id("stock")).to_have_text("Sold out")
    await ada.page.get_by_test_id("order").click()
    await expect(ada.page.get_by_test_id("checkout-error")).to_contain_text("There was not enough in stock")
    await expect(ada.page.get_by_test_id("line-note")).to_have_text("Sold out")
    await expect(ada.page.get_by_test_id("balance")).to_have_text("100.00")
    await ada.go()


@pytest.mark.ci
@pytest.mark.parametrize("reload", [False, True], ids=["stays", "reload"])
async def test_an_order_lives_through_the_death_of_the_server(browser: Browser, tmp_path: Path, reload: bool) -> None:
    async with running_gateway(tmp_path, apps=BOTH) as gateway:
        ada = await Buyer.arrive(browser, gateway, "ada")
        await ada.add("torch")
        await ada.page.get_by_test_id("order").click(no_wait_after=True)
        gateway.signal(signal.SIGKILL)
        await gateway.wait()
        await gateway.start()  # on the same port
        if reload:
            await ada.page.reload()
        else:
            await ada.page.get_by_test_id("retry").dispatch_event("click")  # hidden if it is back already
        await ada.has(balance="97.50", orders=1)
        await ada.go()
