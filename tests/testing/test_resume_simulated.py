"""Connections that break at any frame, in both directions: nothing is lost, doubled or out of order, or it is said.

`dev.py ci` runs 1,000 seeds of the first on each transport, and of the others.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import pytest
from pydantic import BaseModel

from skyloom import Failed, Service, rpc
from skyloom_gateway import Agent, App, ClientRef, Push, fan_out, notify, request
from skyloom_gateway.client.errors import ClientError, ConnectFailed, NotConnected, RequestFailed, SessionLost
from skyloom_gateway.client.reconnecting import Reconnect
from skyloom_gateway.settings import GatewaySettings, Settings
from skyloom_gateway.testing import BY_HAND, TestGateway

if TYPE_CHECKING:
    from skyloom.testing import Sim
    from skyloom_gateway.client import Session
    from skyloom_gateway.testing import Player

pytestmark = pytest.mark.sim(seeds=80)

QUICK = Reconnect(first_delay_seconds=0.2, delay_seconds_max=1.0, give_up_seconds=1e6)
FRAMES_MAX = 40
"""About as many as a connection carries that does not break."""


class Order(BaseModel):
    key: str
    seconds: float = 0.0
    fails: bool = False


class Done(Push, route="ledger.done"):
    number: int
    key: str


class Refused(Failed, code="ledger.refused", kind="aborted"):
    """As the order wished."""


class Ledger(Service):
    """Does what it is told, once or twice or not at all, and tells everybody."""

    name = "LEDGER"

    def __init__(self) -> None:
        self.done: list[str] = []
        self.watchers: dict[str, ClientRef] = {}
        self.pushed: dict[str, list[int]] = {}

    @rpc
    async def watch(self, client: ClientRef) -> None:
        self.watchers[client.session] = client
        self.pushed.setdefault(client.session, [])

    @rpc
    async def do(self, key: str) -> int:
        self.done.append(key)
        number = len(self.done)
        fan_out(self, self.watchers.values(), Done(number=number, key=key))
        for session in self.watchers:
            self.pushed[session].append(number)
        return number


class LedgerAgent(Agent):
    """`life` is what each session's agents were told."""

    life: ClassVar[dict[str, list[str]]] = {}

    async def on_start(self) -> None:
        self.ledger = Ledger.at(self, await self.query("LEDGER"))
        self.told("start")

    def told(self, what: str) -> None:
        self.life.setdefault(self.client.session, []).append(what)

    async def on_suspend(self) -> None:
        self.told("suspend")

    async def on_resume(self) -> None:
        self.told("resume")

    async def on_stop(self) -> None:
        self.told("stop")

    @request("ledger.watch")
    async def watch(self) -> None:
        await self.ledger.watch(self.client)

    @request("ledger.do", errors=[Refused])
    async def do(self, body: Order) -> int:
        if body.seconds:
            await self.sleep(body.seconds)
        number = await self.ledger.do(body.key)
        if body.fails:
            raise Refused(str(number))
        return number

    @request("ledger.do_beside", concurrent=True)
    async def do_beside(self, body: Order) -> int:
        return await self.do(body)

    @notify("ledger.hint")
    async def hint(self, body: Order) -> None:
        pass


ledger_app = App("ledger", agent=LedgerAgent, services=[Ledger], pushes=[Done])


def the_ledger(gateway: TestGateway) -> Ledger:
    return next(cell.service for cell in gateway.node.cells.values() if isinstance(cell.service, Ledger))


@dataclass
class Diary:
    """What one player lived through: the pushes of each of its sessions, and what came of each order."""

    player: Player
    pushes: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    outcomes: dict[str, int | None] = field(default_factory=dict)
    recovered: list[bool] = field(default_factory=list)

    def keep(self) -> None:
        self.player.client.on_session(self.came_back)
        self.player.client.on("ledger.done", self.heard)

    def came_back(self, session: Session) -> None:
        self.recovered.append(session.recovered)

    def heard(self, push: Any) -> None:
        self.pushes.setdefault(self.player.client.session, []).append((push.seq, push.body["number"]))

    async def order(self, key: str, *, beside: bool = False, seconds: float = 0.0, fails: bool = False) -> None:
        route = "ledger.do_beside" if beside else "ledger.do"
        try:
            answer = await self.player.request(route, Order(key=key, seconds=seconds, fails=fails), timeout=1e5)
        except RequestFailed as failed:
            if failed.code != "ledger.refused":
                raise
            self.outcomes[key] = int(failed.message)
        except SessionLost:
            self.outcomes[key] = None  # it was told that it cannot know
        else:
            self.outcomes[key] = int(answer)


def check(ledger: Ledger, diaries: list[Diary]) -> None:
    """The promise."""
    assert len(set(ledger.done)) == len(ledger.done)  # no request ran twice
    for diary in diaries:
        for key, number in diary.outcomes.items():
            if number is not None:
                assert ledger.done[number - 1] == key  # each answer is that of its own request
        for session, pushed in ledger.pushed.items():
            if session not in diary.pushes:
                continue
            heard = diary.pushes[session]
            assert [seq for seq, _ in heard] == list(range(1, len(heard) + 1))  # each once, in order
            numbers = [number for _, number in heard]
            if session == diary.player.client.session:
                assert numbers == pushed  # and all of them
            else:
                assert numbers == pushed[: len(numbers)]


