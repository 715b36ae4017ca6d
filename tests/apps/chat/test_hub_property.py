"""Whatever the order of joins, leaves and messages: what a member has seen is what was said, each once."""

from __future__ import annotations

import asyncio
import random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from skyloom.testing import SimLoop
from tests.apps.chat.memory import Chat, MemoryHistory, Talker, open_chat
from tests.examples import examples

ROOM = "lobby"
STEP_SECONDS = 0.003
QUIET_SECONDS = 0.001
"""Between a leave and the next join of one client, so that a late push belongs to the stay before."""

Step = tuple[int, str]
STEPS = st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["join", "leave", "say", "say"])), max_size=40)


class Witness:
    """A client, and what it must have seen at the end."""

    def __init__(self, talker: Talker, source: random.Random) -> None:
        self.talker = talker
        self.random = source
        self.joined: dict[str, Any] | None = None
        self.said: list[int] = []

    async def live(self, steps: list[str]) -> None:
        for number, step in enumerate(steps):
            await asyncio.sleep(self.random.random() * STEP_SECONDS)
            if step == "join" and self.joined is None:
                self.talker.pushes.clear()
                self.said.clear()
                self.joined = await self.talker.ask("chat.join", room=ROOM)
            elif step == "leave" and self.joined is not None:
                self.joined = None
                await self.talker.ask("chat.leave", room=ROOM)
                await asyncio.sleep(QUIET_SECONDS)
            elif step == "say" and self.joined is not None:
                said = await self.talker.ask("chat.say", room=ROOM, text=str(number))
                self.said.append(said["id"])

    def check(self, chat: Chat) -> None:
        if self.joined is None:
            return
        history = [message["id"] for message in self.joined["history"]]
        pushed = [message["id"] for message in self.talker.pushed("chat.message")]
        assert pushed == sorted(pushed)
        seen = sorted(history + pushed + self.said)
        stored = [message.id for message in chat.history.messages]
        assert seen == stored[len(stored) - len(seen) :]  # none twice, none missing
        assert len(history) == 50 or len(seen) == len(stored)  # from the beginning, as far as there is room
        members = set(self.joined["members"])
        for route, body in self.talker.pushes:
            if route == "chat.joined":
                members.add(body["user"])
            elif route == "chat.left":
                members.discard(body["user"])
        assert members == set(chat.hub.rooms[ROOM].users)


async def play(steps: list[Step], stored: int, seed: int) -> None:
    source = random.Random(seed)
    history = MemoryHistory(lambda: source.choice((0.0, 0.001, 0.002, 0.005)))
    for n in range(stored):
        history.commit(ROOM, "past", f"{n}", 0.0)
    async with open_chat(history, ROOM) as chat:
        witnesses = [Witness(await chat.talker(f"user{n}"), source) for n in range(4)]
        async with asyncio.TaskGroup() as tasks:
            for number, witness in enumerate(witnesses):
                tasks.create_task(witness.live([step for owner, step in steps if owner == number]))
        await chat.settle()
        for witness in witnesses:
            witness.check(chat)


@examples(60)
@given(steps=STEPS, stored=st.sampled_from([0, 3, 60]), seed=st.integers(0, 2**16))
def test_what_a_member_has_seen_is_what_was_said(steps: list[Step], stored: int, seed: int) -> None:
    with asyncio.Runner(loop_factory=SimLoop) as runner:
        runner.run(play(steps, stored, seed))


async def test_two_who_join_first_at_once_see_nothing_twice() -> None:
    """The second reading of a room's messages may hold one that is committed and not yet sent round."""
    # In the order in which they are taken: ada reads at 0.1 s and says something, which is committed at 0.6 s; bob
    # reads at 1 s and is let in at 1.5 s; the message is sent round at 2.6 s.
    pauses = iter([0.1, 1.0, 0.0, 0.5, 2.0, 0.5])
    async with open_chat(MemoryHistory(lambda: next(pauses)), ROOM) as chat:
        ada, bob = await chat.talker("ada"), await chat.talker("bob")
        joining = asyncio.create_task(ada.ask("chat.join", room=ROOM))
        await asyncio.sleep(0)
        bob_joining = asyncio.create_task(bob.ask("chat.join", room=ROOM))
        await joining
        saying = asyncio.create_task(ada.ask("chat.say", room=ROOM, text="hello"))
        joined = await bob_joining
        assert not saying.done()
        said = await saying
        await chat.settle()
        seen = [message["id"] for message in joined["history"] + bob.pushed("chat.message")]
        assert seen == [said["id"]]
