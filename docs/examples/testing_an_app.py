"""A test of an app as its players see it: gateway, agents and services in memory, in virtual time, from a seed.

pytest docs/examples/testing_an_app.py --seeds 100
"""

import asyncio

from pydantic import BaseModel

from skyloom import Service, rpc
from skyloom.testing import Sim, simulate
from skyloom_gateway import Agent, App, ClientRef, Push, fan_out, request
from skyloom_gateway.testing import BY_HAND, TestGateway


class Text(BaseModel):
    """What is said."""

    text: str


class Heard(Push, route="pub.heard"):
    """What the others hear."""

    user: str
    text: str


class Pub(Service):
    """Knows who is there."""

    name = "PUB"

    async def on_start(self) -> None:
        self.guests: dict[str, ClientRef] = {}

    @rpc
    async def say(self, user: str, client: ClientRef, text: str) -> None:
        self.guests[user] = client
        others = [guest for name, guest in self.guests.items() if name != user]
        fan_out(self, others, Heard(user=user, text=text))


class PubAgent(Agent):
    """One guest."""

    @request("pub.say")
    async def say(self, body: Text) -> None:
        await Pub.at(self, "PUB").say(self.user, self.client, body.text)


app = App("pub", agent=PubAgent, services=[Pub], pushes=[Heard])


async def test_what_one_says_the_others_hear(sim: Sim) -> None:
    async with TestGateway(sim, app) as gateway:
        ada = await gateway.connect("ada")
        bob = await gateway.connect("bob", kind="tcp", reconnect=BY_HAND)
        await bob.request("pub.say", {"text": "good evening"})
        await ada.request("pub.say", {"text": "hello"})
        assert (await bob.expect_push(Heard)).text == "hello"
        await ada.expect_no_push(Heard, seconds=60)  # a minute that costs nothing
        bob.cut()  # as if the cable were pulled
        await gateway.settle()
        await ada.request("pub.say", {"text": "is anybody there?"})
        assert await bob.resume()  # the same session, and nothing is lost
        assert (await bob.expect_push(Heard)).text == "is anybody there?"
        gateway.node.assert_no_dead_letters()


async def main() -> None:
    """Without pytest. A simulation has a loop of its own, hence the thread."""
    runs = await asyncio.to_thread(simulate, test_what_one_says_the_others_hear, seeds=range(3))
    print([f"seed {run.seed}: {run.events} events in {run.seconds:.0f} s" for run in runs])


if __name__ == "__main__":
    asyncio.run(main())
