"""Both clients over connections that break in mid-byte, against a gateway in a process of its own."""

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import async_playwright, expect

from skyloom_gateway.client import Client, ConnectFailed, Reconnect, connect
from tests.e2e.cutting_proxy import CuttingProxy, at_random, cutting_proxy
from tests.e2e.fake_gateway import launch
from tests.e2e.game import Game
from tests.e2e.server_process import running_gateway

SHOUTS = 60
# Between two cuts: hello and welcome alone take some 500, and WebSocket's handshake as much.
MOST_BYTES = {"websocket-json": 2_000, "websocket-msgpack": 1_500, "tcp": 1_200}
KINDS = [
    pytest.param("websocket-json", "websocket-json"),
    *(pytest.param(kind, kind, marks=pytest.mark.ci) for kind in ("websocket-msgpack", "tcp")),
]
QUICK = Reconnect(first_delay_seconds=0.05, delay_seconds_max=0.2)
PATIENCE_SECONDS = 40.0


@pytest.fixture(scope="module")
def game(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Game]:
    limits = ["--set", "gateway.messages_per_second=10000", "--set", "gateway.messages_burst=10000"]
    with Game(Path(tmp_path_factory.mktemp("cuts")) / "log", *limits) as game:
        yield game
        assert game.stop() == 0
        assert "Traceback" not in game.log


@pytest.fixture
async def proxy(game: Game, request: pytest.FixtureRequest) -> AsyncIterator[CuttingProxy]:
    kind = getattr(request, "param", "websocket")
    async with cutting_proxy(game.ports[kind == "tcp"]) as proxy:
        yield proxy


async def come_in(proxy: CuttingProxy, kind: str, name: str, seed: int) -> Client:
    """A client of the proxy; its first connection may be cut before it is welcomed."""
    url = f"tcp://127.0.0.1:{proxy.port}" if kind == "tcp" else f"ws://127.0.0.1:{proxy.port}/ws"
    encoding: Any = "json" if kind == "websocket-json" else "msgpack"
    while True:
        try:
            return await connect(
                url,
                auth={"scheme": "guest", "name": name},
                encoding=encoding,
                timeout=PATIENCE_SECONDS,
                reconnect=QUICK,
                rng=random.Random(seed),
            )
        except ConnectFailed:
            continue


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.ci)])
@pytest.mark.parametrize(("kind", "proxy"), KINDS, indirect=["proxy"])
async def test_the_python_client_loses_and_doubles_nothing(kind: str, proxy: CuttingProxy, seed: int) -> None:
    proxy.budget = at_random(seed, MOST_BYTES[kind])
    ada, bob = [await come_in(proxy, kind, name, seed) for name in ("ada", "bob")]
    try:
        heard = bob.pushes()
        sessions: list[bool] = []
        for client in (ada, bob):
            client.on_session(lambda session: sessions.append(session.recovered))
        await bob.request("echo.join")
        for number in range(SHOUTS):
            await ada.request("echo.shout", {"text": str(number)})  # one that ran twice would be heard twice
        async with asyncio.timeout(PATIENCE_SECONDS):
            came = [await anext(heard) for _ in range(SHOUTS)]
        assert [(push.seq, push.body["text"]) for push in came] == [(n + 1, str(n)) for n in range(SHOUTS)]
        assert len(sessions) >= 3
        assert all(sessions)
    finally:
        proxy.budget = lambda: None
        await asyncio.gather(ada.close(), bob.close())


@pytest.mark.ci
async def test_the_browser_client_loses_and_doubles_nothing(proxy: CuttingProxy) -> None:
    async with async_playwright() as playwright:
        browser = await launch(playwright)
        page = await browser.new_page()
        await page.goto(f"http://127.0.0.1:{proxy.port}/")
        await page.evaluate("import('/skyloom.js').then((module) => { window.skyloom = module; })")
        proxy.budget = at_random(7, MOST_BYTES["websocket-json"])
        seen = await page.evaluate(
            """async ([shouts, timeout]) => {
            const come = (name) => skyloom.connect({
              auth: { scheme: "guest", name }, firstDelay: 0.05, maxDelay: 0.2, timeout, connectTimeout: timeout });
            const [ada, bob] = await Promise.all([come("ada"), come("bob")]);
            const heard = [], sessions = [];
            for (const client of [ada, bob]) {
              client.addEventListener("session", ({ detail }) => sessions.push(detail.recovered));
            }
            const all = new Promise((resolve) => {
              bob.on("echo.shouted", (body, push) => {
                heard.push([push.seq, body.text]);
                if (heard.length === shouts) resolve();
              });
            });
            await bob.request("echo.join");
            for (let n = 0; n < shouts; n += 1) await ada.request("echo.shout", { text: String(n) });
            await all;
            return { heard, sessions };
            }""",
            [SHOUTS, PATIENCE_SECONDS],
        )
        proxy.budget = lambda: None
        assert seen["heard"] == [[n + 1, str(n)] for n in range(SHOUTS)]
        assert len(seen["sessions"]) >= 3
        assert all(seen["sessions"])
        await browser.close()


@pytest.mark.ci
async def test_a_short_cut_of_the_chat_page_goes_unseen(tmp_path: Path) -> None:
    async with (
        running_gateway(tmp_path) as gateway,
        cutting_proxy(gateway.port) as proxy,
        async_playwright() as playwright,
    ):
        browser = await launch(playwright)
        page = await browser.new_page()
        await page.goto(f"http://127.0.0.1:{proxy.port}/chat/")
        await page.get_by_test_id("name-input").fill("ada")
        await page.get_by_test_id("sign-in-button").click()
        await page.get_by_test_id("room-name-input").fill("den")
        await page.get_by_test_id("room-submit").click()
        await expect(page.get_by_test_id("room-title")).to_have_text("# den")
        bob = await gateway.client("bob")
        pushes = bob.pushes()
        await bob.request("chat.join", {"room": "den"})
        await expect(page.get_by_test_id("member")).to_have_count(2)
        said = []
        for n in range(3):
            proxy.cut_all()
            await bob.request("chat.say", {"room": "den", "text": f"bob {n}"})
            await page.get_by_test_id("text").fill(f"ada {n}")
            await page.keyboard.press("Enter")
            said += [f"bob {n}", f"ada {n}"]
            await expect(page.get_by_test_id("message-text")).to_have_text(said)
            await expect(page.locator("[data-state]")).to_have_count(0)
            await expect(page.get_by_test_id("status")).to_have_attribute("data-status", "connected")
            assert await page.get_by_test_id("banner").is_hidden()
        # For bob, ada never left; and what she said came once.
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert [(await anext(pushes)).body.get("text") for _ in range(3)] == [f"ada {n}" for n in range(3)]
        # A page that is left for good does not stay as a ghost.
        await page.goto("about:blank")
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert (await anext(pushes)).route == "chat.left"
        await bob.close()
        await browser.close()
