"""Topics: each rule of the pattern by its name."""

import asyncio
import random
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyloom import Address, Expired, MemoryNetwork, Node, NotExecuted, Service, rpc
from skyloom.message import value as values
from skyloom.patterns import topic as topic_module
from skyloom.patterns.topic import NoTopic, Publisher, Subscription, TooManySubscribers, Topic
from skyloom.testing import SimLoop
from tests.core.cast import start
from tests.examples import examples

NUMBERS = Topic[int]("test.numbers")


@dataclass
class Score:
    player: str
    points: list[int]


SCORES = Topic[Score]("test.scores")


class Press(Service):
    """Publishes."""

    def __init__(self, keep: int = 0, subscribers_max: int = 1_000) -> None:
        self.numbers: Publisher[int] = NUMBERS.open(self, keep=keep, subscribers_max=subscribers_max)
        self.scores: Publisher[Score] = SCORES.open(self)

    @rpc
    async def publish(self, *numbers: int) -> None:
        for number in numbers:
            self.numbers.publish(number)

    @rpc
    async def hold(self) -> None:
        await self.sleep(3)


class SerialPress(Press):
    serial = True


class Reader(Service):
    """Subscribes; the other's `Publisher` is seen from the outside only."""

    mailbox_messages_max = 8

    def __init__(self) -> None:
        self.read: list[int] = []
        self.scores: list[Score] = []
        self.ends: list[str] = []
        self.downs: list[Address] = []
        self.pause = 0.0

    @rpc
    async def join(self, press: Address, last: int = 0) -> None:
        self.subscription = await NUMBERS.subscribe(self, press, self.on_number, last=last, on_end=self.on_end)

    @rpc
    async def join_scores(self, press: Address) -> None:
        await SCORES.subscribe(self, press, self.on_score)

    @rpc
    async def leave(self) -> None:
        self.subscription.unsubscribe()

    async def on_number(self, number: int) -> None:
        self.read.append(number)
        if self.pause:
            await self.sleep(self.pause)

    async def on_score(self, score: Score) -> None:
        score.points.append(0)
        self.scores.append(score)

    async def on_end(self, how: str) -> None:
        self.ends.append(how)

    async def on_down(self, address: Address, how: str) -> None:
        self.downs.append(address)


class FullReader(Reader):
    """Joins while as many messages wait for it as may."""

    serial = True
    mailbox_messages_max = 1

    @rpc
    async def join_when_full(self, press: Address) -> None:
        await self.sleep(1)
        await self.join(press)

    @rpc
    async def other(self) -> None: ...


class SlowReader(Reader):
    serial = True

    @rpc
    async def join_twice(self, press: Address) -> None:
        await self.join(press, 2)
        self.subscription.unsubscribe()
        await self.join(press)


async def joined(node: Node, press: Press, cls: type[Reader] = Reader, last: int = 0) -> Reader:
    reader = await start(node, cls)
    await node.call(reader.address, "lua", "join", press.address, last)
    return reader


async def test_subscribers_get_what_is_published_in_order(node: Node) -> None:
    press = await start(node, Press)
    readers = [await joined(node, press) for _ in range(3)]
    for number in range(4):
        assert press.numbers.publish(number) == 3
    await asyncio.sleep(0.1)
    assert [reader.read for reader in readers] == [[0, 1, 2, 3]] * 3


async def test_between_nodes(nodes: tuple[Node, Node, MemoryNetwork]) -> None:
    here, there, _ = nodes
    press = await start(here, Press, 10)
    press.numbers.publish(1)
    readers = [await joined(node, press, last=5) for node in (here, there, there)]
    press.numbers.publish(2)
    await asyncio.sleep(0.1)
    assert [reader.read for reader in readers] == [[1, 2]] * 3


async def test_what_is_delivered_is_a_copy_for_each(node: Node) -> None:
    press = await start(node, Press)
    readers = [await start(node, Reader) for _ in range(2)]
    for reader in readers:
        await node.call(reader.address, "lua", "join_scores", press.address)
    score = Score("ada", [1])
    press.scores.publish(score)
    score.points.append(99)
    await asyncio.sleep(0.1)
    assert [reader.scores for reader in readers] == [[Score("ada", [1, 0])]] * 2


