"""The playground in Chromium: its forms by themselves, and the whole with a real gateway."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, ConsoleMessage, Page, expect

from tests.e2e.fake_gateway import ORIGIN, serve
from tests.e2e.server_process import SETTINGS, GatewayProcess, running_gateway

pytestmark = pytest.mark.asyncio(loop_scope="module")

ATTACK = "<img src=x onerror=alert(1)>"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[GatewayProcess]:
    settings = (*SETTINGS, "gateway.resume_seconds=60")  # the later one counts
    async with running_gateway(tmp_path_factory.mktemp("gateway"), settings=settings) as gateway:
        yield gateway
    assert "Traceback" not in gateway.log


@pytest_asyncio.fixture(loop_scope="module")
async def play(browser: Browser, gateway: GatewayProcess) -> AsyncIterator[Page]:
    """The playground, with ada signed in."""
    context = await browser.new_context(viewport={"width": 1280, "height": 800})
    page = await context.new_page()
    troubles: list[str] = []

    def complain(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            troubles.append(message.text)

    page.on("console", complain)
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on("dialog", lambda dialog: troubles.append(dialog.message))
    await page.goto(gateway.url)
    await page.get_by_role("link", name="playground").click()
    await page.get_by_test_id("name-input").fill("ada")
    await page.get_by_test_id("sign-in-button").click()
    await expect(page.get_by_test_id("status")).to_have_attribute("data-status", "connected")
    yield page
    await context.close()
    assert troubles == []


async def pick(page: Page, route: str, kind: str = "request") -> None:
    await page.locator(f'[data-testid="route"][data-kind="{kind}"][data-route="{route}"]').click()
    await expect(page.get_by_test_id("route-title")).to_have_text(route)


async def send(page: Page, route: str, **values: str) -> dict[str, Any]:
    """Fill in the form and send; the answer."""
    await pick(page, route)
    for name, value in values.items():
        await page.locator(f'[data-field="{name}"]').fill(value)
    await page.get_by_test_id("send").click()
    await expect(page.get_by_test_id("answer-head")).to_contain_text("after")
    answer: dict[str, Any] = json.loads(await page.get_by_test_id("answer-body").inner_text())
    return answer


@pytest.mark.ci
async def test_every_route_of_the_contract_is_listed(play: Page) -> None:
    await expect(play.locator('[data-testid="route"][data-kind="request"]')).to_have_text(
        ["chat.create_room", "chat.history", "chat.join", "chat.leave", "chat.rooms", "chat.say"]
    )
    await expect(play.locator('[data-testid="route"][data-kind="notify"]')).to_have_text(["chat.typing"])
    await expect(play.locator('[data-testid="route"][data-kind="push"]')).to_contain_text(["chat.message"])
    await pick(play, "chat.create_room")
    await expect(play.get_by_test_id("errors")).to_contain_text("chat.room_exists")


async def test_on_a_phone_a_select_has_the_routes_and_frames_are_one_tap_away(play: Page) -> None:
    await play.set_viewport_size({"width": 390, "height": 844})
    await expect(play.get_by_test_id("routes")).to_be_hidden()
    await expect(play.get_by_test_id("frames")).to_be_hidden()
    await play.get_by_test_id("route-select").select_option(label="chat.rooms")
    await expect(play.get_by_test_id("route-title")).to_have_text("chat.rooms")
    await play.get_by_test_id("send").click()
    await expect(play.get_by_test_id("answer-head")).to_contain_text("Answered")
    await play.get_by_test_id("view-frames").click()
    await expect(play.get_by_test_id("route-title")).to_be_hidden()
    answer = play.locator('[data-testid="frame"][data-type="response"]').last
    await expect(answer).to_be_in_viewport()
    assert await play.evaluate(
        "document.documentElement.scrollWidth <= innerWidth && document.documentElement.scrollHeight <= innerHeight"
    )
    await play.get_by_test_id("route-select").select_option(label="chat.message")
    await expect(play.get_by_test_id("route-kind")).to_have_text("push")


async def test_requests_are_sent_and_frames_and_pushes_seen(play: Page, gateway: GatewayProcess) -> None:
    assert await send(play, "chat.create_room", room="den") == {"room": "den"}
    assert (await send(play, "chat.create_room", room="den"))["message"]
    await expect(play.get_by_test_id("answer-head")).to_contain_text("chat.room_exists (already_exists)")
    assert (await send(play, "chat.join", room="den"))["members"] == ["ada"]
    bob = await gateway.client("bob")
    await bob.request("chat.join", {"room": "den"})
    await bob.request("chat.say", {"room": "den", "text": ATTACK})
    pushes = play.locator('[data-testid="frame"][data-type="push"]')
    await expect(pushes.last).to_contain_text(ATTACK)
    await pushes.last.locator("summary").click()
    await expect(pushes.last.locator("pre")).to_contain_text(f'"text": "{ATTACK}"')
    assert await play.locator("#play img").count() == 0
    typing = bob.pushes("chat.typing")
    await pick(play, "chat.typing", "notify")
    await play.locator('[data-field="room"]').fill("den")
    await play.get_by_test_id("send").click()
    assert (await anext(typing)).body == {"room": "den", "user": "ada"}
    await pick(play, "chat.message", "push")
    await expect(play.locator('[data-testid="frame"]:visible')).to_have_count(1)
    await bob.close()


async def test_what_the_schema_forbids_is_refused_by_the_server_in_words(play: Page) -> None:
    answer = await send(play, "chat.join", room="not a room")
    assert answer["details"]["errors"][0]["loc"] == ["room"]
    await expect(play.get_by_test_id("answer-head")).to_contain_text("gateway.invalid_body")


async def test_a_body_is_kept_between_form_and_json_and_routes(play: Page) -> None:
    await pick(play, "chat.history")
    await play.locator('[data-field="room"]').fill("den")
    await play.locator('[data-include="limit"]').check()
    await play.locator('[data-field="limit"]').fill("7")
    await play.get_by_test_id("as-json").click()
    written = play.get_by_test_id("json")
    assert json.loads(await written.input_value()) == {"room": "den", "limit": 7}
    await written.fill('{"room": "attic"')
    await play.get_by_test_id("send").click()
    await expect(play.get_by_test_id("body-error")).to_contain_text("not JSON")
    await written.fill('{"room": "attic", "before": 3}')
    await play.get_by_test_id("as-form").click()
    await expect(play.locator('[data-field="room"]')).to_have_value("attic")
    await expect(play.locator('[data-field="before"]')).to_have_value("3")
    await pick(play, "chat.rooms")
    await play.go_back()
    await expect(play.locator('[data-field="room"]')).to_have_value("attic")


async def test_the_connection_can_be_cut_and_nothing_is_lost(play: Page, gateway: GatewayProcess) -> None:
    await send(play, "chat.create_room", room="cut")
    await send(play, "chat.join", room="cut")
    bob = await gateway.client("bob")
    await play.get_by_test_id("cut-seconds").select_option("5")
    await play.get_by_test_id("cut").click()
    await expect(play.get_by_test_id("send")).to_be_disabled()
    await bob.request("chat.join", {"room": "cut"})
    await bob.request("chat.say", {"room": "cut", "text": "meanwhile"})
    await expect(play.get_by_test_id("banner")).to_be_visible()
    await expect(play.get_by_test_id("status")).to_have_attribute("data-status", "connected")
    notes = play.get_by_test_id("note")
    await expect(notes.filter(has_text="Cut for 5 s")).to_have_count(1)
    await expect(notes.last).to_contain_text("nothing is lost")
    await expect(play.locator('[data-testid="frame"][data-type="push"]').last).to_contain_text("meanwhile")
    await bob.close()


@pytest.mark.ci
async def test_who_signs_out_leaves_nothing_behind(play: Page) -> None:
    await send(play, "chat.create_room", room="behind")
    await play.get_by_test_id("sign-out").click()
    await play.get_by_test_id("name-input").fill("eve")
    await play.get_by_test_id("sign-in-button").click()
    await expect(play.get_by_test_id("me")).to_have_text("eve")
    await expect(play.get_by_test_id("route-title")).to_have_text("chat.create_room")
    await expect(play.locator('[data-field="room"]')).to_have_value("")
    await expect(play.get_by_test_id("frames")).not_to_contain_text("behind")


@pytest.mark.ci
async def test_what_lets_somebody_in_is_not_shown(play: Page) -> None:
    frames = play.get_by_test_id("frames")
    await expect(frames).to_contain_text('"key":"•••"')
    assert (await frames.inner_text()).count('"key":') == (await frames.inner_text()).count('"key":"•••"')


@pytest.mark.ci
async def test_other_credentials_can_be_given_and_are_checked(browser: Browser, gateway: GatewayProcess) -> None:
    page = await browser.new_page()
    await page.goto(f"{gateway.url}/play/")
    await page.get_by_text("Come in with a ticket").click()
    await page.get_by_test_id("auth-input").fill("{")
    await page.get_by_test_id("sign-in-button").click()
    await expect(page.get_by_test_id("sign-in-error")).to_contain_text("not JSON")
    await page.get_by_test_id("auth-input").fill('{"scheme": "ticket", "ticket": "secret"}')
    await page.get_by_test_id("sign-in-button").click()
    await expect(page.get_by_test_id("sign-in-error")).not_to_be_empty()
    await expect(page.get_by_test_id("sign-in")).to_be_visible()
    assert "secret" not in await page.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}])")
    await page.close()


SCHEMA = {
    "type": "object",
    "required": ["text", "whole", "real", "yes", "pick", "tags", "inner", "either", "always", "pair", "any", "tree"],
    "properties": {
        "text": {"type": "string", "default": "hello"},
        "whole": {"type": "integer", "minimum": 3},
        "real": {"type": "number", "default": 0.5},
        "yes": {"type": "boolean", "default": True},
        "pick": {"enum": ["a", "b"], "default": "b"},
        "tags": {"type": "array", "items": {"type": "string"}, "minItems": 1},
        "inner": {"$ref": "#/components/schemas/Inner"},
        "either": {"anyOf": [{"type": "integer"}, {"$ref": "#/components/schemas/Inner"}, {"type": "null"}]},
        "always": {"const": 1},
        "pair": {"type": "array", "prefixItems": [{"type": "integer"}, {"type": "string"}]},
        "any": {},
        "tree": {"$ref": "#/components/schemas/Tree"},
        "maybe": {"type": ["string", "null"]},
        "__proto__": {"type": "string"},
    },
}
SCHEMAS = {
    "Inner": {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]},
    "Tree": {
        "type": "object",
        "required": ["name"],
        "properties": {"name": {"type": "string"}, "child": {"$ref": "#/components/schemas/Tree"}},
    },
}


async def test_a_form_for_every_kind_of_schema(browser: Browser) -> None:
    page = await browser.new_page()
    await page.route(f"{ORIGIN}/**", serve)
    await page.goto(f"{ORIGIN}/play/")
    made = await page.evaluate(
        """async ([schema, schemas]) => {
          const { Contract } = await import("/play/contract.js");
          const { field } = await import("/play/fields.js");
          const contract = new Contract({ asyncapi: "3.0.0", components: { schemas } });
          const make = (given) => field(schema, (each) => contract.resolve(each), given);
          const first = make();
          const filled = {...first.value(), maybe: "x", tree: {name: "n", child: {name: "m"}}, either: {x: 9}};
          const second = make(filled);
          document.body.replaceChildren(second.element);
          document.querySelector('[data-add="tags"]').click();
          return [first.value(), second.value()];
        }""",
        [SCHEMA, SCHEMAS],
    )
    first = {
        "text": "hello", "whole": 3, "real": 0.5, "yes": True, "pick": "b", "tags": [""], "inner": {"x": 0},
        "either": 0, "always": 1, "pair": [0, ""], "any": {}, "tree": {"name": ""},
    }  # fmt: skip
    assert made[0] == first
    tree = {"name": "n", "child": {"name": "m"}}
    assert made[1] == {**first, "tags": ["", ""], "either": {"x": 9}, "tree": tree, "maybe": "x"}
    await page.close()


@pytest.mark.ci
async def test_a_gateway_with_it_off_has_no_playground(browser: Browser, tmp_path: Any) -> None:
    async with running_gateway(tmp_path, settings=("gateway.playground=false",)) as gateway:
        page = await browser.new_page()
        answer = await page.goto(f"{gateway.url}/play/")
        assert answer is not None
        assert answer.status == 404
        await page.goto(gateway.url)
        await expect(page.get_by_role("link", name="playground")).to_have_count(0)
        await page.close()
