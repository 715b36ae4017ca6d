"""Forwarding: each rule of the pattern by its name, within a node and across two."""

import asyncio
from dataclasses import dataclass

import pytest

from skyloom import (
    Address,
    AnsweredTwice,
    Expired,
    Failed,
    MemoryNetwork,
    Node,
    NotExecuted,
    Service,
    Unknown,
    rpc,
)
from skyloom.message import value as values
from tests.core.cast import start

Two = tuple[Node, Node, MemoryNetwork]


@dataclass
class Parcel:
    """Mutable, so that it travels as bytes within a node too."""

    items: list[str]


class Refused(Failed, code="forwarding.refused"):
    """The target's own error."""


class Target(Service):
    def __init__(self) -> None:
        self.seen: list[tuple[Address, float]] = []
        self.traces: list[str | None] = []

    @rpc
    async def deliver(self, parcel: Parcel) -> Parcel:
        self.seen.append((self.request.source, self.request.deadline - self.clock.now()))
        self.traces.append(self.request.trace)
        return Parcel([*parcel.items, "signed"])

    @rpc
    async def refuse(self, parcel: Parcel) -> None:
        raise Refused(parcel.items[0])

    @rpc
    async def later(self, seconds: float) -> str:
        await self.sleep(seconds)
        return "done"


class Relay(Service):
    """Passes on every request unopened."""

    def __init__(self, dest: Address, pause: float = 0.0) -> None:
        self.dest = dest
        self.pause = pause
        self.payloads: list[object] = []

    async def on_start(self) -> None:
        self.dispatch("lua", self.relay, unpack=False)
        self.dispatch("text", self.relay, unpack=False)

    async def relay(self, session: int, source: Address) -> None:
        self.payloads.append(self.request.payload)
        if self.pause:
            await self.sleep(self.pause)
        self.forward(self.dest)


class TwiceRelay(Relay):
    async def relay(self, session: int, source: Address) -> None:
        self.forward(self.dest)
        with pytest.raises(AnsweredTwice):
            self.forward(self.dest)


class Caller(Service):
    @rpc
    async def ask(self, dest: Address, parcel: Parcel) -> Parcel:
        return await Target.at(self, dest).deliver(parcel)


@pytest.fixture(params=["one_node", "two_nodes"])
def places(request: pytest.FixtureRequest, nodes: Two) -> tuple[Node, Node]:
    """Where the caller and target live, and where the relay."""
    return (nodes[0], nodes[0]) if request.param == "one_node" else (nodes[0], nodes[1])


async def chain(places: tuple[Node, Node], pause: float = 0.0, links: int = 1) -> tuple[Target, list[Relay]]:
    """A target at home, and relays in front of it, at home and away by turns; the last is the door."""
    home, away = places
    target = await start(home, Target)
    relays: list[Relay] = []
    for number in range(links):
        dest = relays[-1].address if relays else target.address
        relays.append(await start(home if number % 2 else away, Relay, dest, pause))
    return target, relays


async def test_the_target_sees_the_first_caller_and_answers_it(places: tuple[Node, Node]) -> None:
    target, (relay,) = await chain(places)
    caller = await start(places[0], Caller)
    answer = await places[0].call(caller.address, "lua", "ask", relay.address, Parcel(["tea"]))
    assert answer == Parcel(["tea", "signed"])
    assert [source for source, _ in target.seen] == [caller.address]


async def test_the_answer_does_not_pass_the_relay(places: tuple[Node, Node]) -> None:
    _, (relay,) = await chain(places)
    waiting = places[0].root.fork(places[0].call(relay.address, "lua", "later", 2.0))
    await asyncio.sleep(1)
    relay.node.kill(relay.address)
    assert await waiting == "done"


@pytest.mark.parametrize("pause", [0.0, 1.0])
async def test_chained(places: tuple[Node, Node], pause: float) -> None:
    target, relays = await chain(places, pause, 3)
    answer = await places[0].call(relays[-1].address, "lua", "deliver", Parcel(["tea"]), timeout=10)
    assert answer == Parcel(["tea", "signed"])
    assert [source for source, _ in target.seen] == [places[0].root.address]
    assert [len(relay.payloads) for relay in relays] == [1, 1, 1]


async def test_a_relay_unpacks_nothing(places: tuple[Node, Node], monkeypatch: pytest.MonkeyPatch) -> None:
    target, relays = await chain(places, links=3)
    unpacked = []
    unpack = values.unpack

    def counted(data: bytes) -> tuple[object, ...]:
        unpacked.append(data)
        return unpack(data)

    monkeypatch.setattr(values, "unpack", counted)
    await places[0].call(relays[-1].address, "lua", "deliver", Parcel(["tea"]))
    assert len(target.seen) == 1
    parcels = [data for data in unpacked if b"tea" in data]
    assert len(parcels) == 2  # the target its request, the caller its answer
    first = relays[0].payloads
    assert all(relay.payloads == first for relay in relays)
    assert type(first[0]) is bytes


