"""skyloom.js in Chromium, against a WebSocket that is a stub and a clock that the tests move."""

import asyncio
import shutil
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page

from tests.e2e.fake_chat import FakeChat
from tests.e2e.fake_gateway import ORIGIN, STATIC
from tests.e2e.stub_socket import STUB, lost, run, stub_page

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module")
async def page(browser: Browser) -> AsyncIterator[Page]:
    async with stub_page(browser) as page:
        yield page


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
