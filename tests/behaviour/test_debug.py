"""DEBUG messages: every service tells what goes on in it, on its own node and from another."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import cast

import pytest

from skyloom import Address, Expired, Failed, NotExecuted, Service, rpc
from skyloom.node.debug import ROOT_HANDLE
from skyloom.node.status import NodeStatus, ServiceStatus, Stack
from tests.behaviour.world import Callee, Serial, World


class Talkative(Service):
    name = "TALKATIVE"

    async def on_info(self) -> Mapping[str, object]:
        return {"players": 3, "rooms": ["lobby"]}

    @rpc
    async def hang(self) -> None:
        await self.sleep(1_000)


class SerialTalkative(Talkative):
    name = "SERIAL"
    serial = True


async def ask(world: World, about: Address, *words: object) -> object:
    return await world.here.call(Address(about.node, ROOT_HANDLE), "debug", *words)


async def test_a_service_says_what_its_on_info_does(world: World) -> None:
    address = await world.there.spawn(Talkative)
    assert await world.here.call(address, "debug", "info") == {"players": 3, "rooms": ["lobby"]}
    plain, _ = await world.callee()
    assert await world.here.call(plain, "debug", "info") == {}


async def test_the_root_says_what_the_runtime_knows(world: World) -> None:
    address = await world.there.spawn(Talkative)
    status = cast("ServiceStatus", await ask(world, address, "stat", address.handle))
    assert (status.address, status.service, status.names) == (address, "Talkative", ("TALKATIVE",))
    assert status.state == "running"
    with pytest.raises(Failed, match="ask the node's root, :00000001@"):
        await world.here.call(address, "debug", "stat", address.handle)


async def test_the_root_describes_a_service_that_hangs(world: World) -> None:
    address = await world.there.spawn(SerialTalkative)
    hanging = [asyncio.create_task(world.here.call(address, "lua", "hang", timeout=10)) for _ in range(3)]
    await asyncio.sleep(1)
    with pytest.raises(Expired):
        await world.here.call(address, "debug", "info", timeout=1)
    status = cast("ServiceStatus", await ask(world, address, "stat", address.handle))
    assert status.handlers == 1
    assert status.mailbox_messages == 3  # two that hang after it, and the info that nobody waits for
    assert status.mailbox_bytes > 0
    stacks = cast("list[Stack]", await ask(world, address, "task", address.handle))
    (running,) = [stack for stack in stacks if stack.what.startswith("handles ")]
    assert running.frames[0].startswith("Talkative.hang (test_debug.py:")
    assert running.frames[-1].startswith("Service.sleep (service.py:")
    assert running.seconds_left == pytest.approx(8, abs=0.1)
    for task in hanging:
        task.cancel()
    await asyncio.gather(*hanging, return_exceptions=True)


async def test_what_is_counted(world: World) -> None:
    address, callee = await world.callee()
    before = cast("ServiceStatus", await ask(world, address, "stat", address.handle))
    for _ in range(5):
        await world.here.call(address, "lua", "add", 1)
    keeping = asyncio.create_task(world.here.call(address, "lua", "keep"))
    await asyncio.sleep(0.1)
    status = cast("ServiceStatus", await ask(world, address, "stat", address.handle))
    assert status.handled - before.handled == 6
    assert (status.handlers, status.kept, status.mailbox_messages) == (0, 1, 0)
    stacks = cast("list[Stack]", await ask(world, address, "task", address.handle))
    assert [stack.what.split(" of ")[0] for stack in stacks] == ["will answer lua keep"]
    callee.kept.clear()
    with pytest.raises(Failed):
        await keeping


async def test_a_node_in_numbers(world: World) -> None:
    before = cast("NodeStatus", await ask(world, Address(world.there.name, 0), "node"))
    address, _ = await world.callee()
    await world.there.spawn(Callee)
    world.here.send(address, "lua", "nothing of the kind")
    with pytest.raises(NotExecuted):
        await world.here.call(Address(world.there.name, 4_000), "lua", "add", 1)
    await asyncio.sleep(0.1)
    status = cast("NodeStatus", await ask(world, address, "node"))
    assert status.node == world.there.name
    assert status.nodes == (() if world.here is world.there else (world.here.name,))
    assert status.services["Callee"].services == 2
    assert status.handled > before.handled
    assert status.dead_letters == {"skyloom.no_method": 1}
    (letter,) = cast("list[object]", await ask(world, address, "letters", 10))
    assert letter == next(iter(world.there.dead_letters))
    assert await ask(world, address, "letters", 0) == []


async def test_services_and_names_are_listed(world: World) -> None:
    address = await world.there.spawn(Talkative)
    _, _ = await world.callee(Serial)
    found = cast("list[ServiceStatus]", await ask(world, address, "list"))
    assert {"Talkative", "Serial"} <= {status.service for status in found}
    for word in ("Talk", "TALKATIVE"):
        assert [status.address for status in cast("list[ServiceStatus]", await ask(world, address, "list", word))] == [
            address
        ]
    assert len(cast("list[object]", await ask(world, address, "list", "", 2))) == 2
    assert ("TALKATIVE", address) in cast("list[object]", await ask(world, address, "names"))


@pytest.mark.parametrize("words", [(), ("sing",), (3,), ("stat",), ("stat", 4_000), ("node", 1), ("letters", "x")])
async def test_what_there_is_not_is_an_error(world: World, words: tuple[object, ...]) -> None:
    address, _ = await world.callee()
    with pytest.raises(Failed) as failed:
        await ask(world, address, *words)
    assert failed.value.code == "skyloom.not_known"


async def test_a_service_may_answer_for_itself(world: World) -> None:
    address, callee = await world.callee()

    async def mine(session: int, source: Address, *words: object) -> object:
        return ("mine", *words)

    callee.dispatch("debug", mine)
    assert await world.here.call(address, "debug", "info") == ("mine", "info")
