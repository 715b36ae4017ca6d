"""The circuit breaker: what counts, when it opens and closes, and who hears of it."""

import asyncio
import random
from collections.abc import AsyncIterator

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from skyloom import CallError, Expired, Failed, Node, NotExecuted, Service, Unknown, UnknownName, rpc
from skyloom.patterns.breaker import (
    BreakerChange,
    BreakerSettings,
    CircuitBreaker,
    Circuits,
    Outcome,
    State,
    call_with_circuit,
    shared_circuits,
)
from tests.examples import examples


@pytest.fixture
async def node() -> AsyncIterator[Node]:
    async with Node("circuit", watch_loop=False) as node:
        yield node


class NotSold(Failed, code="test.breaker.not_sold"):
    """A business error."""


class Shaky(Service):
    name = "SHAKY"

    @rpc
    async def work(self, how: str = "") -> str:
        if how == "crash":
            raise RuntimeError("broken")
        if how == "no":
            raise NotSold("no")
        if how == "slow":
            await self.sleep(1.5)
        if how == "hang":
            await self.sleep(100)
        return how

    @rpc
    async def other(self) -> None:
        pass


async def fail(node: Node, times: int, how: str = "crash") -> None:
    for _ in range(times):
        with pytest.raises(CallError):
            await call_with_circuit(node.root, "SHAKY", "lua", "work", how, timeout=2)


async def state(node: Node) -> State:
    return shared_circuits(node.root).of("SHAKY", "work").state


async def test_it_opens_at_half_of_twenty_calls_and_refuses_at_once(node: Node) -> None:
    await node.spawn(Shaky)
    for _ in range(10):
        assert await call_with_circuit(node.root, "SHAKY", "lua", "work", "fine") == "fine"
    await fail(node, 9)
    assert await state(node) is State.CLOSED
    await fail(node, 1)
    assert await state(node) is State.OPEN
    with pytest.raises(NotExecuted) as caught:
        await call_with_circuit(node.root, "SHAKY", "lua", "work", "fine")
    assert caught.value.code == "skyloom.circuit_open"


async def test_by_address_it_counts_as_by_name(node: Node) -> None:
    """The way of a call by address is spelt out, for speed."""
    address = await node.spawn(Shaky)
    breaker = shared_circuits(node.root).of(address, "work")
    for how in ["fine"] * 10 + ["crash"] * 8 + ["hang"]:
        before = node.now()
        try:
            await call_with_circuit(node.root, address, "lua", "work", how, timeout=0.9)
        except CallError:
            assert how != "fine"
        assert node.now() - before == (pytest.approx(0.9) if how == "hang" else 0)
    assert breaker.state is State.CLOSED
    for _ in range(3):  # slow, and of 22 calls none too many
        await call_with_circuit(node.root, address, "lua", "work", "slow")
    assert breaker.state is State.CLOSED
    for _ in range(4):  # of 23, 24, 25 and 26 calls 10, 11, 12 and 13 failed
        assert breaker.state is State.CLOSED
        with pytest.raises(Failed):
            await call_with_circuit(node.root, address, "lua", "work", "crash")
    assert shared_circuits(node.root).of(address, "work").state is State.OPEN
    with pytest.raises(NotExecuted, match="circuit"):
        await call_with_circuit(node.root, address, "lua", "work")


async def test_it_is_per_service_and_method(node: Node) -> None:
    address = await node.spawn(Shaky)
    await fail(node, 20)
    await call_with_circuit(node.root, "SHAKY", "lua", "other")
    await call_with_circuit(node.root, address, "lua", "work")
    assert await state(node) is State.OPEN


async def test_what_is_older_than_the_window_does_not_count(node: Node) -> None:
    await node.spawn(Shaky)
    await fail(node, 19)
    await asyncio.sleep(10.1)
    await fail(node, 19)
    assert await state(node) is State.CLOSED
    await fail(node, 1)
    assert await state(node) is State.OPEN