async def live(sim: Sim, gateway: TestGateway, diary: Diary) -> None:
    """Watch, then order this and that, sometimes beside each other."""
    chance, player = sim.chance(f"life of {diary.player.name}"), diary.player
    try:
        await player.request("ledger.watch", timeout=1e5)
    except SessionLost:
        await player.request("ledger.watch", timeout=1e5)
    waiting = []
    for number in range(6):
        with suppress(NotConnected):  # what nobody waits for is not kept
            await player.notify("ledger.hint", Order(key="hint"))
        work = diary.order(
            f"{player.name} {number}",
            beside=chance.random() < 0.5,
            seconds=chance.choice([0.0, 0.0, 0.05, 1.0]),
            fails=chance.random() < 0.2,
        )
        if chance.random() < 0.5:
            await work
        else:
            waiting.append(asyncio.create_task(work))
        await asyncio.sleep(chance.choice([0.0, 0.0, 0.1]))
    await asyncio.gather(*waiting)


async def players(
    sim: Sim, gateway: TestGateway, kind: Literal["websocket", "tcp"], *, noticed: bool = True
) -> list[Diary]:
    """Two of them. Ada's first connection breaks at a frame that the seed counts through, her next ones at any."""
    chance = sim.chance("cuts")
    cuts = [sim.seed % FRAMES_MAX]
    cuts += [chance.randrange(FRAMES_MAX // (1 + number % 3)) for number in range(4)]
    ada: Player | None = None
    while ada is None:
        try:
            ada = await gateway.connect("ada", kind=kind, cut_at=cuts, cut_noticed=noticed, reconnect=QUICK)
        except ConnectFailed:  # the cut came before the welcome: there was no session to go back to
            cuts = cuts[1:]
    late = [2 + chance.randrange(3 * FRAMES_MAX)]
    bob = await gateway.connect("bob", kind=kind, cut_at=late, cut_noticed=noticed, reconnect=QUICK)
    diaries = [Diary(ada), Diary(bob)]
    for diary in diaries:
        diary.keep()
    return diaries


@pytest.mark.parametrize("kind", ["websocket", "tcp"])
async def test_cuts_at_any_frame_lose_nothing_and_double_nothing(sim: Sim, kind: Literal["websocket", "tcp"]) -> None:
    LedgerAgent.life.clear()
    async with TestGateway(sim, ledger_app) as gateway:
        ledger = the_ledger(gateway)
        diaries = await players(sim, gateway, kind)
        await asyncio.gather(*(live(sim, gateway, diary) for diary in diaries))
        await gateway.advance(70)  # a session whose welcome was cut off has ended by then
        check(ledger, diaries)
        assert sorted(ledger.done) == sorted(f"{diary.player.name} {n}" for diary in diaries for n in range(6))
        for diary in diaries:
            assert all(diary.recovered)  # a whole minute, and room enough: there is no reason to start over
            assert None not in diary.outcomes.values()
            told = LedgerAgent.life[diary.player.client.session]
            assert told[0] == "start"
            assert [what for what in told if what != "start"] == ["suspend", "resume"] * (len(told) // 2)
        assert len(gateway.gate.sessions) == 2
        assert gateway.gate.suspended == {}
        assert gateway.gate.suspended_bytes == 0


async def test_too_little_room_and_time_and_connections_that_hang_are_told(sim: Sim) -> None:
    chance = sim.chance("limits")
    limits = GatewaySettings(
        replay_pushes=chance.choice([1, 2, 256]),
        resume_seconds=chance.choice([0.3, 60.0]),
        suspended_sessions=chance.choice([1, 100]),
    )
    async with TestGateway(sim, ledger_app, settings=Settings(gateway=limits)) as gateway:
        ledger = the_ledger(gateway)
        diaries = await players(sim, gateway, "websocket", noticed=chance.random() < 0.5)
        await asyncio.gather(*(live(sim, gateway, diary) for diary in diaries))
        await gateway.advance(90)
        check(ledger, diaries)
        for diary in diaries:
            lost = [key for key, number in diary.outcomes.items() if number is None]
            assert not lost or not all(diary.recovered)
        # A session whose welcome was lost on a connection that hangs ends after the heartbeats and its wait; and a
        # player may be coming back just now.
        for _ in range(60):
            if len(gateway.gate.sessions) == len(diaries) and not gateway.gate.suspended_bytes:
                break
            await gateway.advance(5)
        assert set(gateway.gate.sessions) == {diary.player.client.session for diary in diaries}
        assert gateway.gate.suspended_bytes == 0


async def test_a_player_is_cut_and_comes_back_by_hand(sim: Sim) -> None:
    async with TestGateway(sim, ledger_app) as gateway:
        ada = await gateway.connect("ada", reconnect=BY_HAND)
        bob = await gateway.connect("bob")
        await ada.request("ledger.watch")
        ada.cut(noticed=sim.random.random() < 0.5)
        for number in range(3):
            await bob.request("ledger.do", Order(key=str(number)))
        asking = asyncio.create_task(ada.request("ledger.do", Order(key="mine"), timeout=100))
        await gateway.advance(20)
        assert not asking.done()
        assert await ada.resume()
        assert await asking == 4
        for number in range(1, 5):
            assert (await ada.expect_push(Done)).number == number
        assert await ada.resume()  # there is nothing to do
        ada.cut()
        await gateway.advance(61)
        assert not await ada.resume()
        bob.cut()
        with pytest.raises(ClientError):
            await bob.resume()
