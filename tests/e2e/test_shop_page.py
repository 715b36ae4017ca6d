"""The shop page in Chromium, with the gateway played by FakeShop."""

import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, Locator, Page, expect

from tests.e2e.fake_shop import FakeShop

pytestmark = pytest.mark.asyncio(loop_scope="module")

ATTACK = "<img src=x onerror=alert(1)>&lt;b&gt;<script>alert(2)</script>"
CART_KEY = "skyloom.shop.cart.ada"


@pytest_asyncio.fixture(loop_scope="module")
async def context(browser: Browser) -> AsyncIterator[BrowserContext]:
    context = await browser.new_context(viewport={"width": 1280, "height": 800}, locale="en-GB")
    yield context
    await context.close()


@pytest_asyncio.fixture(loop_scope="module")
async def shop() -> AsyncIterator[FakeShop]:
    shop = FakeShop()
    shop.add("sword", "Iron sword", 1250, 12)
    shop.add("rope", "Rope", 75, 60)
    shop.add("map", "Old map", 300, 0)
    shop.add("egg", "Dragon egg", 99_900, 1)
    yield shop
    # Nothing that the Content-Security-Policy forbids, no script error.
    assert [trouble for trouble in shop.troubles if "WebSocket connection" not in trouble] == []


async def enter(shop: FakeShop, context: BrowserContext, name: str = "ada") -> Page:
    page = await shop.open(context)
    await page.get_by_test_id("name-input").fill(name)
    await page.get_by_test_id("sign-in-button").click()
    await expect(page.get_by_test_id("item")).to_have_count(len(shop.goods))
    return page


def item(page: Page, sku: str) -> Locator:
    return page.locator(f'[data-testid="item"][data-sku="{sku}"]')


def line(page: Page, sku: str) -> Locator:
    return page.locator(f'[data-testid="line"][data-sku="{sku}"]')


async def add(page: Page, sku: str, quantity: int = 1) -> None:
    await item(page, sku).get_by_test_id("add").click()
    for _ in range(quantity - 1):
        await item(page, sku).get_by_test_id("more").click()
    await expect(line(page, sku).get_by_test_id("qty")).to_have_text(str(quantity))


async def bought(page: Page, balance: str) -> None:
    await expect(page.get_by_test_id("outcome")).to_contain_text("Ordered")
    await expect(page.get_by_test_id("line")).to_have_count(0)
    await expect(page.get_by_test_id("balance")).to_have_text(balance)
    await expect(page.get_by_test_id("entry-status").first).to_have_text("Complete")


async def test_goods_are_bought_and_paid_for(shop: FakeShop, context: BrowserContext) -> None:
    page = await enter(shop, context)
    await expect(item(page, "sword").get_by_test_id("price")).to_have_text("12.50")
    await expect(item(page, "egg").get_by_test_id("dear")).to_have_text("Above your balance")
    await expect(item(page, "map").get_by_test_id("add")).to_be_disabled()
    await add(page, "sword", 2)
    await add(page, "rope")
    await expect(page).to_have_title("(3) Skyloom shop")
    await expect(page.get_by_test_id("total")).to_have_text("25.75")
    await expect(page.get_by_test_id("after")).to_have_text("74.25")
    await page.get_by_test_id("order").click()
    await bought(page, "74.25")
    await expect(page.get_by_test_id("entry")).to_contain_text("2 × Iron sword")
    await expect(page.get_by_test_id("entry-total")).to_have_text("25.75")
    await expect(item(page, "sword").get_by_test_id("stock")).to_have_text("10 in stock")
    await add(page, "rope")  # the next cart is another order
    await page.get_by_test_id("order").click()
    await expect(page.get_by_test_id("entry")).to_have_count(2)
    assert len(set(shop.placed)) == 2


async def test_stock_and_orders_change_before_ones_eyes(shop: FakeShop, context: BrowserContext) -> None:
    shop.overtaking = {"rope": 7}
    page = await enter(shop, context)
    await expect(item(page, "rope").get_by_test_id("stock")).to_have_text("7 in stock")
    shop.stock(sword=3, map=1)
    await expect(item(page, "sword").get_by_test_id("stock")).to_have_text("Only 3 left")
    await add(page, "map")
    shop.stopping_at = "charging"
    await page.get_by_test_id("order").click()
    status = page.get_by_test_id("entry-status").first
    await expect(status).to_have_text("Taking the payment")
    for step, words in (("paid", "Paid"), ("refunding", "Being refunded"), ("failed", "Not bought")):
        shop.move("ada", shop.placed[0], step)
        await expect(status).to_have_text(words)


