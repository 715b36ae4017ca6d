"""Retries: what is repeated, how often, how soon, and for how long."""

import asyncio
import random
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyloom import Address, CallError, Expired, Failed, Node, NotExecuted, Service, Unknown, UnknownName, rpc
from skyloom.patterns.breaker import State, shared_circuits
from skyloom.patterns.retry import Retry, RetryBudget, RetrySettings, may_repeat, retry_call
from skyloom.patterns.timeout import call_with_timeout
from tests.core.cast import start
from tests.examples import examples


@pytest.fixture
async def node() -> AsyncIterator[Node]:
    async with Node("retry", watch_loop=False) as node:
        # As if there had been many calls before: the budget has tests of its own.
        node.shared[RetryBudget] = {key: _rich(node) for key in ("FLAKY", Address("retry", 99), Address("retry", 2))}
        yield node


def _rich(node: Node) -> RetryBudget:
    budget = RetryBudget(node.now)
    for _ in range(1000):
        budget.called()
    return budget


class NotSold(Failed, code="test.retry.not_sold"):
    """A business error."""


class Flaky(Service):
    """Breaks a few times, then works."""

    name = "FLAKY"

    def __init__(self, breaks: int, how: str = "crash") -> None:
        self.breaks, self.how, self.times = breaks, how, list[float]()

    @rpc
    async def work(self) -> int:
        self.times.append(self.clock.now())
        if len(self.times) <= self.breaks:
            if self.how == "crash":
                raise RuntimeError("broken")
            if self.how == "hang":
                await self.sleep(100)
            raise NotSold("no", retryable=self.how == "busy")
        return len(self.times)

    @rpc
    async def nested(self, dest: Address) -> None:
        await retry_call(self, dest, "lua", "work", timeout=60, settings=RetrySettings(attempts=100))


async def test_what_did_not_start_is_repeated_until_it_does(node: Node) -> None:
    asyncio.get_running_loop().call_later(0.12, lambda: asyncio.ensure_future(node.spawn(Flaky, 0)))
    settings = RetrySettings(attempts=50)
    assert await retry_call(node.root, "FLAKY", "lua", "work", settings=settings) == 1
    assert node.counters["retries"] > 0


async def test_what_may_have_run_is_not_repeated_unless_it_is_idempotent(node: Node) -> None:
    flaky = await start(node, Flaky, 2)
    with pytest.raises(Failed):
        await retry_call(node.root, "FLAKY", "lua", "work")
    assert len(flaky.times) == 1
    assert await retry_call(node.root, "FLAKY", "lua", "work", idempotent=True) == 3


async def test_attempts_are_counted_and_the_last_error_is_raised(node: Node) -> None:
    flaky = await start(node, Flaky, 100)
    with pytest.raises(Failed, match="broken"):
        await retry_call(node.root, "FLAKY", "lua", "work", idempotent=True)
    assert len(flaky.times) == 3


class Fickle(Service):
    """Leaves in the midst of its work."""

    name = "FICKLE"

    @rpc
    async def work(self) -> None:
        self.timeout(0.5, self.leave)
        await self.sleep(100)

    async def leave(self) -> None:
        self.exit()


class Stern(Service):
    name = "FICKLE"

    @rpc
    async def work(self) -> None:
        raise NotSold("no")


async def fickle_try(node: Node, dest: Address | str, way: str) -> None:
    node.shared.setdefault(RetryBudget, {})[dest] = _rich(node)
    settings = RetrySettings(attempts=50, attempt_seconds=1.0)
    if way == "typed":
        retry = Retry(node.root, idempotent=True, settings=settings, budget=_rich(node))

        async def work() -> None:
            await node.call(dest, "lua", "work", timeout=1)

        await retry.run(work)
    else:
        circuit = way == "circuit"
        await retry_call(node.root, dest, "lua", "work", idempotent=True, circuit=circuit, settings=settings)


