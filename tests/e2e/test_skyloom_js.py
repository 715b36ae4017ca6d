"""skyloom.js in Chromium, against a WebSocket that is a stub and a clock that the tests move."""

import asyncio
import shutil
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, async_playwright

from tests.e2e.fake_chat import FakeChat
from tests.e2e.fake_gateway import ORIGIN, STATIC, launch

pytestmark = pytest.mark.asyncio(loop_scope="module")

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


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await launch(playwright)
        yield browser
        await browser.close()


@pytest_asyncio.fixture(loop_scope="module")
async def page(browser: Browser) -> AsyncIterator[Page]:
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


async def test_a_client_says_hello_and_is_welcomed(page: Page) -> None:
    seen = await run(
        page,
        """
        const sessions = [];
        const client = new Client("ws://gateway.test/ws", options);
        client.addEventListener("session", ({ detail }) => sessions.push(detail));
        const opening = client.open();
        const before = client.status;
        Stub.last.welcome();
        await opening;
        const { protocol, url, sent } = Stub.last;
        const { status: after, user, session, limits } = client;
        return { before, after, user, session, limits, protocol, url, sent, sessions };
        """,
    )
    hello = {
        "type": "hello",
        "auth": {"scheme": "guest", "name": "ada"},
        "client": {"name": "skyloom.js"},
    }
    session = {"user": "ada", "session": "s1", "recovered": False, "first": True}
    assert seen == {
        "before": "connecting",
        "after": "connected",
        "user": "ada",
        "session": "s1",
        "limits": {"frame_bytes": 65536},
        "protocol": "skyloom.v1.json",
        "url": "ws://gateway.test/ws",
        "sent": [hello],
        "sessions": [session],
    }


async def test_the_address_is_the_pages_own_host(page: Page) -> None:
    url = await run(page, "const client = new Client(options); client.open(); return Stub.last.url;")
    assert url == ORIGIN.replace("http", "ws") + "/ws"


async def test_requests_are_paired_by_id_and_errors_carry_their_fields(page: Page) -> None:
    seen = await run(
        page,
        """
        const client = await opened();
        const one = settled(client.request("a.one", { n: 1 })), two = settled(client.request("a.two"));
        const [, first, second] = Stub.last.sent;
        Stub.last.say({ type: "error", id: second.id, error: {
          code: "a.no", kind: "not_found", message: "no such thing", retryable: true, details: { x: 1 } } });
        Stub.last.say({ type: "response", id: first.id, body: { ok: true } });
        client.notify("a.note", { n: 3 });
        return { first, second, one: await one, two: await two, note: Stub.last.sent.at(-1) };
        """,
    )
    assert seen["first"] == {"type": "request", "id": 1, "route": "a.one", "body": {"n": 1}}
    assert seen["second"] == {"type": "request", "id": 2, "route": "a.two", "body": {}}
    assert seen["one"] == {"value": {"ok": True}}
    error = seen["two"]
    assert (error["error"], error["code"], error["kind"]) == ("RequestError", "a.no", "not_found")
    assert (error["message"], error["retryable"], error["details"]) == ("no such thing", True, {"x": 1})
    assert error["base"] is True
    assert seen["note"] == {"type": "notify", "route": "a.note", "body": {"n": 3}}


async def test_a_request_times_out_and_its_late_answer_is_counted(page: Page) -> None:
    await page.evaluate(
        f"""(async () => {{ {STUB}
        window.client = await opened();
        window.socket = Stub.last;
        window.outcome = null;
        settled(client.request("a.slow", {{}}, {{ timeout: 2 }})).then((o) => {{ window.outcome = o; }});
        }})()"""
    )
    await page.clock.run_for(1900)
    assert await page.evaluate("outcome") is None
    await page.clock.run_for(200)
    outcome = await page.evaluate("outcome")
    assert outcome["error"] == "RequestTimeout"
    assert "no answer to a.slow within 2 s" in outcome["message"]
    late = await page.evaluate("socket.say({type: 'response', id: 1, body: {}}), client.lateAnswers")
    assert late == 1