async def test_two_tabs_of_one_person_agree(shop: FakeShop, context: BrowserContext) -> None:
    one = await enter(shop, context)
    two = await enter(shop, context)
    await add(one, "sword")
    await expect(line(two, "sword").get_by_test_id("qty")).to_have_text("1")
    await add(two, "rope", 3)
    await expect(one.get_by_test_id("total")).to_have_text("14.75")
    await one.get_by_test_id("order").click()
    await bought(one, "85.25")
    await expect(two.get_by_test_id("line")).to_have_count(0)
    await expect(two.get_by_test_id("balance")).to_have_text("85.25")
    await expect(two.get_by_test_id("entry-status")).to_have_text("Complete")
    assert len(shop.orders["ada"]) == 1


async def test_a_double_click_orders_once(shop: FakeShop, context: BrowserContext) -> None:
    page = await enter(shop, context)
    await item(page, "sword").get_by_test_id("add").dblclick()
    await expect(page.get_by_test_id("total")).to_have_text("12.50")
    await page.get_by_test_id("order").dblclick()
    await bought(page, "87.50")
    assert len(shop.placed) == 1


async def test_a_click_in_each_of_two_tabs_orders_once(shop: FakeShop, context: BrowserContext) -> None:
    one = await enter(shop, context)
    two = await enter(shop, context)
    await add(one, "sword")
    await expect(line(two, "sword")).to_be_visible()
    shop.unanswered = {"shop.place_order"}
    # As when both were quicker than the browser's memory: the second tab has not heard of the first one's click.
    cart = await two.evaluate("key => localStorage.getItem(key)", CART_KEY)
    await one.get_by_test_id("order").click()
    await expect(one.get_by_test_id("order")).to_have_text("Ordering…")
    await two.evaluate("([key, cart]) => localStorage.setItem(key, cart)", [CART_KEY, cart])
    await two.reload()
    await two.get_by_test_id("order").click()
    await expect(two.get_by_test_id("order")).to_have_text("Ordering…")
    shop.unanswered = set()
    for session in list(shop.sessions):
        await session.close(1012)
    await bought(one, "87.50")
    await bought(two, "87.50")
    assert len(set(shop.placed)) == len(shop.orders["ada"]) == 1
    assert len(shop.placed) > 1


async def test_a_lost_answer_is_asked_for_with_the_same_id(shop: FakeShop, context: BrowserContext) -> None:
    page = await enter(shop, context)
    await add(page, "sword")
    shop.unanswered = {"shop.place_order"}
    await page.get_by_test_id("order").click()
    await expect(page.get_by_test_id("entry")).to_have_count(1)
    shop.unanswered = set()
    await shop.sessions[0].close(1012)
    await expect(page.get_by_test_id("progress")).to_contain_text("ordered once")
    await bought(page, "87.50")
    assert shop.placed == [shop.placed[0]] * 2
    assert len(shop.orders["ada"]) == 1


async def test_an_order_outlives_a_reload(shop: FakeShop, context: BrowserContext) -> None:
    page = await enter(shop, context)
    await add(page, "sword")
    shop.unanswered = {"shop.place_order"}
    await page.get_by_test_id("order").click()
    await expect(page.get_by_test_id("entry")).to_have_count(1)
    await page.reload()
    await expect(page.get_by_test_id("order")).to_have_text("Ordering…")
    await expect(line(page, "sword").get_by_test_id("more")).to_be_disabled()
    shop.unanswered = set()
    await shop.sessions[-1].close(1012)
    await bought(page, "87.50")
    assert len(set(shop.placed)) == len(shop.orders["ada"]) == 1