@pytest.mark.parametrize("way", ["call", "circuit", "typed"])
@pytest.mark.parametrize("by_name", [False, True])
async def test_that_a_try_may_have_run_is_said_even_when_the_last_one_did_not_start(
    node: Node, by_name: bool, way: str
) -> None:
    fickle = await start(node, Fickle)
    with pytest.raises(Unknown, match="an earlier one may have run") as caught:
        await fickle_try(node, "FICKLE" if by_name else fickle.address, way)
    assert isinstance(caught.value.__cause__, NotExecuted)
    assert caught.value.code == "skyloom.unknown"


async def test_so_it_is_when_the_circuit_opens_in_between(node: Node) -> None:
    flaky = await start(node, Flaky, 100)
    for _ in range(6):
        with pytest.raises(Failed):
            await retry_call(node.root, "FLAKY", "lua", "work", idempotent=True, circuit=True)
    with pytest.raises(Unknown) as caught:
        await retry_call(node.root, "FLAKY", "lua", "work", idempotent=True, circuit=True)
    assert len(flaky.times) == 20
    assert getattr(caught.value.__cause__, "code", None) == "skyloom.circuit_open"


async def test_a_callee_that_says_no_in_the_end_is_believed(node: Node) -> None:
    fickle = await start(node, Fickle)
    node.loop.call_later(0.55, lambda: asyncio.ensure_future(node.spawn(Stern)))
    with pytest.raises(NotSold):
        await fickle_try(node, "FICKLE", "call")
    assert fickle.address not in node.cells


async def test_nothing_is_said_to_have_run_when_no_try_started(node: Node) -> None:
    with pytest.raises(UnknownName):
        await fickle_try(node, "FICKLE", "call")


async def test_a_business_error_is_not_repeated_unless_it_says_so(node: Node) -> None:
    flaky = await start(node, Flaky, 1, "no")
    with pytest.raises(NotSold):
        await retry_call(node.root, "FLAKY", "lua", "work", idempotent=True)
    assert len(flaky.times) == 1
    flaky.how, flaky.breaks = "busy", 2
    assert await retry_call(node.root, "FLAKY", "lua", "work", idempotent=True) == 3


@pytest.mark.parametrize(
    ("error", "always", "idempotent"),
    [
        (NotExecuted(), True, True),
        (NotExecuted(code="skyloom.overloaded", kind="resource_exhausted"), True, True),
        (UnknownName(), True, True),
        (NotExecuted(code="skyloom.circuit_open"), False, False),
        (NotExecuted(code="skyloom.deadline_passed"), False, False),
        (NotExecuted(code="skyloom.bad_payload", kind="invalid_argument"), False, False),
        (Unknown(), False, True),
        (Expired(), False, True),
        (Failed(code="skyloom.internal"), False, True),
        (Failed(retryable=True), False, True),
        (Failed(), False, False),
        (NotSold(), False, False),
    ],
)
def test_which_errors_may_be_repeated(error: CallError, always: bool, idempotent: bool) -> None:
    assert may_repeat(error, idempotent=False) is always
    assert may_repeat(error, idempotent=True) is idempotent


async def test_the_back_off_is_exponential_with_full_jitter(node: Node) -> None:
    flaky = await start(node, Flaky, 10_000, "busy")  # an error that nobody logs
    settings = RetrySettings(attempts=6, backoff_seconds=0.1, backoff_seconds_max=0.5)
    waits: list[list[float]] = [[], [], [], [], []]
    for _ in range(60):
        node.shared[RetryBudget]["FLAKY"] = _rich(node)
        flaky.times.clear()
        with pytest.raises(Failed):
            await retry_call(node.root, "FLAKY", "lua", "work", idempotent=True, settings=settings)
        for wait, before, after in zip(waits, flaky.times, flaky.times[1:], strict=False):
            wait.append(after - before)
    for wait, most in zip(waits, (0.1, 0.2, 0.4, 0.5, 0.5), strict=True):
        assert max(wait) <= most + 1e-9
        assert max(wait) > 0.8 * most
        assert min(wait) < 0.2 * most


