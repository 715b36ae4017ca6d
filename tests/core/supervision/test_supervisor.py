"""Promise 9, rule by rule; the order and the intensity are also held against a model in test_model.py."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from skyloom import Address, CallError, Failed, Node, NodeFailed, NotExecuted, Service, Unknown, UnknownName
from skyloom.supervision.child import Child, permanent, temporary, transient
from skyloom.supervision.supervisor import ChildRefused, Strategy, Supervisor
from tests.core.supervision.cast import Actor, alive, children

pytestmark = pytest.mark.usefixtures("logs")


@pytest.fixture
def logs() -> Any:
    with capture_logs() as logs:
        yield logs


@pytest.fixture
async def doomed() -> AsyncIterator[Node]:
    """A node that may fail: without `async with` nothing is raised at its end."""
    node = Node("doomed", watch_loop=False)
    await node.start()
    yield node
    await node.stop()


def cast(log: list[str], *parts: str) -> list[Child]:
    return [permanent(Actor, part, log).but(id=part) for part in parts]


async def kill(node: Node, part: str, settle: float = 1) -> None:
    node.kill(await node.query(part))
    await asyncio.sleep(settle)


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        ("one_for_one", ["+b"]),
        ("one_for_all", ["-d", "-c", "-a", "+a", "+b", "+c", "+d"]),
        ("rest_for_one", ["-d", "-c", "+b", "+c", "+d"]),
    ],
)
async def test_strategies(node: Node, strategy: Strategy, expected: list[str]) -> None:
    log: list[str] = []
    supervisor = await node.spawn(Supervisor, *cast(log, "a", "b", "c", "d"), strategy=strategy)
    assert log == ["+a", "+b", "+c", "+d"]
    log.clear()
    await kill(node, "b")
    assert log == expected
    statuses = await children(node, supervisor)
    assert list(statuses) == ["a", "b", "c", "d"]
    assert {status.id for status in statuses.values() if status.restarts} == {item[1:] for item in log if "+" in item}


async def test_a_subclass_names_its_children(node: Node) -> None:
    log: list[str] = []

    class Game(Supervisor):
        strategy = "one_for_all"
        restarts_max = 1
        children = tuple(cast(log, "a", "b"))

    await node.spawn(Game, *cast(log, "c"))
    await kill(node, "a")
    assert log == ["+a", "+b", "+c", "-c", "-b", "+a", "+b", "+c"]


@pytest.mark.parametrize(
    ("make", "ends", "comes_back"),
    [
        (permanent, "leave", True),
        (permanent, "die", True),
        (transient, "leave", False),
        (transient, "die", True),
        (temporary, "leave", False),
        (temporary, "die", False),
    ],
)
async def test_who_comes_back(node: Node, make: Any, ends: str, comes_back: bool) -> None:
    supervisor = await node.spawn(Supervisor, make(Actor, "a", []).but(id="a"))
    try:
        await node.call("a", "lua", ends)
    except Unknown:
        assert ends == "die"
    await asyncio.sleep(1)
    assert alive(node) == (["a"] if comes_back else [])
    statuses = await children(node, supervisor)
    if make is temporary:
        assert statuses == {}
    else:
        assert statuses["a"].state == ("running" if comes_back else "ended")


async def test_a_handler_that_raises_restarts_nobody(node: Node) -> None:
    supervisor = await node.spawn(Supervisor, *cast([], "a"))
    for _ in range(10):
        with pytest.raises(Failed):
            await node.call("a", "lua", "fail")
    assert (await children(node, supervisor))["a"].restarts == 0


async def test_names_move_to_the_restarted_child(node: Node) -> None:
    await node.spawn(Supervisor, *cast([], "a"))
    first = await node.query("a")
    await node.call("a", "lua", "rename", "taken while it ran")
    node.kill(first)
    with pytest.raises(UnknownName):
        await node.query("a")
    second = await node.query("a", wait=1)
    assert second != first
    assert await node.query("taken while it ran", wait=1) == second
    with pytest.raises(NotExecuted) as caught:
        await node.call(first, "lua", "who")
    assert caught.value.code == "skyloom.no_service"
    assert await node.call("a", "lua", "who") == second


async def test_a_name_that_another_took_stays_with_it(node: Node) -> None:
    log: list[str] = []
    await node.spawn(Supervisor, *cast(log, "a"))
    await node.call("a", "lua", "rename", "extra")
    node.kill(await node.query("a"))
    node.root.register("extra")
    await asyncio.sleep(1)
    assert await node.query("extra") == node.root.address
    assert alive(node) == ["a"]
    assert log == ["+a", "+a"]


async def test_start_is_in_order_and_all_or_none(node: Node) -> None:
    log: list[str] = []
    with pytest.raises(Failed, match="Broken.* did not start: ValueError"):
        await node.spawn(Supervisor, *cast(log, "a", "b"), permanent(Broken, [0]), *cast(log, "c"))
    assert log == ["+a", "+b", "-b", "-a"]
    assert len(node.cells) == 1
    assert node.failure is None


async def test_stop_is_in_reverse_and_the_node_does_it_so_even_after_restarts() -> None:
    log: list[str] = []
    async with Node("stops", watch_loop=False) as node:
        await node.spawn(Supervisor, *cast(log, "a", "b", "c"))
        await kill(node, "a")
        await kill(node, "b")
        log.clear()
    assert log == ["-c", "-b", "-a"]
    assert node.failure is None


async def test_each_child_has_its_deadline_to_stop(node: Node) -> None:
    log: list[str] = []
    slow = permanent(Actor, "slow", log, stop_takes=100)
    supervisor = await node.spawn(
        Supervisor,
        permanent(Actor, "patient", log, stop_takes=20).but(stop_seconds=30),
        slow.but(id="hangs", stop_seconds=2),
        *cast(log, "a"),
    )
    started = node.now()
    await node.services.shut(supervisor, None)
    assert node.now() - started == pytest.approx(22)
    assert log == ["+patient", "+slow", "+a", "-a", "-patient"]
    assert alive(node) == []


class Stubborn(Service):
    async def on_stop(self) -> None:
        try:
            await self.sleep(3)
        except asyncio.CancelledError:
            await self.sleep(3)


async def test_a_child_that_ignores_its_cancellation_holds_nobody_up(node: Node) -> None:
    log: list[str] = []
    supervisor = await node.spawn(Supervisor, *cast(log, "a"), permanent(Stubborn).but(stop_seconds=1))
    started = node.now()
    await node.services.shut(supervisor, None)
    assert node.now() - started == pytest.approx(1)
    assert log == ["+a", "-a"]


async def test_a_supervisor_that_is_killed_takes_its_children_along(doomed: Node) -> None:
    node = doomed
    log: list[str] = []
    inner = permanent(Supervisor, *cast(log, "c", "d")).but(id="inner")
    outer = await node.spawn(Supervisor, *cast(log, "a"), inner)
    address = (await children(node, outer))["inner"].address
    assert address is not None
    node.kill(address)
    assert alive(node) == ["a"]
    await asyncio.sleep(1)
    assert alive(node) == ["a", "c", "d"]
    assert log == ["+a", "+c", "+d", "+c", "+d"]
    node.kill(outer)
    assert alive(node) == []
    assert len(node.cells) == 1
    assert node.failure is not None


class Broken(Service):
    """Starts as often as the first number says, and then not any more."""

    def __init__(self, starts: list[int]) -> None:
        self.starts = starts

    async def on_start(self) -> None:
        self.starts.append(1)
        if len(self.starts) - 1 > self.starts[0]:
            raise ValueError(f"try {len(self.starts) - 1}")


async def test_a_restart_that_fails_is_one_more_crash(node: Node) -> None:
    tries = [1]
    supervisor = await node.spawn(Supervisor, permanent(Broken, tries).but(id="x"))
    tries[0] = 0
    address = (await children(node, supervisor))["x"].address
    assert address is not None
    node.kill(address)
    await asyncio.sleep(0.02)
    tries[0] = 100
    assert (await children(node, supervisor))["x"].state == "restarting"
    await asyncio.sleep(1)
    assert (await children(node, supervisor))["x"].state == "running"
    assert len(tries) == 4
    assert node.failure is None


async def test_a_crash_loop_leaves_the_others_answering_then_escalates(doomed: Node) -> None:
    node = doomed
    log: list[str] = []
    tries = [1]
    inner = permanent(Supervisor, permanent(Broken, tries).but(id="x"), *cast(log, "b")).but(id="inner")
    outer = await node.spawn(Supervisor, *cast(log, "a"), inner)
    address = (await children(node, outer))["inner"].address
    assert address is not None
    victim = (await children(node, address))["x"].address
    assert victim is not None
    first = await node.query("a")
    node.kill(victim)
    for _ in range(300):
        await asyncio.sleep(0.01)
        if node.failure is not None:
            break
        assert await node.call("a", "lua", "who") == first
    # 3 restarts of the child, then 3 of its supervisor, none of which starts: the root gives up.
    assert len(tries) - 2 == 3 + 3
    assert log == ["+a", "+b", "-b", "-a"]
    assert node.failure is not None
    assert "child inner, after 3 restarts in 5 s, did not start again" in node.failure
    assert len(node.cells) == 1


async def test_the_root_ends_the_node_with_a_clear_last_line() -> None:
    async def program() -> None:
        async with Node("doomed", watch_loop=False) as node:
            await node.spawn(Supervisor, *cast([], "a"), restarts_max=0)
            node.kill(await node.query("a"))
            await asyncio.sleep(1000)

    with pytest.raises(NodeFailed) as caught:
        await program()
    assert str(caught.value) == (
        "node doomed cannot go on: Supervisor:00000002@doomed crashed: child a, after 0 restarts in 5 s, was killed"
    )
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_a_body_that_fails_with_its_node_says_so_first() -> None:
    async def program() -> None:
        async with Node("doomed", watch_loop=False) as node:
            node.kill(await node.spawn(Supervisor))
            raise ValueError("it went down with it")

    with pytest.raises(NodeFailed) as caught:
        await program()
    assert isinstance(caught.value.__cause__, ValueError)


async def test_a_cancellation_from_outside_stays_one() -> None:
    async def body() -> None:
        async with Node("cancelled", watch_loop=False) as node:
            await node.spawn(Supervisor, *cast([], "a"))
            await asyncio.sleep(1000)

    task = asyncio.create_task(body())
    await asyncio.sleep(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_the_intensity_forgets_after_its_period(node: Node) -> None:
    supervisor = await node.spawn(Supervisor, *cast([], "a"))
    for _ in range(12):
        await kill(node, "a", settle=1.7)
    assert node.failure is None
    assert (await children(node, supervisor))["a"].restarts == 12


async def test_a_storm_of_crashes_at_once(node: Node) -> None:
    log: list[str] = []
    parts = [f"p{number}" for number in range(100)]
    supervisor = await node.spawn(Supervisor, *cast(log, *parts), restarts_max=100)
    for part in parts:
        node.kill(await node.query(part))
    await asyncio.sleep(5)
    assert sorted(alive(node)) == sorted(parts)
    assert all(status.restarts == 1 for status in (await children(node, supervisor)).values())
    await node.services.shut(supervisor, None)
    assert alive(node) == []


async def test_crashes_while_the_group_goes_down_count_once(node: Node) -> None:
    log: list[str] = []
    await node.spawn(Supervisor, *cast(log, "a", "b", "c"), strategy="one_for_all", restarts_max=1)
    for part in ("a", "b", "c"):
        node.kill(await node.query(part))
    await asyncio.sleep(1)
    assert alive(node) == ["a", "b", "c"]
    assert node.failure is None


async def test_who_crashes_while_another_of_its_group_stops_is_not_counted(node: Node) -> None:
    log: list[str] = []
    slow = permanent(Actor, "c", log, stop_takes=1.0).but(id="c")
    supervisor = await node.spawn(Supervisor, *cast(log, "a", "b"), slow, strategy="one_for_all", restarts_max=1)
    await kill(node, "a", settle=0.5)
    await kill(node, "b", settle=2)
    assert log == ["+a", "+b", "+c", "-c", "+a", "+b", "+c"]
    assert {child.restarts for child in (await children(node, supervisor)).values()} == {1}


async def test_children_added_at_run_time(node: Node) -> None:
    log: list[str] = []
    address = await node.spawn(Supervisor)
    supervisor = Supervisor.at(node.root, address)
    unique = await supervisor.start_child(permanent(Hub))
    first = await supervisor.start_child(temporary(Actor, "a", log))
    await supervisor.start_child(temporary(Actor, "b", log))
    assert list(await children(node, address)) == ["HUB", "Actor-1", "Actor-2"]
    with pytest.raises(ChildRefused, match="'HUB' already"):
        await supervisor.start_child(permanent(Hub))
    with pytest.raises(ChildRefused, match="'HUB' is taken"):
        await supervisor.start_child(permanent(Hub).but(id="another"))
    node.kill(unique)
    await asyncio.sleep(1)
    assert await node.query("HUB") != unique
    assert await supervisor.stop_child("Actor-1")
    assert not await supervisor.stop_child("Actor-1")
    assert log == ["+a", "+b", "-a"]
    assert list(await children(node, address)) == ["HUB", "Actor-2"]
    with pytest.raises(NotExecuted):
        await node.call(first, "lua", "who")


class Hub(Service):
    name = "HUB"


async def test_a_child_that_does_not_start_is_none(node: Node) -> None:
    address = await node.spawn(Supervisor)
    with pytest.raises(Failed) as caught:
        await Supervisor.at(node.root, address).start_child(permanent(Broken, [0]))
    assert caught.value.code == "skyloom.start_failed"
    assert await children(node, address) == {}
    assert address in node.cells


async def test_a_child_that_waits_for_its_restart_can_be_stopped(node: Node) -> None:
    log: list[str] = []
    address = await node.spawn(Supervisor, *cast(log, "a"))
    await kill(node, "a", settle=0.05)
    await kill(node, "a", settle=0.01)
    assert (await children(node, address))["a"].state == "restarting"
    assert await Supervisor.at(node.root, address).stop_child("a")
    await asyncio.sleep(2)
    assert log == ["+a", "+a"]
    assert await children(node, address) == {}


async def test_one_that_ended_is_not_restarted_with_its_group(node: Node) -> None:
    log: list[str] = []
    job = transient(Actor, "job", log).but(id="job")
    await node.spawn(Supervisor, *cast(log, "a"), job, temporary(Actor, "t", log), strategy="one_for_all")
    await node.call("job", "lua", "leave")
    await asyncio.sleep(1)
    log.clear()
    await kill(node, "a")
    assert log == ["-t", "+a"]


async def test_a_stop_in_the_middle_of_a_restart(node: Node) -> None:
    class Slow(Service):
        began: list[float] = []  # noqa: RUF012  # shared by all that are started

        async def on_start(self) -> None:
            self.began.append(1)
            if len(self.began) > 1:
                await self.sleep(25)

    supervisor = await node.spawn(Supervisor, permanent(Slow).but(id="slow"), *cast([], "a"))
    address = (await children(node, supervisor))["slow"].address
    assert address is not None
    node.kill(address)
    await asyncio.sleep(1)
    assert len(Slow.began) == 2
    started = node.now()
    await node.services.shut(supervisor, None)
    assert node.now() == started
    assert len(node.cells) == 1


async def test_a_child_cannot_go_to_another_node() -> None:
    from skyloom import MemoryNetwork

    network = MemoryNetwork()
    async with (
        Node("here", watch_loop=False, transport=network.transport()) as here,
        Node("there", watch_loop=False, transport=network.transport()) as there,
    ):
        address: Address = await there.spawn(Supervisor)
        with pytest.raises((CallError, TypeError)):
            await Supervisor.at(here.root, address).start_child(temporary(Actor, "a", []))
        assert await children(here, address) == {}


def test_nonsense_is_refused() -> None:
    with pytest.raises(ValueError, match="stop_seconds"):
        permanent(Hub).but(stop_seconds=0)
    with pytest.raises(TypeError, match="subclass of Service"):
        permanent(Hub.__call__)


async def test_nobody_comes_back_before_its_own_wait_is_over(node: Node) -> None:
    address = await node.spawn(Supervisor, *cast([], "a", "b", "c"), restarts_max=10)
    await kill(node, "a", settle=0.1)
    await kill(node, "b", settle=0.01)
    await kill(node, "c", settle=0.095)
    states = {id: status.state for id, status in (await children(node, address)).items()}
    assert states == {"a": "running", "b": "running", "c": "restarting"}


async def test_a_supervisor_that_is_killed_ends_those_that_are_starting_and_stopping(doomed: Node) -> None:
    node = doomed
    log: list[str] = []

    class Slow(Actor):
        async def on_start(self) -> None:
            await self.sleep(5)
            log.append("started")

    supervisor = await node.spawn(Supervisor, *cast(log, "a"), permanent(Actor, "b", log, stop_takes=5))
    asyncio.get_running_loop().call_later(1, node.services.exit, node.cells[supervisor], None)
    other = asyncio.ensure_future(node.spawn(Supervisor, *cast(log, "c"), permanent(Slow, "d", log)))
    await asyncio.sleep(2)
    for cell in list(node.cells.values()):
        if isinstance(cell.service, Supervisor):
            node.kill(cell.address)
    assert [cell.service for cell in node.cells.values()] == [node.root]
    with pytest.raises(Failed, match="did not start: it ended"):
        await other
    await asyncio.sleep(20)
    assert log == ["+a", "+b", "+c"]
