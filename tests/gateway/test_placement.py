"""Where an app's services run when there are several processes."""

import random

import pytest
from pydantic import BaseModel
from typer.testing import CliRunner

from skyloom import Service, rpc
from skyloom.cluster.members import SILENT_TICKS_MAX
from skyloom.cluster.transport import LEASE_SECONDS, RENEW_SECONDS
from skyloom.testing import Sim
from skyloom_gateway import Agent, App, request
from skyloom_gateway.app import AppError
from skyloom_gateway.app_node import AppNode
from skyloom_gateway.cli import main
from skyloom_gateway.client import RequestFailed
from skyloom_gateway.placement import make_node
from skyloom_gateway.server import Server
from skyloom_gateway.settings import ClusterSettings, Settings
from skyloom_gateway.testing import TestGateway

IN_A_CLUSTER = Settings(cluster=ClusterSettings(nats="nats://127.0.0.1:1"))


class Empty(BaseModel):
    """Nothing to say."""


class Counter(Service):
    name = "COUNTER"

    def __init__(self) -> None:
        self.count = 0

    @rpc
    async def add(self) -> int:
        self.count += 1
        return self.count


class TallyAgent(Agent):
    @request("tally.add")
    async def add(self, body: Empty) -> int:
        return await Counter.at(self, "COUNTER").add()


class OtherAgent(Agent):
    """Of an app that has the same service."""


tally = App("tally", agent=TallyAgent, services=[Counter])


async def gateways(sim: Sim, *names: str) -> list[TestGateway]:
    made = [TestGateway(sim, tally, settings=IN_A_CLUSTER, name=name) for name in names]
    for gateway in made:
        await gateway.start()
    return made


@pytest.mark.sim(seeds=5)
async def test_gateways_of_a_cluster_share_a_service_and_go_on_when_its_process_dies(sim: Sim) -> None:
    one, two = await gateways(sim, "one", "two")
    ada, bob = await one.connect("ada"), await two.connect("bob")
    assert [await player.request("tally.add", {}) for player in (ada, bob, ada, bob)] == [1, 2, 3, 4]
    one.node.crash()
    await sim.advance(SILENT_TICKS_MAX - 1)
    with pytest.raises(RequestFailed) as failed:
        await bob.request("tally.add", {})
    assert failed.value.code in ("gateway.outcome_unknown", "gateway.deadline_exceeded")
    await sim.advance(LEASE_SECONDS + RENEW_SECONDS)
    assert [await bob.request("tally.add", {}) for _ in range(2)] == [1, 2]  # the new one has counted nothing yet


@pytest.mark.sim(seeds=5)
async def test_a_process_that_stops_hands_over_at_once(sim: Sim) -> None:
    one, two = await gateways(sim, "one", "two")
    bob = await two.connect("bob")
    assert await bob.request("tally.add", {}) == 1
    await one.stop()
    await sim.advance(RENEW_SECONDS + 1)
    assert await bob.request("tally.add", {}) == 1


async def test_a_gateway_that_is_told_so_runs_no_services(sim: Sim) -> None:
    edge = Settings(cluster=ClusterSettings(nats="nats://127.0.0.1:1", services=False))
    async with TestGateway(sim, tally, settings=edge) as gateway:
        ada = await gateway.connect("ada")
        with pytest.raises(RequestFailed, match="outcome_unknown"):
            await ada.request("tally.add", {})


def test_in_a_cluster_a_service_belongs_to_one_app() -> None:
    other = App("other", agent=OtherAgent, services=[Counter])
    with pytest.raises(AppError, match="they share the service 'COUNTER', but in a cluster"):
        Server([tally, other], IN_A_CLUSTER)
    with pytest.raises(AppError, match="they share the service 'COUNTER', but in a cluster"):
        AppNode([tally, other], IN_A_CLUSTER)
    Server([tally, other], Settings())


def test_a_node_of_a_cluster_has_a_name_of_its_own() -> None:
    made = {make_node(IN_A_CLUSTER, random.Random()).name for _ in range(5)}
    assert len(made) == 5
    named = Settings.load({"node": "game-1", "cluster": {"nats": "nats://127.0.0.1:1"}})
    assert make_node(named, random.Random()).name == "game-1"
    assert make_node(Settings(), random.Random()).name == "node-1"


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        ([], 2, "--nats nats://HOST:4222"),
        (["--nats", "nats://127.0.0.1:1", "--set", "cluster.services=off"], 2, "this node would do nothing"),
        (["--nats", "127.0.0.1:4222"], 1, "NATS at 127.0.0.1:4222: write it as nats://HOST:4222"),
        (["--nats", "nats://127.0.0.1:1"], 1, "NATS at nats://127.0.0.1:1 does not let this node join: "),
    ],
)
def test_a_node_that_cannot_run_says_why_in_its_last_line(arguments: list[str], status: int, said: str) -> None:
    done = CliRunner().invoke(main, ["node", f"{__name__}:tally", *arguments])
    assert done.exit_code == status
    assert said in done.output.splitlines()[-1]