async def test_all_tries_share_one_deadline(node: Node) -> None:
    flaky = await start(node, Flaky, 100, "hang")
    started = node.now()
    settings = RetrySettings(attempts=50, attempt_seconds=0.3)
    with pytest.raises(Expired):
        await retry_call(node.root, "FLAKY", "lua", "work", idempotent=True, timeout=2, settings=settings)
    assert node.now() - started <= 2.0
    assert 4 <= len(flaky.times) <= 7


class Unlucky(random.Random):
    """Every back-off is as long as it may be."""

    def random(self) -> float:
        return 1.0


class Patient(Service):
    """Tries for a minute, unless its own request has less; notes when it gave up."""

    def __init__(self) -> None:
        self.gave_up = list[float]()

    @rpc
    async def work(self, dest: Address, typed: bool, timeout: float) -> None:
        settings = RetrySettings(attempts=100, backoff_seconds=1.0)
        try:
            if typed:
                retry = Retry(self, timeout=timeout, settings=settings, budget=_rich(self.node))
                await retry.run(Flaky.at(self, dest).work)
            else:
                await retry_call(self, dest, "lua", "work", timeout=timeout, settings=settings)
        finally:
            self.gave_up.append(self.clock.now())


@pytest.mark.parametrize("typed", [False, True])
@pytest.mark.parametrize(("timeout", "request_timeout"), [(2.5, 60.0), (60.0, 2.5)], ids=["its own", "the request's"])
async def test_a_retry_that_would_come_after_the_deadline_is_not_waited_for(
    typed: bool, timeout: float, request_timeout: float
) -> None:
    async with Node("retry", rng=Unlucky(), watch_loop=False) as node:
        nobody = Address("retry", 99)
        node.shared[RetryBudget] = {nobody: _rich(node)}
        patient = await start(node, Patient)
        started = node.now()
        with pytest.raises(Failed, match="no service"):
            await node.call(patient.address, "lua", "work", nobody, typed, timeout, timeout=request_timeout)
        # Tries at 0 and 1; the next one, two seconds later, would be at 3.
        assert patient.gave_up == [pytest.approx(started + 1)]


@pytest.mark.parametrize("circuit", [False, True])
@pytest.mark.parametrize("by_name", [False, True])
async def test_a_try_has_no_more_than_the_time_that_is_left(node: Node, by_name: bool, circuit: bool) -> None:
    flaky = await start(node, Flaky, 100, "hang")
    dest = "FLAKY" if by_name else flaky.address
    started = node.now()
    settings = RetrySettings(attempts=50, attempt_seconds=1.5, backoff_seconds=0.1)
    with pytest.raises(Expired):
        await retry_call(node.root, dest, "lua", "work", idempotent=True, timeout=2, circuit=circuit, settings=settings)
    assert node.now() - started == pytest.approx(2.0)
    assert len(flaky.times) == 2


async def test_the_deadline_of_the_request_being_handled_ends_the_retries(node: Node) -> None:
    caller = await start(node, Flaky, 0)
    nobody = Address("retry", 99)
    retried = node.shared[RetryBudget][nobody]
    with pytest.raises(CallError):
        await node.call(caller.address, "lua", "nested", nobody, timeout=0.5)
    before = retried._saved
    await asyncio.sleep(30)
    assert retried._saved == before


async def test_an_open_circuit_is_not_retried_against(node: Node) -> None:
    flaky = await start(node, Flaky, 100)
    for _ in range(10):
        with pytest.raises(CallError):
            await retry_call(node.root, "FLAKY", "lua", "work", idempotent=True, circuit=True)
    assert shared_circuits(node.root).of("FLAKY", "work").state is State.OPEN
    assert len(flaky.times) == 20
    retries = node.counters["retries"]
    with pytest.raises(NotExecuted, match="circuit"):
        await retry_call(node.root, "FLAKY", "lua", "work", idempotent=True, circuit=True)
    assert node.counters["retries"] == retries


