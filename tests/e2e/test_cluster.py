"""A chat whose gateways and services are processes of their own, joined by NATS, and what the end of each one does."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from tests.e2e.cluster_chat import AWAY, Person, make_room
from tests.e2e.cluster_process import ClusterProcesses, NodeProcess, cluster_of
from tests.nats import NatsServer, running_nats

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.ci]

MESSAGES = 50
OUTAGE_SECONDS = 1.0
TALK_SECONDS = 0.3
BACK_SECONDS = 10.0
LOOK_SECONDS = 0.05


@pytest.fixture(scope="module")
def nats() -> Iterator[NatsServer]:
    with running_nats() as server:
        yield server


class ChatCluster:
    """Two gateways that run no services, and two nodes of which one does."""

    def __init__(self, processes: ClusterProcesses) -> None:
        self.processes = processes
        self.gateways = [processes.gateway("one"), processes.gateway("other")]
        self.nodes = [processes.node("ann"), processes.node("ben")]

    @property
    def holder(self) -> NodeProcess:
        (holder,) = [node for node in self.nodes if node.has("chat")]
        return holder


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster(nats: NatsServer, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ChatCluster]:
    async with cluster_of(tmp_path_factory.mktemp("chat"), nats.url, "chat") as processes:
        cluster = ChatCluster(processes)
        await processes.start(*cluster.nodes, *cluster.gateways)
        yield cluster


async def test_people_on_two_gateways_hear_the_same_in_one_order(cluster: ChatCluster) -> None:
    one, other = cluster.gateways
    await make_room(one, "talk")
    ears = [await Person.enter(one, "ear-1", "talk"), await Person.enter(other, "ear-2", "talk", tcp=True)]
    await ears[0].hears(("chat.joined", "ear-2"))
    ears[0].heard.clear()

    async def visit(number: int) -> Person:
        guest = await Person.enter(cluster.gateways[number % 2], f"guest-{number}", "talk", tcp=number > 1)
        for count in range(MESSAGES):
            assert await guest.say(f"{number}-{count}")
        await guest.client.request("chat.leave", {"room": "talk"})
        return guest

    guests = await asyncio.gather(*(visit(number) for number in range(4)))
    for ear in ears:
        await ear.hears(*(("chat.left", guest.client.user) for guest in guests))
    assert ears[0].heard == ears[1].heard
    for guest in guests:
        of_guest = [(route, id) for route, user, id in ears[0].heard if user == guest.client.user]
        assert of_guest == [("chat.joined", 0), *(("chat.message", id) for id in guest.said), ("chat.left", 0)]
    said = {id: text for guest in guests for id, text in guest.said.items()}
    assert len(said) == 4 * MESSAGES
    assert await ears[1].stored() == said
    for person in (*ears, *guests):
        await person.client.close()


class Talk:
    """In a room: two who talk and two who listen, one of each on each gateway."""

    def __init__(self, cluster: ChatCluster, room: str) -> None:
        self._cluster, self._room = cluster, room

    async def begin(self) -> None:
        one, other = self._cluster.gateways
        await make_room(one, self._room)
        self.ears = [await Person.enter(one, "ear-1", self._room), await Person.enter(other, "ear-2", self._room)]
        self.people = [await Person.enter(one, "ada", self._room), await Person.enter(other, "bob", self._room)]
        self._all = [*self.ears, *self.people]
        await self.ears[0].hears(("chat.joined", "bob"))
        for person in self.people:
            person.talk(person.client.user)
        await asyncio.sleep(TALK_SECONDS)

    async def goes_on(self) -> None:
        """Wait until both are answered, and all are in the room, on the same connections as ever."""
        for person in self.people:
            await person.is_answered(f"{person.client.user} is back")
        async with asyncio.timeout(BACK_SECONDS):  # those who only listen come back by themselves
            while await self.ears[0].count() < len(self._all):  # noqa: ASYNC110 - nobody is told
                await asyncio.sleep(LOOK_SECONDS)
        heard = [len(ear.ids) for ear in self.ears]
        await asyncio.sleep(TALK_SECONDS)
        assert all(len(ear.ids) > before for ear, before in zip(self.ears, heard, strict=True))
        for person in self._all:
            assert not person.client.closed
            assert person.client.recovered is None
            assert await person.members() == sorted(each.client.user for each in self._all)

    async def end(self) -> None:
        """All that was answered is stored; nothing is there twice, and nothing that nobody said."""
        for person in self.people:
            await person.hush()
            assert person.codes <= AWAY
        stored = await self.ears[0].stored()
        said = self.people[0].said | self.people[1].said
        failed = self.people[0].failed | self.people[1].failed
        assert {id: stored.get(id) for id in said} == said
        assert {text for id, text in stored.items() if id not in said} <= failed
        for person in self._all:
            assert person.ids == sorted(set(person.ids))
        for ear in self.ears:
            await ear.knows(stored)
            await person.client.close()


async def test_a_node_that_stops_in_order_hands_over_unseen(cluster: ChatCluster) -> None:
    talk = Talk(cluster, "stop")
    await talk.begin()
    moves = [ear.moves for ear in talk.ears]
    old = cluster.holder
    old.signal(signal.SIGTERM)
    assert await old.wait() == 0
    (new,) = [node for node in cluster.nodes if node is not old]
    await cluster.processes.took("chat", new)
    await talk.goes_on()
    assert [ear.moves for ear in talk.ears] == moves
    await talk.end()
    await old.start()


async def test_a_nats_server_that_is_killed_costs_no_connection(cluster: ChatCluster, nats: NatsServer) -> None:
    talk = Talk(cluster, "nats")
    await talk.begin()
    holder = cluster.holder
    nats.kill()
    await asyncio.sleep(OUTAGE_SECONDS)
    nats.start()
    await talk.goes_on()
    assert cluster.holder is holder
    await talk.end()


async def test_the_people_of_a_gateway_that_is_killed_leave(cluster: ChatCluster) -> None:
    one, other = cluster.gateways
    await make_room(one, "gone")
    ear = await Person.enter(one, "ear", "gone")
    people = [await Person.enter(other, name, "gone") for name in ("ada", "bob")]
    await other.kill()
    await ear.hears(("chat.left", "ada"), ("chat.left", "bob"))
    assert await ear.members() == ["ear"]
    ear.heard.clear()
    await other.start()
    again = await Person.enter(other, "ada", "gone")
    await ear.hears(("chat.joined", "ada"))
    assert await again.members() == ["ada", "ear"]
    for person in (ear, again, *people):
        await person.client.close()
