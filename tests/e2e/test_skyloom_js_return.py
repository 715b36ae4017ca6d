"""skyloom.js loses its connection and comes back, in Chromium, against a stub and a clock that the tests move."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page

from tests.e2e.stub_socket import STUB, back, lost, stub_page

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module")
async def page(browser: Browser) -> AsyncIterator[Page]:
    async with stub_page(browser) as page:
        yield page


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