async def test_the_budget_ends_the_retries(node: Node) -> None:
    node.shared.clear()
    flaky = await start(node, Flaky, 1_000_000, "busy")
    settings = RetrySettings(backoff_seconds=0)
    for _ in range(100):
        with pytest.raises(Failed):
            await retry_call(node.root, "FLAKY", "lua", "work", idempotent=True, settings=settings)
    assert len(flaky.times) == 100 + 10 + 1
    assert node.counters["retries_refused"] > 50


async def test_a_retry_costs_the_budget_one(node: Node) -> None:
    flaky = await start(node, Flaky, 1_000_000, "busy")
    budget = node.shared[RetryBudget]["FLAKY"] = RetryBudget(node.now)
    for _ in range(95):
        budget.called()  # which leaves 10.5, and the call itself makes 10.6 of it
    with pytest.raises(Failed):
        await retry_call(
            node.root,
            "FLAKY",
            "lua",
            "work",
            idempotent=True,
            settings=RetrySettings(attempts=100, backoff_seconds=0),
        )
    assert len(flaky.times) == 1 + 10


async def test_a_cancelled_call_is_not_repeated(node: Node) -> None:
    flaky = await start(node, Flaky, 100, "hang")
    call = asyncio.ensure_future(retry_call(node.root, "FLAKY", "lua", "work", idempotent=True))
    await asyncio.sleep(1)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await asyncio.sleep(30)
    assert len(flaky.times) == 1


async def test_a_typed_call_is_repeated_too(node: Node) -> None:
    flaky = await start(node, Flaky, 1)
    answer: int = await Retry(node.root, idempotent=True).run(Flaky.at(node.root, flaky.address).work)
    assert answer == 2


async def test_call_with_timeout_is_call_in_the_tutorials_order(node: Node) -> None:
    flaky = await start(node, Flaky, 1, "hang")
    started = node.now()
    with pytest.raises(Expired):
        await call_with_timeout(node.root, flaky.address, 0.5, "lua", "work")
    assert node.now() - started == pytest.approx(0.5)
    assert await call_with_timeout(node.root, flaky.address, 0.5, "lua", "work") == 2


@pytest.mark.parametrize("wrong", [{"attempts": 0}, {"backoff_seconds": 6}, {"attempt_seconds": 0}])
def test_settings_that_cannot_be(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        RetrySettings(**wrong)


Step = tuple[str, float]
steps = st.lists(
    st.one_of(
        st.tuples(st.just("call"), st.integers(1, 30).map(float)),
        st.tuples(st.just("retry"), st.integers(1, 20).map(float)),
        st.tuples(st.just("wait"), st.floats(0, 20)),
    ),
    max_size=40,
)


@examples(300)
@given(steps)
def test_retries_are_at_most_10_percent_of_calls_plus_1_a_second_in_any_stretch_of_time(steps: list[Step]) -> None:
    now = 50.0
    budget = RetryBudget(lambda: now)
    # A budget that was just full is the most generous one there is: every stretch of time begins with no more.
    log = [(now, 0, 0)]
    exact = 1.0
    for what, amount in steps:
        if what == "wait":
            now += amount
            exact = min(100.0, exact + amount)
            log.append((now, 0, 0))
        for _ in range(0 if what == "wait" else int(amount)):
            if what == "call":
                budget.called()
                exact = min(100.0, exact + 0.1)
                log.append((now, 1, 0))
            else:
                allowed = budget.spend()
                assert allowed == (exact >= 1 - 1e-6)  # what is saved is given, and no more
                exact -= allowed
                log.append((now, 0, int(allowed)))
    for first in range(0, len(log), 7):
        calls = retries = 0
        for when, called, retried in log[first:]:
            calls += called
            retries += retried
            saved = 1.0 if first == 0 else 100.0
            assert retries <= 0.1 * calls + (when - log[first][0]) + saved + 1e-6