async def test_it_opens_at_80_percent_slow_calls(node: Node) -> None:
    await node.spawn(Shaky)
    works = [call_with_circuit(node.root, "SHAKY", "lua", "work", "slow") for _ in range(16)]
    await asyncio.gather(*works)
    for _ in range(3):
        await call_with_circuit(node.root, "SHAKY", "lua", "work")
    assert await state(node) is State.CLOSED
    await call_with_circuit(node.root, "SHAKY", "lua", "work")
    assert await state(node) is State.OPEN


async def test_a_cancelled_call_never_counts_and_frees_the_probe(node: Node) -> None:
    await node.spawn(Shaky)
    calls = [asyncio.ensure_future(call_with_circuit(node.root, "SHAKY", "lua", "work", "hang")) for _ in range(50)]
    await asyncio.sleep(1.2)
    for call in calls:
        call.cancel()
    await asyncio.wait(calls)
    await fail(node, 19)
    assert await state(node) is State.CLOSED
    await fail(node, 1)
    assert await state(node) is State.OPEN
    await asyncio.sleep(6)
    probe = asyncio.ensure_future(call_with_circuit(node.root, "SHAKY", "lua", "work", "hang"))
    await asyncio.sleep(0.1)
    probe.cancel()
    await asyncio.wait([probe])
    assert await state(node) is State.HALF_OPEN
    for _ in range(3):
        await call_with_circuit(node.root, "SHAKY", "lua", "work")
    assert await state(node) is State.CLOSED


async def test_business_errors_and_overload_do_not_count_unless_asked(node: Node) -> None:
    await node.spawn(Shaky)
    overload = NotExecuted("full", code="skyloom.overloaded", kind="resource_exhausted")
    await fail(node, 100, "no")
    assert await state(node) is State.CLOSED
    breaker = shared_circuits(node.root).of("SHAKY", "work")
    assert breaker.judge(overload) is Outcome.NOTHING
    strict = Circuits(node.root, BreakerSettings(count_business_errors=True, count_overload=True)).of("SHAKY", "work")
    assert strict.judge(overload) is Outcome.FAILURE
    assert strict.judge(NotSold("no")) is Outcome.FAILURE


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (Unknown(), Outcome.FAILURE),
        (Expired(), Outcome.FAILURE),
        (UnknownName(), Outcome.FAILURE),
        (NotExecuted(code="skyloom.no_service"), Outcome.FAILURE),
        (Failed(code="skyloom.internal"), Outcome.FAILURE),
        (ConnectionResetError(), Outcome.FAILURE),
        (TimeoutError(), Outcome.FAILURE),
        (Failed("no"), Outcome.SUCCESS),
        (NotSold("no"), Outcome.SUCCESS),
        (NotExecuted(code="skyloom.deadline_passed"), Outcome.NOTHING),
        (NotExecuted(code="skyloom.bad_arguments", kind="invalid_argument"), Outcome.NOTHING),
        (asyncio.CancelledError(), Outcome.NOTHING),
        (GeneratorExit(), Outcome.NOTHING),
        (TypeError(), Outcome.NOTHING),
    ],
)
def test_what_an_error_says_about_the_callee(error: BaseException, outcome: Outcome) -> None:
    breaker = CircuitBreaker(lambda: 0.0, random.Random(0), BreakerSettings(), lambda *_: None)
    assert breaker.judge(error) is outcome


async def test_half_open_lets_one_probe_through_at_a_time_and_three_successes_close(node: Node) -> None:
    await node.spawn(Shaky)
    await fail(node, 20)
    await asyncio.sleep(5.6)
    probe = asyncio.ensure_future(call_with_circuit(node.root, "SHAKY", "lua", "work", "slow"))
    await asyncio.sleep(0.1)
    with pytest.raises(NotExecuted, match="right now"):
        await call_with_circuit(node.root, "SHAKY", "lua", "work")
    await probe
    assert await state(node) is State.OPEN  # a slow probe is none that succeeded
    await asyncio.sleep(11.1)
    for expected in (State.HALF_OPEN, State.HALF_OPEN, State.CLOSED):
        await call_with_circuit(node.root, "SHAKY", "lua", "work")
        assert await state(node) is expected


