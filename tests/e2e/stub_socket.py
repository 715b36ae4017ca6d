"""A page with skyloom.js in it, whose WebSocket is a stub and whose clock the test moves."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from playwright.async_api import Browser, Page

from tests.e2e.fake_chat import FakeChat

STUB = """
const skyloom = await import("/skyloom.js");
const { Client, connect } = skyloom;
class Stub {
  static made = [];
  constructor(url, protocol) {
    Object.assign(this, { url, protocol, readyState: 0, sent: [] });
    Stub.made.push(this);
  }
  static get last() { return Stub.made.at(-1); }
  send(data) { this.sent.push(JSON.parse(data)); }
  close(code) { this.readyState = 3; this.closedWith = code ?? 1005; }
  say(frame) { this.onmessage({ data: JSON.stringify(frame) }); }
  open() { this.readyState = 1; this.onopen({}); }
  welcome(fields = {}) {
    this.open();
    this.say({ type: "welcome", session: `s${Stub.made.length}`, key: "k", user: "ada", recovered: false,
               heartbeat: 20, limits: { frame_bytes: 65536 }, ...fields });
  }
  drop(code, reason = "") { this.readyState = 3; this.onclose({ code, reason }); }
  push(seq, route, body) { this.say({ type: "push", seq, route, body }); }
}
const auth = { scheme: "guest", name: "ada" };
const options = { auth, WebSocket: Stub };
const opened = async (more = {}) => {
  const connecting = connect("ws://gateway.test/ws", { ...options, ...more });
  Stub.last.welcome();
  return connecting;
};
const settled = (promise) => promise.then((value) => ({ value }), (error) => ({
  error: error.name, message: error.message, ...error, base: error instanceof skyloom.SkyloomError }));
const turn = () => Promise.resolve().then(() => {}).then(() => {});
"""


@asynccontextmanager
async def stub_page(browser: Browser) -> AsyncIterator[Page]:
    context = await browser.new_context()
    await context.clock.install()
    chat = FakeChat()
    page = await chat.open(context, "/")
    await page.clock.pause_at("2030-01-01")
    yield page
    assert chat.troubles == []
    await context.close()


async def run(page: Page, script: str) -> Any:
    """The value of an async function body that sees the stub."""
    return await page.evaluate(f"(async () => {{ {STUB}\n{script} }})()")


async def lost(page: Page, script: str = "") -> None:
    """A client whose statuses are kept in `window.statuses`, and `script` after its welcome."""
    await page.evaluate(
        f"""(async () => {{ {STUB}
        window.Stub = Stub;
        window.statuses = [];
        window.sessions = [];
        const client = window.client = new Client("ws://gateway.test/ws", options);
        client.addEventListener("status", ({{ detail }}) => statuses.push(detail));
        client.addEventListener("session", ({{ detail }}) => sessions.push(detail));
        const opening = client.open();
        Stub.last.welcome();
        await opening;
        {script}
        }})()"""
    )


async def back(page: Page, welcome: str) -> None:
    """Let the attempt to come back begin, and welcome it."""
    await page.clock.run_for(1100)
    await page.evaluate(f"Stub.last.welcome({welcome})")