async def test_pushes_reach_callbacks_and_iterators(page: Page) -> None:
    seen = await run(
        page,
        """
        const client = await opened();
        const called = [], iterated = [];
        const off = client.on("a.tick", (body, push) => called.push([body.n, push.seq]));
        const stream = client.pushes("a.tick");
        Stub.last.push(1, "a.tick", { n: 1 });
        off();
        Stub.last.push(2, "a.tick", { n: 2 });
        Stub.last.push(2, "a.tick", { n: 2 });
        Stub.last.push(3, "a.other", {});
        for await (const push of stream) {
          iterated.push(push.body.n);
          if (iterated.length === 2) client.close();
        }
        return { called, iterated };
        """,
    )
    assert seen == {"called": [[1, 1]], "iterated": [1, 2]}


async def test_a_slow_consumer_of_pushes_is_told_and_goes_on(page: Page) -> None:
    seen = await run(
        page,
        """
        const client = await opened();
        const stream = client.pushes("a.tick", { bufferMax: 2 });
        for (let n = 1; n <= 5; n += 1) Stub.last.push(n, "a.tick", { n });
        const got = [(await stream.next()).value.seq, (await stream.next()).value.seq];
        const gap = await settled(stream.next());
        Stub.last.push(6, "a.tick", {});
        return { got, gap, after: (await stream.next()).value.seq };
        """,
    )
    assert seen["got"] == [1, 2]
    assert (seen["gap"]["error"], seen["gap"]["missed"]) == ("PushOverflow", 3)
    assert seen["after"] == 6


async def test_a_listener_that_throws_hides_nothing_from_the_others(browser: Browser) -> None:
    context = await browser.new_context()
    chat = FakeChat()
    page = await chat.open(context, "/")
    heard = await run(
        page,
        """
        const client = await opened();
        const heard = [];
        client.on("a.tick", () => { throw new Error("a bug"); });
        client.on("a.tick", () => heard.push(1));
        Stub.last.push(1, "a.tick", {});
        return heard;
        """,
    )
    assert heard == [1]
    assert any("a bug" in trouble for trouble in chat.troubles)
    await context.close()


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


async def test_a_new_session_fails_what_the_old_one_did_not_answer(page: Page) -> None:
    await lost(
        page,
        """
        const waiting = settled(client.request("a.slow"));
        Stub.last.drop(1006);
        window.waiting = null;
        waiting.then((outcome) => { window.waiting = outcome; });
        window.later = settled(client.request("a.more"));
        """,
    )
    assert await page.evaluate("waiting") is None
    status = await page.evaluate("statuses.at(-1)")
    assert status["status"] == "suspended"
    assert 0.25 <= status["retryIn"] <= 0.5
    await page.clock.run_for(600)
    assert await page.evaluate("Stub.made.length") == 2
    await page.evaluate("Stub.last.welcome()")
    assert await page.evaluate("client.status") == "connected"
    waiting, later = await page.evaluate("later.then((later) => [waiting, later])")
    assert (waiting["error"], waiting["sent"]) == ("SessionLost", True)
    assert (later["error"], later["sent"]) == ("SessionLost", False)
    sessions = await page.evaluate("sessions")
    assert [(each["session"], each["first"], each["recovered"]) for each in sessions] == [
        ("s1", True, False),
        ("s2", False, False),
    ]


async def test_the_back_off_doubles_to_a_ceiling_with_jitter(page: Page) -> None:
    await lost(page)
    delays = []
    for _ in range(10):
        delays.append(await page.evaluate("Stub.last.drop(1006), statuses.at(-1).retryIn"))
        await page.clock.run_for(int(delays[-1] * 1000) + 5)
    ceilings = [min(20, 0.5 * 2**n) for n in range(10)]
    for delay, ceiling in zip(delays, ceilings, strict=True):
        assert ceiling / 2 <= delay <= ceiling
    shares = [delay / ceiling for delay, ceiling in zip(delays, ceilings, strict=True)]
    assert len({round(share, 3) for share in shares}) > 3


async def test_a_connection_that_lasted_starts_the_back_off_anew(page: Page) -> None:
    await lost(page)
    for _ in range(5):
        delay = await page.evaluate("Stub.last.drop(1006), statuses.at(-1).retryIn")
        await page.clock.run_for(int(delay * 1000) + 5)
    await page.evaluate("Stub.last.welcome()")
    await page.clock.run_for(11_000)
    assert await page.evaluate("Stub.last.drop(1006), statuses.at(-1).retryIn") <= 0.5