async def test_it_stays_open_5_seconds_doubling_to_60_with_jitter_and_starts_anew_once_closed() -> None:
    now = 0.0
    breaker = CircuitBreaker(lambda: now, random.Random(1), BreakerSettings(), lambda *_: None)
    jitters = set()
    for _ in range(20):
        breaker.leave(breaker.enter(), Outcome.FAILURE, 0)
    for base in (5, 10, 20, 40, 60, 60):
        assert base <= breaker._until - now < base * 1.1
        jitters.add((breaker._until - now) / base)
        now = breaker._until - 0.001
        with pytest.raises(NotExecuted):
            breaker.enter()
        now += 0.001
        breaker.leave(breaker.enter(), Outcome.FAILURE, 0)
    assert len(jitters) == 6
    now = breaker._until
    for _ in range(3):
        breaker.leave(breaker.enter(), Outcome.SUCCESS, 0)
    for _ in range(20):
        breaker.leave(breaker.enter(), Outcome.FAILURE, 0)
    assert breaker._until - now < 5.5


async def test_the_tutorials_simple_settings_are_one_line(node: Node) -> None:
    await node.spawn(Shaky)
    circuits = Circuits(node.root, BreakerSettings.consecutive(failures=5, open_seconds=60.0))
    for how in ["crash"] * 4 + ["fine"] + ["crash"] * 5:
        assert circuits.of("SHAKY", "work").state is State.CLOSED
        try:
            await circuits.call(node.root, "SHAKY", "lua", "work", how)
        except Failed:
            assert how == "crash"
    opened = node.now()
    assert circuits.of("SHAKY", "work").state is State.OPEN
    await asyncio.sleep(59.9)
    with pytest.raises(NotExecuted):
        await circuits.call(node.root, "SHAKY", "lua", "work")
    await asyncio.sleep(opened + 60 - node.now())
    await circuits.call(node.root, "SHAKY", "lua", "work")
    assert circuits.of("SHAKY", "work").state is State.CLOSED


async def test_changes_of_state_are_events(node: Node) -> None:
    await node.spawn(Shaky)
    changes: list[BreakerChange] = []
    circuits = shared_circuits(node.root)
    stop = circuits.watch(changes.append)
    circuits.watch(lambda change: 1 / 0)  # hurts nobody
    await fail(node, 20)
    await asyncio.sleep(6)
    for _ in range(3):
        await call_with_circuit(node.root, "SHAKY", "lua", "work")
    assert [(change.before, change.after) for change in changes] == [
        (State.CLOSED, State.OPEN),
        (State.OPEN, State.HALF_OPEN),
        (State.HALF_OPEN, State.CLOSED),
    ]
    assert (changes[0].service, changes[0].method) == ("SHAKY", "work")
    assert changes[0].reason == "20 of 20 calls failed"
    assert node.counters["circuit_open"] == node.counters["circuit_closed"] == 1
    stop()
    await fail(node, 20)
    assert len(changes) == 3


async def test_a_typed_call_goes_through_a_breaker_too(node: Node) -> None:
    address = await node.spawn(Shaky)
    breaker = shared_circuits(node.root).of(address, "work")
    answer: str = await breaker.run(Shaky.at(node.root, address).work, "typed")
    assert answer == "typed"