async def test_a_relay_passes_on_what_no_one_could_unpack(nodes: Two) -> None:
    target, (relay,) = await chain((nodes[0], nodes[1]))
    root = nodes[0].root
    waiting = root.fork(root.call(target.address, "lua", "later", 1.0))
    await asyncio.sleep(0.1)
    nodes[0].root.redirect(relay.address, root.address, "lua", 77, b"\xc1 garbage")
    await asyncio.sleep(0.1)
    assert relay.payloads == [b"\xc1 garbage"]
    assert await waiting == "done"


async def test_deadlines_pass_on(places: tuple[Node, Node]) -> None:
    target, relays = await chain(places, 1.0, 3)
    await places[0].call(relays[-1].address, "lua", "deliver", Parcel([]), timeout=4)
    assert target.seen[0][1] == pytest.approx(1)
    with pytest.raises(Expired):
        await places[0].call(relays[-1].address, "lua", "deliver", Parcel([]), timeout=2.5)
    await asyncio.sleep(10)
    assert len(target.seen) == 1  # dropped before its handler started


@pytest.mark.parametrize("pause", [0.0, 1.0])
async def test_a_dead_target_answers_not_executed(places: tuple[Node, Node], pause: float) -> None:
    target, relays = await chain(places, pause, 2)
    places[0].kill(target.address)
    with pytest.raises(NotExecuted) as caught:
        await places[0].call(relays[-1].address, "lua", "deliver", Parcel([]))
    assert caught.value.code == "skyloom.no_service"


async def test_a_target_that_dies_at_work_answers_unknown(places: tuple[Node, Node]) -> None:
    target, relays = await chain(places, links=2)
    places[0].loop.call_later(1, places[0].kill, target.address)
    with pytest.raises(Unknown, match="killed"):
        await places[0].call(relays[-1].address, "lua", "later", 3.0)


async def test_the_targets_own_error_reaches_the_first_caller(places: tuple[Node, Node]) -> None:
    _, relays = await chain(places, links=2)
    with pytest.raises(Refused, match="tea"):
        await places[0].call(relays[-1].address, "lua", "refuse", Parcel(["tea"]))


async def test_a_target_on_a_lost_node_fails_the_caller_at_once(nodes: Two) -> None:
    here, there, network = nodes
    target = await start(there, Target)
    relay = await start(here, Relay, target.address)
    here.loop.call_later(1, network.cut, "one", "two")
    with pytest.raises(Unknown) as caught:
        await here.call(relay.address, "lua", "later", 3.0)
    assert caught.value.code == "skyloom.peer_lost"


@pytest.mark.parametrize("links", [1, 2])
async def test_on_three_nodes_the_loss_of_the_target_fails_the_caller_at_once(nodes: Two, links: int) -> None:
    here, there, network = nodes
    async with Node("three", watch_loop=False, transport=network.transport()) as far:
        target = await start(far, Target)
        relay = await start(there, Relay, target.address)
        for _ in range(1, links):
            relay = await start(there, Relay, relay.address)
        here.loop.call_later(1, network.cut, "one", "three")
        before = here.now()
        with pytest.raises(Unknown) as caught:
            await here.call(relay.address, "lua", "later", 3.0)
        assert caught.value.code == "skyloom.peer_lost"
        assert here.now() - before == pytest.approx(1)


@pytest.mark.parametrize("near", [False, True], ids=["target on a third node", "target beside the caller"])
async def test_the_loss_of_the_relays_node_after_it_forwarded_harms_nobody(nodes: Two, near: bool) -> None:
    here, there, network = nodes
    async with Node("three", watch_loop=False, transport=network.transport()) as far:
        target = await start(here if near else far, Target)
        relay = await start(there, Relay, target.address)
        here.loop.call_later(1, network.cut, "one", "two")
        assert await here.call(relay.address, "lua", "later", 3.0) == "done"


async def test_a_send_is_passed_on_with_its_trace(places: tuple[Node, Node]) -> None:
    target, (relay,) = await chain(places)

    class Traced(Service):
        @rpc
        async def send_on(self) -> None:
            self.request.trace = "trace-1"
            self.send(relay.address, "lua", "deliver", Parcel([]))

    traced = await start(places[0], Traced)
    places[0].send(traced.address, "lua", "send_on")
    await asyncio.sleep(0.1)
    assert target.traces == ["trace-1"]


async def test_passing_on_twice_is_refused(node: Node) -> None:
    target = await start(node, Target)
    relay = await start(node, TwiceRelay, target.address)
    assert await node.call(relay.address, "lua", "deliver", Parcel([])) == Parcel(["signed"])
    assert len(target.seen) == 1


async def test_other_types_of_messages_pass_too(node: Node) -> None:
    class Echo(Service):
        async def on_start(self) -> None:
            self.dispatch("text", self.on_text)

        async def on_text(self, session: int, source: Address, text: str) -> str:
            return text.upper()

    relay = await start(node, Relay, await node.spawn(Echo))
    assert await node.call(relay.address, "text", "hello") == "HELLO"
    assert relay.payloads == [b"hello"]
