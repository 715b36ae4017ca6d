"""What clients are sent unasked."""

from __future__ import annotations

import asyncio

import pytest

from skyloom import Address, Node, Service
from skyloom_gateway import ClientRef, fan_out
from skyloom_gateway.wire import JSON, MSGPACK
from skyloom_gateway.wire.frame import Response
from tests.gateway.cast import EchoAgent, Shouted
from tests.gateway.players import TRANSPORTS, World, pushes


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_pushes_are_numbered_and_come_before_the_answer(world: World, transport: str) -> None:
    ada = await world.guest(transport=transport)
    await ada.ask("echo.nothing")
    ada.request("echo.push_thrice")
    frames = await ada.frames()
    assert pushes(frames) == [(1, {"text": "a"}), (2, {"text": "b"}), (3, {"text": "c"})]
    assert isinstance(frames[-1], Response)
    ada.request("echo.push_thrice")
    assert [seq for seq, _ in pushes(await ada.frames())] == [4, 5, 6]


async def test_fan_out_to_clients_of_all_kinds_and_to_the_gone(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    players = [await world.guest(f"u{n}", transport) for n, transport in enumerate([*TRANSPORTS, *TRANSPORTS])]
    for player in players:
        await player.ask("echo.join")
    gone = players.pop(1)
    gone.leave()
    await gone.frames()
    encoded: list[str] = []
    for codec in (JSON, MSGPACK):
        for part in ("encode_body", "push_tail"):
            monkeypatch.setattr(type(codec), part, _counted(getattr(type(codec), part), encoded, part, codec.name))
    world.node.send(world.hub.address, "lua", "shout", "hey")
    for player in players:
        assert pushes(await player.frames()) == [(1, {"text": "hey"})]
    assert await gone.frames() == []
    assert sorted(encoded) == [
        f"{part} {name}" for part in ("encode_body", "push_tail") for name in ("json", "msgpack")
    ]


def _counted(method: object, encoded: list[str], part: str, name: str) -> object:
    assert callable(method)

    def count(*args: object) -> object:
        encoded.append(f"{part} {name}")
        return method(*args)

    return count


class Recorder(Service):
    """Stands in for a gate."""

    def __init__(self) -> None:
        self.messages: list[tuple[object, ...]] = []
        self.dispatch("client", self._on_client)

    async def _on_client(self, session: int, source: Address, *message: object) -> None:
        self.messages.append(message)


async def test_fan_out_sends_each_gate_one_message_in_the_encodings_that_are_wanted(gate_node: Node) -> None:
    gates = [gate_node.cells[await gate_node.spawn(Recorder)].service for _ in range(2)]
    clients = [ClientRef(gates[n % 2].address, f"s{n}", "json") for n in range(5)]
    fan_out(gate_node.root, clients, Shouted(text="hey"))
    fan_out(gate_node.root, [ClientRef(gates[0].address, "m", "msgpack")], Shouted(text="ho"))
    fan_out(gate_node.root, [], Shouted(text="nobody"))
    await asyncio.sleep(0.001)
    body = JSON.encode_body(Shouted(text="hey"))
    first, second = (gate.messages for gate in gates if isinstance(gate, Recorder))
    assert first == [
        ("echo.shouted", body, None, ("s0", "s2", "s4")),
        ("echo.shouted", None, MSGPACK.encode_body(Shouted(text="ho")), ("m",)),
    ]
    assert second == [("echo.shouted", body, None, ("s1", "s3"))]


async def test_pushes_of_one_service_come_in_order(world: World) -> None:
    ada = await world.guest()
    await ada.ask("echo.join")
    for n in range(50):
        world.node.send(world.hub.address, "lua", "shout", str(n))
    assert pushes(await ada.frames()) == [(n + 1, {"text": str(n)}) for n in range(50)]


async def test_a_client_ref_is_a_value(world: World) -> None:
    ada = await world.guest(transport="tcp")
    await ada.ask("echo.join")
    (ref,) = world.hub.clients
    assert ref == ClientRef(world.gate.address, ada.session, "msgpack")
    assert len({ref, ref}) == 1
    assert EchoAgent.born == ["ada"]


def test_a_push_names_its_route() -> None:
    class Loud(Shouted, route="echo.loud"):
        pass

    assert (Shouted.route, Loud.route) == ("echo.shouted", "echo.loud")
    assert Loud(text="x").model_dump() == {"text": "x"}
