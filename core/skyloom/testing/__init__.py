"""Test a game in virtual time, from a seed: `Sim`, and what a test asks of it.

    async def test_two_players_cannot_take_one_sword(sim: Sim) -> None:
        node = await sim.node()
        ...

The pytest plugin runs such a test for many seeds and prints the command that replays the one that fails;
`simulate` does the same without pytest. Gateways and players are in `skyloom_gateway.testing`.
"""

from skyloom.testing.loop import Deadlock, Livelock, SimLoop
from skyloom.testing.network import SimNet
from skyloom.testing.node import TestNode
from skyloom.testing.sim import Diverged, Run, Sim, simulate
from skyloom.testing.trace import Event, Trace

__all__ = [
    "Deadlock",
    "Diverged",
    "Event",
    "Livelock",
    "Run",
    "Sim",
    "SimLoop",
    "SimNet",
    "TestNode",
    "Trace",
    "simulate",
]