async def back(page: Page, welcome: str) -> None:
    """Let the attempt to come back begin, and welcome it."""
    await page.clock.run_for(1100)
    await page.evaluate(f"Stub.last.welcome({welcome})")


async def test_a_recovered_session_goes_on_as_if_nothing_had_happened(page: Page) -> None:
    await lost(
        page,
        """
        window.heard = [];
        client.on("a.tick", (body, push) => heard.push(push.seq));
        window.stream = client.pushes("a.tick");
        Stub.last.push(1, "a.tick", {});
        window.answered = client.request("a.zero");
        window.waiting = client.request("a.one", { n: 1 });
        Stub.last.say({ type: "response", id: 1, body: {} });
        await answered;
        Stub.last.drop(1006);
        window.later = client.request("a.two");
        """,
    )
    await back(page, "{ session: 's1', key: 'k2', recovered: true }")
    seen = await page.evaluate(
        """(async () => {
        const { sent } = Stub.last;
        for (const seq of [1, 2, 3]) Stub.last.push(seq, "a.tick", {});
        for (const { id, route } of sent.slice(1)) Stub.last.say({ type: "response", id, body: { route } });
        const iterated = [];
        for (let n = 0; n < 3; n += 1) iterated.push((await stream.next()).value.seq);
        return { sent, answers: await Promise.all([waiting, later]), heard, iterated, sessions };
        })()"""
    )
    hello, *requests = seen["sent"]
    assert hello["resume"] == {"session": "s1", "key": "k", "seq": 1}
    assert requests == [
        {"type": "request", "id": 2, "route": "a.one", "body": {"n": 1}},
        {"type": "request", "id": 3, "route": "a.two", "body": {}},
    ]
    assert seen["answers"] == [{"route": "a.one"}, {"route": "a.two"}]
    assert seen["heard"] == seen["iterated"] == [1, 2, 3]
    assert seen["sessions"][-1] == {"user": "ada", "session": "s1", "recovered": True, "first": False}
    await page.evaluate("Stub.last.drop(1006)")
    await back(page, "{ session: 's1', key: 'k3', recovered: true }")
    assert await page.evaluate("Stub.last.sent[0].resume") == {"session": "s1", "key": "k2", "seq": 3}


async def test_a_new_session_counts_from_one_and_marks_its_beginning(page: Page) -> None:
    await lost(
        page,
        """
        window.stream = client.pushes("a.tick");
        Stub.last.push(1, "a.tick", { n: "old" });
        client.request("a.one").catch(() => {});
        Stub.last.drop(1006);
        """,
    )
    await back(page, "{ session: 's2' }")
    seen = await page.evaluate(
        """(async () => {
        Stub.last.push(1, "a.tick", { n: "new" });
        client.request("a.two");
        const next = () => stream.next().then(({ value }) => value.body.n, (error) => error.name);
        return [await next(), await next(), await next(), Stub.last.sent.at(-1).id];
        })()"""
    )
    assert seen == ["old", "SessionLost", "new", 1]


async def test_few_requests_may_wait_and_a_notify_does_not(page: Page) -> None:
    await lost(
        page,
        """
        Stub.last.drop(1006);
        const waiting = Array.from({ length: 256 }, () => settled(client.request("a.one", {}, { timeout: 0.2 })));
        window.refused = await settled(client.request("a.one"));
        try { client.notify("a.note"); } catch (error) { window.note = error.name; }
        Promise.all(waiting).then((outcomes) => { window.outcomes = outcomes; });
        """,
    )
    refused, note = await page.evaluate("[refused, note]")
    assert (refused["error"], refused["sent"]) == ("NotConnected", False)
    assert note == "NotConnected"
    await page.clock.run_for(210)
    outcomes = await page.evaluate("outcomes")
    assert {(each["error"], each["sent"]) for each in outcomes} == {("RequestTimeout", False)}