@pytest.mark.ci
async def test_an_error_that_settles_nothing_is_tried_again(shop: FakeShop, context: BrowserContext) -> None:
    page = await enter(shop, context)
    await add(page, "sword")
    shop.refusing = {"code": "gateway.deadline_exceeded", "kind": "deadline_exceeded", "message": "late"}
    await page.get_by_test_id("order").click()
    await expect(page.get_by_test_id("progress")).to_contain_text("asking again")
    shop.refusing = None
    await bought(page, "87.50")
    assert len(shop.placed) >= 3
    assert len(set(shop.placed)) == 1


@pytest.mark.ci
async def test_which_errors_settle_an_order(shop: FakeShop, context: BrowserContext) -> None:
    page = await shop.open(context)
    errors = {
        "shop.out_of_stock": ("failed_precondition", False),
        "shop.order_failed": ("aborted", False),
        "shop.too_many_orders": ("resource_exhausted", True),
        "shop.storage_failed": ("unavailable", False),
        "shop.own_fault": ("internal", False),
        "gateway.invalid_body": ("invalid_argument", False),
        "gateway.rate_limited": ("resource_exhausted", True),
        "gateway.unavailable": ("unavailable", True),
        "gateway.outcome_unknown": ("unavailable", False),
        "gateway.deadline_exceeded": ("deadline_exceeded", False),
        "gateway.internal": ("internal", False),
        "gateway.unknown_route": ("unimplemented", False),
        "gateway.answer_gone": ("failed_precondition", False),
    }
    settled = await page.evaluate(
        """async (errors) => {
          const { settles } = await import("/shop/ordering.js");
          const { RequestError, RequestTimeout } = await import("/skyloom.js");
          const make = ([code, [kind, retryable]]) => new RequestError({ code, kind, retryable }, "x");
          const made = Object.entries(errors).map(make);
          return [...made, new RequestTimeout("x", 1)].filter(settles).map((error) => error.code);
        }""",
        errors,
    )
    assert settled == ["shop.out_of_stock", "shop.order_failed", "gateway.invalid_body", "gateway.unknown_route"]


@pytest.mark.ci
async def test_what_is_out_of_stock_is_said_at_the_item(shop: FakeShop, context: BrowserContext) -> None:
    page = await enter(shop, context)
    await add(page, "sword", 3)
    await add(page, "rope")
    shop.goods["sword"]["available"] = 2  # its push is on its way
    await page.get_by_test_id("order").click()
    await expect(page.get_by_test_id("checkout-error")).to_have_text(
        "Nothing was bought. There was not enough in stock."
    )
    await expect(line(page, "sword").get_by_test_id("line-note")).to_have_text("Only 2 left")
    await expect(line(page, "rope").get_by_test_id("line-note")).to_have_text("")
    await expect(page.get_by_test_id("balance")).to_have_text("100.00")
    await line(page, "sword").get_by_test_id("take-left").click()
    await expect(page.get_by_test_id("checkout-error")).to_have_text("")
    await page.get_by_test_id("order").click()
    await bought(page, "74.25")
    assert len(set(shop.placed)) == 2
    shop.stock(rope=0)
    await expect(item(page, "rope").get_by_test_id("add")).to_be_disabled()


@pytest.mark.ci
async def test_what_is_too_dear_is_said_before_and_after(shop: FakeShop, context: BrowserContext) -> None:
    page = await enter(shop, context)
    await add(page, "egg")
    await expect(line(page, "egg").get_by_test_id("line-note")).to_have_text("Above your balance")
    await expect(page.get_by_test_id("after")).to_have_text("899.00")  # is missing
    await page.get_by_test_id("order").click()
    await expect(page.get_by_test_id("checkout-error")).to_contain_text("Your balance is too low")
    await expect(page.get_by_test_id("entry-status")).to_have_text("Not bought")


@pytest.mark.ci
async def test_goods_that_are_no_longer_sold_can_be_removed(shop: FakeShop, context: BrowserContext) -> None:
    page = await enter(shop, context)
    await add(page, "rope")
    del shop.goods["rope"]
    await page.get_by_test_id("order").click()
    await expect(line(page, "rope").get_by_test_id("line-note")).to_have_text("No longer sold here")
    await line(page, "rope").get_by_test_id("remove").click()
    await expect(page.get_by_test_id("cart-none")).to_be_visible()