@pytest.mark.parametrize("subscribers", [1, 20])
async def test_a_message_is_encoded_once_whatever_the_number_of_subscribers(
    nodes: tuple[Node, Node, MemoryNetwork], monkeypatch: pytest.MonkeyPatch, subscribers: int
) -> None:
    here, there, _ = nodes
    press = await start(here, Press)
    for node in nodes[:2]:
        for _ in range(subscribers):
            reader = await joined(node, press)
            await node.call(reader.address, "lua", "join_scores", press.address)
    packs = []
    pack = values.pack

    def counted(args: tuple[object, ...]) -> bytes:
        packs.append(args)
        return pack(args)

    monkeypatch.setattr(values, "pack", counted)
    press.scores.publish(Score("ada", [1]))
    assert len(packs) == 1
    press.numbers.publish(1)  # immutable: packed for the other node only
    assert len(packs) == 2
    await asyncio.sleep(0.1)
    assert len(packs) == 2


async def test_an_immutable_message_within_a_node_is_not_encoded_at_all(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    press = await start(node, Press)
    reader = await joined(node, press)
    monkeypatch.setattr(values, "pack", None)
    press.numbers.publish(1)
    await asyncio.sleep(0.1)
    assert reader.read == [1]


@pytest.mark.parametrize("how", ["kill", "exit"])
async def test_a_subscriber_that_dies_leaves_by_itself(node: Node, how: str) -> None:
    press = await start(node, Press)
    reader, other = await joined(node, press), await joined(node, press)
    if how == "kill":
        node.kill(reader.address)
    else:
        reader.exit()
    await asyncio.sleep(0.1)
    assert press.numbers.subscribers == [other.address]
    press.numbers.publish(1)
    await asyncio.sleep(0.1)
    assert (other.read, node.dead_letters.total) == ([1], 0)


async def test_a_subscriber_on_a_lost_node_leaves_and_is_told(nodes: tuple[Node, Node, MemoryNetwork]) -> None:
    here, there, network = nodes
    press = await start(here, Press, 10)
    reader = await joined(there, press)
    network.cut("one", "two")
    await asyncio.sleep(0.1)
    assert press.numbers.subscribers == []
    assert len(reader.ends) == 1
    press.numbers.publish(1)
    network.mend("one", "two")
    await there.call(reader.address, "lua", "join", press.address, 1)
    press.numbers.publish(2)
    await asyncio.sleep(0.1)
    assert reader.read == [1, 2]


async def test_a_slow_subscriber_fills_its_own_mailbox_and_nobody_elses(node: Node) -> None:
    press = await start(node, Press)
    slow, quick = await joined(node, press, SlowReader), await joined(node, press, Reader)
    slow.pause = 1.0
    for number in range(20):
        press.numbers.publish(number)
        await asyncio.sleep(0.01)
    assert quick.read == list(range(20))
    # One is being handled, and as many wait as the mailbox holds.
    assert node.dead_letters.by_reason == {"skyloom.overloaded": 20 - 1 - Reader.mailbox_messages_max}
    slow.pause = 0.0
    await asyncio.sleep(1)
    press.numbers.publish(20)
    await asyncio.sleep(0.1)
    assert slow.read == [*range(9), 20]
    assert slow.subscription.missed == 11
    assert quick.subscription.missed == 0


async def test_a_subscriber_hears_although_the_begin_of_its_subscription_was_lost(node: Node) -> None:
    press, full = await start(node, Press), await start(node, FullReader)
    press.numbers.publish(1)
    joining = asyncio.ensure_future(node.call(full.address, "lua", "join_when_full", press.address))
    await asyncio.sleep(0.1)
    node.send(full.address, "lua", "other")
    await joining
    assert node.dead_letters.by_reason == {"skyloom.overloaded": 1}
    press.numbers.publish(2)
    await asyncio.sleep(0.1)
    assert (full.read, full.subscription.missed) == ([2], 0)


async def test_publishing_never_waits(node: Node) -> None:
    press = await start(node, Press)
    slow = await joined(node, press, SlowReader)
    slow.pause = 1000.0
    before = asyncio.get_running_loop().time()
    await node.call(press.address, "lua", "publish", *range(100))
    assert asyncio.get_running_loop().time() == before


@pytest.mark.parametrize(("last", "expected"), [(0, []), (2, [8, 9]), (5, [5, 6, 7, 8, 9]), (99, [5, 6, 7, 8, 9])])
async def test_late_subscribers_get_the_last_that_were_kept(node: Node, last: int, expected: list[int]) -> None:
    press = await start(node, Press, 5)
    for number in range(10):
        press.numbers.publish(number)
    assert press.numbers.kept == 5
    reader = await joined(node, press, last=last)
    press.numbers.publish(10)
    await asyncio.sleep(0.1)
    assert reader.read == [*expected, 10]
    assert reader.subscription.missed == 0


async def test_what_is_kept_is_bounded_in_bytes_too(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topic_module, "KEEP_BYTES_MAX", 1_000)
    press = await start(node, Press)
    texts: Publisher[str] = Topic[str]("test.texts").open(press, keep=100)
    for _ in range(50):
        texts.publish("x" * 300)
    assert texts.kept == 2  # a message is a little more than its text
    texts.publish("x" * 2_000)
    assert texts.kept == 0


async def test_after_unsubscribe_nothing_is_handled_not_even_what_was_under_way(node: Node) -> None:
    press = await start(node, Press)
    reader = await joined(node, press)
    press.numbers.publish(1)
    await asyncio.sleep(0.1)
    press.numbers.publish(2)
    reader.subscription.unsubscribe()
    await asyncio.sleep(0.1)
    assert (reader.read, press.numbers.subscribers, reader.subscription.active) == ([1], [], False)
    reader.subscription.unsubscribe()  # again: no harm


async def test_what_is_left_over_from_an_old_subscription_does_not_reach_a_new_one(node: Node) -> None:
    press = await start(node, Press, 10)
    reader = await joined(node, press)
    for number in range(3):
        press.numbers.publish(number)
    reader.subscription.unsubscribe()
    await reader.join(press.address, 2)  # not by a call, which would queue behind what is left over
    press.numbers.publish(3)
    await asyncio.sleep(5)
    assert reader.read == [1, 2, 3]
    assert press.numbers.subscribers == [reader.address]  # the word of the first one's end did not end the second


async def test_the_begin_of_an_old_subscription_does_not_open_a_new_one(node: Node) -> None:
    press = await start(node, Press, 10)
    press.numbers.publish(0)
    press.numbers.publish(1)
    reader = await start(node, SlowReader)  # so the first one's begin and its two messages wait until it has left
    await node.call(reader.address, "lua", "join_twice", press.address)
    press.numbers.publish(2)
    await asyncio.sleep(5)
    assert reader.read == [2]


async def test_unsubscribing_reaches_a_publisher_whose_mailbox_is_full(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    press = await start(node, SerialPress)
    reader = await joined(node, press)
    monkeypatch.setattr(press._cell, "messages_max", 3)
    for _ in range(5):
        node.send(press.address, "lua", "hold")
    await asyncio.sleep(0.1)
    reader.subscription.unsubscribe()
    await asyncio.sleep(30)
    assert press.numbers.subscribers == []


async def test_subscribing_twice_is_refused_and_again_after_leaving_is_not(node: Node) -> None:
    press = await start(node, Press)
    reader = await joined(node, press)
    with pytest.raises(ValueError, match="already"):
        await NUMBERS.subscribe(reader, press.address, reader.on_number)
    reader.subscription.unsubscribe()
    subscription: Subscription[int] = await NUMBERS.subscribe(reader, press.address, reader.on_number)
    assert subscription.active


async def test_subscribers_are_bounded(node: Node) -> None:
    press = await start(node, Press, 0, 2)
    for _ in range(2):
        await joined(node, press)
    late = await start(node, Reader)
    with pytest.raises(TooManySubscribers):
        await NUMBERS.subscribe(late, press.address, late.on_number)
    assert len(press.numbers.subscribers) == 2


async def test_subscribing_fails_as_a_call_does_and_leaves_nothing_behind(node: Node) -> None:
    reader, plain, press = await start(node, Reader), await start(node, Service), await start(node, Press)
    with pytest.raises(NoTopic):
        await Topic[int]("test.none").subscribe(reader, press.address, reader.on_number)
    with pytest.raises(NotExecuted):
        await NUMBERS.subscribe(reader, plain.address, reader.on_number)
    with pytest.raises(NotExecuted):
        await NUMBERS.subscribe(reader, Address("solo", 999), reader.on_number)
    stuck = await start(node, SerialPress)
    node.send(stuck.address, "lua", "hold")
    await asyncio.sleep(0.1)
    with pytest.raises(Expired):
        await NUMBERS.subscribe(reader, stuck.address, reader.on_number, timeout=1)
    await asyncio.sleep(5)
    assert stuck.numbers.subscribers == []
    assert (reader.ends, reader.downs, node.services.monitors) == ([], [], {})
    with pytest.raises(TypeError, match="async def"):
        await NUMBERS.subscribe(reader, press.address, reader.read.append)  # type: ignore[arg-type]  # the point


@pytest.mark.parametrize("how", ["kill", "exit", "close"])
async def test_subscribers_learn_of_the_end_of_the_publisher_once(node: Node, how: str) -> None:
    press = await start(node, Press)
    reader = await joined(node, press)
    {"kill": lambda: node.kill(press.address), "exit": press.exit, "close": press.numbers.close}[how]()
    await asyncio.sleep(0.1)
    assert len(reader.ends) == 1
    assert not reader.subscription.active
    assert reader.downs == []  # that is for those whom the service itself monitors


async def test_the_services_own_monitor_is_left_alone(node: Node) -> None:
    press = await start(node, Press)
    reader = await joined(node, press)
    reader.monitor(press.address)
    reader.subscription.unsubscribe()
    node.kill(press.address)
    await asyncio.sleep(0.1)
    assert (reader.downs, reader.ends) == ([press.address], [])


async def test_a_topic_is_opened_once(node: Node) -> None:
    press = await start(node, Press)
    with pytest.raises(ValueError, match="already"):
        NUMBERS.open(press)
    with pytest.raises(ValueError, match="keep"):
        Topic[int]("test.other").open(press, keep=-1)
    press.numbers.close()
    NUMBERS.open(press)


async def test_a_value_that_cannot_cross_is_refused_and_nothing_is_lost(node: Node) -> None:
    press = await start(node, Press)
    reader = await joined(node, press)
    anything: Publisher[Any] = press.numbers
    with pytest.raises(TypeError):
        anything.publish(object())
    press.numbers.publish(1)
    await asyncio.sleep(0.1)
    assert (reader.read, reader.subscription.missed) == ([1], 0)


async def run_schedule(moves: list[tuple[str, int]], seed: int) -> None:
    """Random moves: what each reader got is one unbroken run of what was published, from where it joined."""
    chance = random.Random(seed)
    network = MemoryNetwork()
    async with (
        Node("one", watch_loop=False, transport=network.transport()) as one,
        Node("two", watch_loop=False, transport=network.transport()) as two,
    ):
        press = await start(one, Press, 4)
        readers = [await start(node, Reader) for node in (one, one, two)]
        expected: list[list[int]] = [[], [], []]
        inside = [False] * 3
        published: list[int] = []
        for move, who in moves:
            if move == "publish":
                published.append(len(published))
                press.numbers.publish(published[-1])
                for index in range(3):
                    if inside[index]:
                        expected[index].append(published[-1])
                await asyncio.sleep(0.001)  # a mailbox of eight would fill
            elif move == "toggle" and inside[who]:
                readers[who].subscription.unsubscribe()
                inside[who] = False
            elif move == "toggle":
                last = chance.randint(0, 6)
                await readers[who]._cell.node.call(readers[who].address, "lua", "join", press.address, last)
                inside[who] = True
                expected[who] += published[-4:][-last:] if last else []
            else:
                await asyncio.sleep(chance.choice([0, 0.001]))
        await asyncio.sleep(10)
        assert [reader.read for reader in readers] == expected
        members = [reader.address for reader, member in zip(readers, inside, strict=True) if member]
        assert sorted(press.numbers.subscribers) == sorted(members)


@examples(100)
@given(
    st.lists(st.tuples(st.sampled_from(["publish", "publish", "toggle", "wait"]), st.integers(0, 2)), max_size=40),
    st.integers(0, 1000),
)
def test_property_each_gets_exactly_what_was_published_while_it_was_in(moves: list[tuple[str, int]], seed: int) -> None:
    with asyncio.Runner(loop_factory=SimLoop) as runner:
        runner.run(run_schedule(moves, seed))