async def test_it_gives_up_in_the_end(page: Page) -> None:
    await lost(page)
    for _ in range(60):
        await page.evaluate("if (client.status !== 'closed' && Stub.last.readyState < 3) Stub.last.drop(1006)")
        await page.clock.run_for(20_000)
    status = await page.evaluate("statuses.at(-1)")
    assert status["status"] == "closed"
    assert "gave up coming back" in status["reason"]


async def test_acks_are_few(page: Page) -> None:
    await lost(page, "for (let seq = 1; seq <= 70; seq += 1) Stub.last.push(seq, 'a.tick', {});")
    acks = "Stub.last.sent.filter((frame) => frame.type === 'ack').map((frame) => frame.seq)"
    assert await page.evaluate(acks) == [32, 64]
    await page.clock.run_for(900)
    assert await page.evaluate(acks) == [32, 64]
    await page.clock.run_for(200)
    assert await page.evaluate(acks) == [32, 64, 70]


async def test_a_gap_in_the_pushes_ends_the_client(page: Page) -> None:
    await lost(page, "Stub.last.push(2, 'a.tick', {});")
    assert await page.evaluate("[client.status, statuses.at(-1).reason]") == ["closed", "push 2 came after push 0"]


async def test_auth_may_be_a_function_asked_for_each_connection(page: Page) -> None:
    await page.evaluate(
        f"""(async () => {{ {STUB}
        window.Stub = Stub;
        let ticket = 0;
        const tickets = async () => {{
          ticket += 1;
          if (ticket === 2) throw new Error("no ticket");
          return {{ scheme: "ticket", ticket }};
        }};
        window.client = new Client("ws://gateway.test/ws", {{ auth: tickets, WebSocket: Stub }});
        window.reasons = [];
        client.addEventListener("status", ({{ detail }}) => reasons.push(detail.reason));
        client.open();
        Stub.last.open();
        }})()"""
    )
    assert await page.evaluate("Stub.last.sent[0].auth") == {"scheme": "ticket", "ticket": 1}
    await page.evaluate("Stub.last.say({ type: 'welcome', session: 's1', key: 'k' }), Stub.last.drop(1006)")
    await page.clock.run_for(600)
    await page.evaluate("Stub.last.open()")
    assert "there is no auth for the hello: no ticket" in await page.evaluate("reasons.at(-1)")
    await page.clock.run_for(1100)
    await page.evaluate("Stub.last.open()")
    assert await page.evaluate("Stub.last.sent[0].auth.ticket") == 3


async def test_a_message_over_the_gateways_limit_is_not_sent(page: Page) -> None:
    seen = await run(
        page,
        """
        const client = await opened();
        const outcome = await settled(client.request("a.one", { text: "é".repeat(40_000) }));
        return [outcome.error, outcome.limitBytes, Stub.last.sent.length];
        """,
    )
    assert seen == ["MessageTooLarge", 65536, 1]


async def test_a_page_that_is_left_for_good_ends_its_session(page: Page) -> None:
    await lost(page, "dispatchEvent(new PageTransitionEvent('pagehide', { persisted: true }));")
    assert await page.evaluate("client.status") == "connected"
    await page.evaluate("dispatchEvent(new PageTransitionEvent('pagehide', { persisted: false }))")
    assert await page.evaluate("[client.status, Stub.last.closedWith]") == ["closed", 1000]


async def test_a_drain_names_the_delay(page: Page) -> None:
    await lost(
        page,
        """
        window.drains = [];
        client.addEventListener("drain", ({ detail }) => drains.push(detail));
        Stub.last.say({ type: "drain", reason: "restart", reconnect_in: 7.5 });
        Stub.last.drop(1012);
        """,
    )
    assert await page.evaluate("drains") == [{"reason": "restart", "reconnectIn": 7.5}]
    assert await page.evaluate("statuses.at(-1).retryIn") == 7.5
    await page.clock.run_for(7400)
    assert await page.evaluate("Stub.made.length") == 1
    await page.clock.run_for(200)
    assert await page.evaluate("Stub.made.length") == 2


