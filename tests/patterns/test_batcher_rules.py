"""The batcher's rules of time and order, against a simple model, in virtual time and under random requests."""

import asyncio
from dataclasses import dataclass, field

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from skyloom import Failed, Node, Service
from skyloom.patterns.batcher import Batcher, BatchExpired
from skyloom.testing import SimLoop
from tests.core.cast import start
from tests.examples import examples

SIZE, WAIT, TIMEOUT = 10, 0.1, 1.0
STEP = 0.0137  # of which no small multiple is a time of the rules


@dataclass(eq=False)
class Request:
    number: int
    kind: str
    client: str
    seconds: float
    bad: bool
    asked: float
    task: asyncio.Task[None] | None = None
    begun: float | None = None  # by the model
    ready: float | None = None
    answered: float | None = None
    result: object = None
    cancelled: bool = False


@dataclass
class Kind:
    """The model: what waits, and when the last batch was."""

    last: float = float("-inf")
    waiting: list[Request] = field(default_factory=list)

    @property
    def due(self) -> float:
        return max(self.last + WAIT, self.waiting[0].asked) if self.waiting else float("inf")


class BatcherMachine(RuleBasedStateMachine):
    """Random requests of 3 clients and 2 kinds; some bad, some slow, some cancelled."""

    @initialize()
    def begin(self) -> None:
        self.loop = SimLoop()
        self.node = Node("model", watch_loop=False)
        self.requests: list[Request] = []
        self.overtaken: list[int] = []
        self.kinds = {"a": Kind(), "b": Kind()}
        self.expected: list[tuple[float, set[int]]] = []
        self.batches: list[tuple[float, set[int]]] = []

        async def begin() -> Service:
            await self.node.start()
            return await start(self.node, Service)

        self.service = self.loop.run_until_complete(begin())
        self.batcher: Batcher[Request, int] = Batcher(
            self.service, self.run_batch, timeout=TIMEOUT, key=lambda request: request.kind
        )

    async def run_batch(self, batch: list[Request]) -> list[int | BaseException]:
        self.batches.append((self.loop.time(), {request.number for request in batch}))
        try:
            await asyncio.sleep(max(request.seconds for request in batch))
        except asyncio.CancelledError:
            await asyncio.sleep(0.5)  # it does not give up: its result is a late one
        return [Failed("bad") if request.bad else request.number for request in batch]

    async def ask(self, request: Request) -> None:
        try:
            request.result = await self.batcher.submit(request, client=request.client)
        except (Failed, asyncio.CancelledError) as error:
            request.result = error
        request.answered = self.loop.time()
        if not request.cancelled:
            self.check_order(request)

    def check_order(self, request: Request) -> None:
        before = [r for r in self.requests[: request.number] if r.client == request.client and not r.cancelled]
        # Kept for the invariant: raised here, in a task, nobody would see it.
        self.overtaken += [earlier.number for earlier in before if earlier.answered is None]

    def run_model(self, until: float) -> None:
        while True:
            kind = min(self.kinds.values(), key=lambda kind: kind.due)
            if kind.due > until:
                return
            self.start_batch(kind, kind.due)

    def start_batch(self, kind: Kind, now: float) -> None:
        batch, kind.waiting, kind.last = kind.waiting, [], now
        self.expected.append((now, {request.number for request in batch}))
        seconds = max(request.seconds for request in batch)
        for request in batch:
            request.begun, request.ready = now, now + min(seconds, TIMEOUT)

    def pass_time(self, seconds: float) -> None:
        self.loop.run_until_complete(asyncio.sleep(seconds))
        self.run_model(self.loop.time())

    @rule(
        count=st.integers(1, 12),
        kind=st.sampled_from("ab"),
        client=st.sampled_from("xyz"),
        seconds=st.sampled_from([0.0, 0.0, 0.05, 0.3, 4.0]),
        bad=st.booleans(),
    )
    def submit(self, count: int, kind: str, client: str, seconds: float, bad: bool) -> None:
        for _ in range(count):
            request = Request(len(self.requests), kind, client, seconds, bad, self.loop.time())
            self.requests.append(request)
            request.task = self.loop.create_task(self.ask(request))
            self.kinds[kind].waiting.append(request)
            if len(self.kinds[kind].waiting) == SIZE:
                self.start_batch(self.kinds[kind], self.loop.time())
        self.pass_time(0.0001)  # so that all tasks ran

    @rule(steps=st.integers(1, 12))
    def wait(self, steps: int) -> None:
        self.pass_time(steps * STEP)

    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        live = [request for request in self.requests if request.answered is None]
        if live:
            request = data.draw(st.sampled_from(live))
            assert request.task is not None
            request.cancelled = True
            request.task.cancel()
            if request in self.kinds[request.kind].waiting:
                self.kinds[request.kind].waiting.remove(request)
            self.pass_time(0.0001)

    @invariant()
    def batches_ran_when_and_with_what_the_rules_say(self) -> None:
        assert len(self.batches) == len(self.expected)
        by_members = {frozenset(members): when for when, members in self.expected}
        for when, members in self.batches:
            assert by_members[frozenset(members)] == pytest.approx(when, abs=1e-6)

    @invariant()
    def no_answer_overtook_another_one_of_its_client(self) -> None:
        assert self.overtaken == []

    @invariant()
    def every_answer_came_when_it_was_ready_and_its_turn(self) -> None:
        now = self.loop.time() - 0.001
        for client in "xyz":
            turn = 0.0
            for request in [r for r in self.requests if r.client == client]:
                if request.cancelled:
                    assert request.answered is not None
                    turn = max(turn, request.answered)  # so long it was in the way of those behind it
                    continue
                if request.ready is None:
                    break  # it and all after it wait still
                turn = max(turn, request.ready)
                if request.answered is None:
                    assert turn >= now, "an answer is overdue"
                else:
                    assert request.ready - 1e-6 <= request.answered <= turn + 1e-6
                    self.check_result(request)

    def check_result(self, request: Request) -> None:
        assert request.begun is not None
        assert request.ready is not None
        if request.ready - request.begun >= TIMEOUT:
            assert isinstance(request.result, BatchExpired)
        elif request.bad:
            assert type(request.result) is Failed
        else:
            assert request.result == request.number

    def teardown(self) -> None:
        if not hasattr(self, "loop"):
            return
        try:
            self.pass_time(5.0)
            self.batches_ran_when_and_with_what_the_rules_say()
            self.every_answer_came_when_it_was_ready_and_its_turn()
            assert self.overtaken == []
            assert all(request.answered is not None for request in self.requests)
            assert not any(request.task.exception() for request in self.requests if request.task)
            assert self.batcher.unanswered == 0
            assert not self.batcher._kinds
            assert not len(self.batcher._order)
            self.loop.run_until_complete(self.node.stop())
        finally:
            self.loop.close()


TestBatcherRules = BatcherMachine.TestCase
TestBatcherRules.settings = examples(80, steps=25)