@pytest.mark.ci
async def test_the_same_id_with_other_goods_is_not_ordered_unseen(shop: FakeShop, context: BrowserContext) -> None:
    page = await enter(shop, context)
    await add(page, "rope")
    cart = await page.evaluate("key => localStorage.getItem(key)", CART_KEY)
    await page.get_by_test_id("order").click()
    await bought(page, "99.25")
    # The browser's memory comes back from before the order, and something else is put in.
    await page.evaluate("([key, cart]) => localStorage.setItem(key, cart)", [CART_KEY, cart])
    await page.reload()
    await add(page, "sword")
    await page.get_by_test_id("order").click()
    await expect(page.get_by_test_id("checkout-error")).to_contain_text("was made already, with other goods")
    assert len(shop.orders["ada"]) == 1
    await page.get_by_test_id("order").click()
    await bought(page, "86.00")


@pytest.mark.ci
@pytest.mark.parametrize("arrived", [False, True])
async def test_an_order_of_long_ago_is_not_sent_unasked(shop: FakeShop, context: BrowserContext, arrived: bool) -> None:
    page = await enter(shop, context)
    await add(page, "sword")
    if arrived:
        shop.unanswered = {"shop.place_order"}
        await page.get_by_test_id("order").click()
        await expect(page.get_by_test_id("entry")).to_have_count(1)
    yesterday = time.time() - 86_400
    change = "([key, at]) => localStorage[key] = JSON.stringify({...JSON.parse(localStorage[key]), placedAt: at})"
    await page.evaluate(change, [CART_KEY, yesterday])
    shop.unanswered = set()
    await page.reload()
    if arrived:
        await bought(page, "87.50")
    else:
        await expect(page.get_by_test_id("checkout-error")).to_contain_text("did not reach the shop")
        assert shop.placed == []
        await page.get_by_test_id("order").click()
        await bought(page, "87.50")
    assert len(set(shop.placed)) == 1


async def test_the_page_comes_back_by_itself(shop: FakeShop, context: BrowserContext) -> None:
    page = await enter(shop, context)
    await add(page, "sword")
    shop.down = True
    await shop.sessions[0].close(1012)
    await expect(page.get_by_test_id("banner")).to_be_visible()
    await page.set_viewport_size({"width": 1280, "height": 300})
    await item(page, "egg").scroll_into_view_if_needed()
    await expect(page.get_by_test_id("banner")).to_be_in_viewport(ratio=1)
    await page.set_viewport_size({"width": 1280, "height": 800})
    await expect(page.get_by_test_id("order")).to_have_text("Waiting for the connection")
    await add(page, "rope")  # the cart is here
    shop.goods["sword"]["available"] = 1
    shop.balances["ada"] = 5_000
    shop.down = False
    await page.get_by_test_id("retry").dispatch_event("click")  # it may be back already, and the button hidden
    await expect(item(page, "sword").get_by_test_id("stock")).to_have_text("Only 1 left")
    await expect(page.get_by_test_id("balance")).to_have_text("50.00")
    await expect(page.get_by_test_id("order")).to_be_enabled()


async def test_a_shop_that_does_not_answer_is_asked_again(shop: FakeShop, context: BrowserContext) -> None:
    page = await shop.open(context)
    shop.goods.clear()
    await page.get_by_test_id("name-input").fill("ada")
    await page.get_by_test_id("sign-in-button").click()
    await expect(page.get_by_test_id("goods-none")).to_have_text("There is nothing to buy here yet.")


@pytest.mark.ci
async def test_markup_in_names_is_only_text(shop: FakeShop, context: BrowserContext) -> None:
    shop.add("__proto__", ATTACK, 100, 5)
    shop.add("constructor", "\u202eevil", 100, 5)
    page = await enter(shop, context, ATTACK)
    await expect(page.get_by_test_id("me")).to_have_text(ATTACK)
    await add(page, "__proto__")
    await add(page, "constructor")
    await page.get_by_test_id("order").click()
    await bought(page, "98.00")
    await expect(page.get_by_test_id("entry")).to_contain_text(ATTACK)
    assert await page.locator("#shop img, #shop b, script:not([src])").count() == 0