async def test_breakers_are_bounded_and_open_ones_are_kept(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skyloom.patterns.breaker.BREAKERS_MAX", 3)
    circuits = Circuits(node.root, BreakerSettings.consecutive(failures=1))
    kept = circuits.of("A", "open")
    kept.leave(kept.enter(), Outcome.FAILURE, 0)
    for number in range(10):
        circuits.of("B", str(number))
    assert len(circuits._breakers) == 3
    assert circuits.of("A", "open") is kept


@pytest.mark.parametrize(
    "wrong", [{"calls_min": 0}, {"failure_rate": 0}, {"open_seconds": 61}, {"window_seconds": 0}, {"jitter": -1}]
)
def test_settings_that_cannot_be(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="needed"):
        BreakerSettings(**wrong)  # type: ignore[arg-type]  # wrong on purpose


class BreakerMachine(RuleBasedStateMachine):
    """Against a model that keeps every call in a list. Calls overlap: they enter and leave in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.settings = BreakerSettings(jitter=0.0)
        self.breaker = CircuitBreaker(lambda: self.now, random.Random(0), self.settings, self.changed)
        self.changes: list[State] = []
        self.state = State.CLOSED
        self.counted: list[tuple[int, bool, bool]] = []  # second, failed, slow
        self.era = 0
        self.opened_times = 0
        self.until = 0.0
        self.probe = False
        self.successes = 0
        self.running: list[tuple[int, int]] = []  # the breaker's pass, the model's era

    def changed(self, before: State, after: State, reason: str) -> None:
        self.changes.append(after)

    def go(self, state: State) -> None:
        self.state, self.era, self.counted, self.probe, self.successes = state, self.era + 1, [], False, 0
        if state is State.OPEN:
            self.until = self.now + min(60.0, 5.0 * 2**self.opened_times)
            self.opened_times += 1

    @rule(count=st.integers(1, 12))
    def enter(self, count: int) -> None:
        for _ in range(count):
            if self.state is State.OPEN and self.now >= self.until:
                self.go(State.HALF_OPEN)
            allowed = self.state is State.CLOSED or (self.state is State.HALF_OPEN and not self.probe)
            try:
                self.running.append((self.breaker.enter(), self.era))
            except NotExecuted:
                assert not allowed
            else:
                assert allowed
                self.probe = self.state is State.HALF_OPEN

    @precondition(lambda self: self.running)
    @rule(
        data=st.data(),
        count=st.integers(1, 12),
        outcome=st.sampled_from([Outcome.SUCCESS, Outcome.FAILURE, Outcome.FAILURE, Outcome.NOTHING]),
        slow=st.booleans(),
    )
    def leave(self, data: st.DataObject, count: int, outcome: Outcome, slow: bool) -> None:
        for _ in range(min(count, len(self.running))):
            token, era = self.running.pop(data.draw(st.integers(0, len(self.running) - 1)))
            if slow or outcome is not Outcome.SUCCESS:
                self.breaker.leave(token, outcome, 1.0 if slow else 0.999)
            else:
                self.breaker.succeeded(token, self.now - 0.5)
            if era == self.era:
                self.model_leave(outcome, slow)

    def model_leave(self, outcome: Outcome, slow: bool) -> None:
        if self.state is State.HALF_OPEN:
            self.probe = False
            if outcome is Outcome.FAILURE or (slow and outcome is Outcome.SUCCESS):
                self.go(State.OPEN)
            elif outcome is Outcome.SUCCESS:
                self.successes += 1
                if self.successes == 3:
                    self.go(State.CLOSED)
                    self.opened_times = 0
        elif outcome is not Outcome.NOTHING:
            self.counted.append((int(self.now), outcome is Outcome.FAILURE, slow))
            window = [call for call in self.counted if call[0] > int(self.now) - 10]
            failed, slowed = sum(call[1] for call in window), sum(call[2] for call in window)
            if len(window) >= 20 and (failed >= 0.5 * len(window) or slowed >= 0.8 * len(window)):
                self.go(State.OPEN)

    @rule(seconds=st.sampled_from([0.1, 0.9, 1.0, 3.7, 5.0, 9.0, 31.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def it_is_in_the_models_state(self) -> None:
        assert self.breaker.state is self.state
        assert len(self.changes) == self.era


TestBreakerMachine = BreakerMachine.TestCase
TestBreakerMachine.settings = examples(150, steps=50)