@pytest.mark.parametrize("code", [1007, 1009, 4400, 4401, 4403, 4409])
async def test_some_close_codes_are_final(page: Page, code: int) -> None:
    await lost(page, f"Stub.last.drop({code}, 'enough');")
    await page.clock.run_for(120_000)
    status = await page.evaluate("statuses.at(-1)")
    assert status == {"status": "closed", "reason": "enough", "closeCode": code, "retryIn": None}
    assert await page.evaluate("Stub.made.length") == 1


async def test_a_refused_hello_rejects_with_the_gateways_words(page: Page) -> None:
    refused = await run(
        page,
        """
        const connecting = settled(connect("ws://gateway.test/ws", options));
        Stub.last.open();
        const error = { code: "gateway.unauthenticated", message: "no guests" };
        Stub.last.say({ type: "error", id: 0, error });
        Stub.last.drop(4401);
        return connecting;
        """,
    )
    assert (refused["error"], refused["code"]) == ("HelloRefused", "gateway.unauthenticated")
    assert (refused["message"], refused["closeCode"]) == ("no guests", 4401)


async def test_connecting_gives_up_in_the_end(page: Page) -> None:
    await page.evaluate(
        f"""(async () => {{ {STUB}
        window.outcome = null;
        const connecting = connect("ws://gateway.test/ws", {{ ...options, connectTimeout: 3 }});
        settled(connecting).then((o) => {{ outcome = o; }});
        Stub.last.drop(1006);
        }})()"""
    )
    await page.clock.run_for(3100)
    outcome = await page.evaluate("outcome")
    assert outcome["error"] == "ConnectionLost"
    assert "no welcome within 3 s" in outcome["message"]


async def test_a_silent_gateway_is_pinged_then_given_up(page: Page) -> None:
    await lost(page)
    await page.clock.run_for(19_000)
    assert await page.evaluate("Stub.last.sent.length") == 1
    await page.clock.run_for(1_500)
    assert await page.evaluate("Stub.last.sent.at(-1)") == {"type": "ping"}
    await page.evaluate("Stub.last.say({type: 'pong'})")
    await page.clock.run_for(19_000)
    assert await page.evaluate("client.status") == "connected"
    await page.clock.run_for(12_000)
    assert await page.evaluate("statuses.filter((s) => s.reason === 'the gateway fell silent').length") == 1
    assert await page.evaluate("Stub.made.length") >= 2


async def test_a_ping_is_answered(page: Page) -> None:
    sent = await run(page, "await opened(); Stub.last.say({ type: 'ping' }); return Stub.last.sent.at(-1);")
    assert sent == {"type": "pong"}


async def test_close_is_for_good(page: Page) -> None:
    await lost(
        page,
        """
        const waiting = settled(client.request("a.slow"));
        const stream = client.pushes("a.tick");
        client.close();
        window.ending = { waiting: await waiting, stream: await stream.next(), code: Stub.last.closedWith };
        """,
    )
    await page.clock.run_for(120_000)
    closed = await page.evaluate("ending")
    assert closed["waiting"]["error"] == "ConnectionLost"
    assert closed["stream"]["done"] is True
    assert closed["code"] == 1000
    assert await page.evaluate("[client.status, Stub.made.length]") == ["closed", 1]


async def test_it_runs_in_node_with_a_websocket_passed_in(tmp_path: Path) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    source = STUB.replace('"/skyloom.js"', "process.argv[1]") + (
        """
        const client = await opened();
        const answer = client.request("a.one");
        Stub.last.say({ type: "response", id: 1, body: { ok: true } });
        console.log(JSON.stringify(await answer), client.status);
        const bare = await settled((async () => new Client("ws://x/ws", { auth, WebSocket: undefined }))());
        console.log(typeof WebSocket === "function" || /pass one as options.WebSocket/.test(bare.message));
        client.close();
        """
    )
    process = await asyncio.create_subprocess_exec(
        node, "--input-type=module", "--eval", source, str(module_copy(tmp_path)), stdout=PIPE, stderr=PIPE
    )
    out, err = await process.communicate()
    assert err == b""
    assert out == b'{"ok":true} connected\ntrue\n'


def module_copy(folder: Path) -> Path:
    """The client's files where node takes them for modules."""
    shutil.copytree(STATIC, folder / "static")
    (folder / "package.json").write_text('{"type": "module"}')
    return folder / "static/skyloom.js"