@pytest.mark.ci
async def test_each_person_has_a_cart_of_their_own(shop: FakeShop, context: BrowserContext) -> None:
    page = await enter(shop, context)
    await add(page, "sword")
    await page.get_by_test_id("sign-out").click()
    await page.get_by_test_id("name-input").fill("bob")
    await page.get_by_test_id("sign-in-button").click()
    await expect(page.get_by_test_id("me")).to_have_text("bob")
    await expect(page.get_by_test_id("cart-none")).to_be_visible()
    await add(page, "rope")
    await page.get_by_test_id("sign-out").click()
    await page.get_by_test_id("name-input").fill("ada")
    await page.get_by_test_id("sign-in-button").click()
    await expect(page.get_by_test_id("line")).to_have_count(1)
    await expect(line(page, "sword")).to_be_visible()


@pytest.mark.ci
async def test_the_keyboard_does_it_all_and_keeps_its_place(shop: FakeShop, context: BrowserContext) -> None:
    page = await enter(shop, context)
    await item(page, "sword").get_by_test_id("add").focus()
    await page.keyboard.press("Enter")
    await item(page, "sword").get_by_test_id("more").focus()
    for expected in ("2", "3", "4"):
        await page.keyboard.press("Enter")
        await expect(item(page, "sword").get_by_test_id("qty")).to_have_text(expected)
        await expect(item(page, "sword").get_by_test_id("more")).to_be_focused()
    await expect(page.get_by_test_id("announcer")).to_have_text("Iron sword: 4 in the cart")
    await expect(page.get_by_role("button", name="One Iron sword less").first).to_be_enabled()
    await page.get_by_test_id("order").focus()
    await page.keyboard.press("Enter")
    await bought(page, "50.00")
    await expect(page.get_by_role("heading", name="Cart")).to_be_focused()  # the button is gone


@pytest.mark.ci
async def test_buttons_are_named_as_they_look(shop: FakeShop, context: BrowserContext) -> None:
    shop.add("relic", "Relic", 10, 0)
    page = await enter(shop, context)
    await expect(page.get_by_role("button", name="Sold out Relic", exact=True)).to_be_disabled()
    await page.get_by_role("button", name="Add to cart Iron sword", exact=True).click()
    await page.get_by_role("button", name="Remove all", exact=True).click()
    await expect(page.get_by_test_id("cart-none")).to_be_visible()


@pytest.mark.ci
async def test_on_a_phone_one_part_is_in_view_and_the_back_button_works(
    shop: FakeShop, context: BrowserContext
) -> None:
    page = await enter(shop, context)
    await page.set_viewport_size({"width": 360, "height": 640})
    await add_on_phone(page)
    await page.get_by_test_id("tab-cart").click()
    await expect(page.get_by_test_id("goods")).to_be_hidden()
    await expect(page.get_by_test_id("total")).to_be_visible()
    await page.get_by_test_id("tab-orders").click()
    await expect(page.get_by_test_id("orders-none")).to_be_visible()
    await page.go_back()
    await expect(page.get_by_test_id("order")).to_be_visible()
    await page.reload()
    await expect(page.get_by_test_id("order")).to_be_visible()
    await page.go_back()
    await expect(page.get_by_test_id("goods")).to_be_visible()
    for path in ("goods", "cart", "orders"):
        await page.get_by_test_id(f"tab-{path}").click()
        for seen in (page.locator(".bar .mark"), page.get_by_role("main"), page.get_by_role("heading", level=1)):
            await expect(seen).to_be_visible()
        assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path


async def add_on_phone(page: Page) -> None:
    await item(page, "sword").get_by_test_id("add").click()
    await expect(page.get_by_test_id("tab-count")).to_have_text("1")


@pytest.mark.ci
async def test_many_goods_can_be_searched(shop: FakeShop, context: BrowserContext) -> None:
    for number in range(400):
        shop.add(f"n{number}", f"Thing {number}", number, number)
    page = await enter(shop, context)
    await page.get_by_test_id("find").fill("thing 39")
    await expect(page.get_by_test_id("item")).to_have_count(14)  # 39, 139, 239, 339 and 390 to 399
    await page.get_by_test_id("find").fill("<nothing>")
    await expect(page.get_by_test_id("goods-none")).to_have_text("Nothing is called “<nothing>”.")
