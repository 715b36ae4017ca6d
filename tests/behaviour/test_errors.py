"""Errors say what happened, on both sides alike."""

import pytest
from structlog.testing import capture_logs

from skyloom import CallError, Failed, NotExecuted, Unknown
from tests.behaviour.world import Bespoke, NoSuchRoom, World


async def _error(world: World, address: object, *args: object, ptype: str = "lua") -> CallError:
    with pytest.raises(CallError) as caught:
        await world.here.call(address, ptype, *args)  # type: ignore[arg-type]  # an Address
    return caught.value


@pytest.mark.parametrize("method", ["fail", "fail_later"])
async def test_failed_arrives_as_its_own_class(world: World, method: str) -> None:
    address, _ = await world.callee()
    error = await _error(world, address, method, "attic")
    assert type(error) is NoSuchRoom
    assert (error.code, error.kind, error.message) == ("test.no_such_room", "not_found", "no room attic")
    assert error.details == {"room": "attic", "near": ["lobby"]}


async def test_failed_whose_init_is_its_own_arrives(world: World) -> None:
    address, _ = await world.callee()
    error = await _error(world, address, "bespoke")
    assert type(error) is Bespoke
    assert (error.code, error.kind, error.details) == ("test.bespoke", "aborted", {})


async def test_crash_is_told_without_its_traceback(world: World) -> None:
    address, _ = await world.callee()
    with capture_logs() as logs:
        error = await _error(world, address, "stumble")
    assert type(error) is Failed
    assert error.code == "skyloom.internal"
    assert "ZeroDivisionError: by accident" in error.message
    assert error.__cause__ is None
    assert error.__context__ is None
    assert [entry["event"] for entry in logs] == ["handler failed"]
    assert isinstance(logs[0]["exc_info"], ZeroDivisionError)


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (("no_such",), "skyloom.no_method"),
        (("on_start",), "skyloom.no_method"),
        ((), "skyloom.no_method"),
        ((["unhashable"],), "skyloom.no_method"),
        ((5, 5), "skyloom.no_method"),
        (("add",), "skyloom.bad_arguments"),
        (("add", 1, 2, 3), "skyloom.bad_arguments"),
    ],
)
async def test_wrong_calls_are_not_executed(world: World, args: tuple[object, ...], code: str) -> None:
    address, _ = await world.callee()
    error = await _error(world, address, *args)
    assert type(error) is NotExecuted
    assert error.code == code
    assert not error.retryable


async def test_type_error_inside_a_handler_is_no_bad_argument(world: World) -> None:
    address, _ = await world.callee()
    assert (await _error(world, address, "add", 1, "x")).code == "skyloom.internal"


async def test_no_handler(world: World) -> None:
    address, _ = await world.callee()
    error = await _error(world, address, "x", ptype="multicast")
    assert type(error) is NotExecuted
    assert error.code == "skyloom.no_handler"


async def test_no_protocol(world: World) -> None:
    address, _ = await world.callee()
    with pytest.raises(LookupError, match="register_protocol"):
        await world.here.call(address, "nonsense", 1)


async def test_error_of_a_nested_call_is_no_longer_not_executed(world: World) -> None:
    # The middle did run, so that repeating its call is not safe just because the last link was never made.
    address, _ = await world.callee()
    dead, _ = await world.callee()
    world.there.kill(dead)
    error = await _error(world, address, "relay", dead, "add", 1)
    assert type(error) is Failed
    assert error.code == "skyloom.no_service"


async def test_failed_of_a_nested_call_passes_through(world: World) -> None:
    address, _ = await world.callee()
    last, _ = await world.callee()
    assert type(await _error(world, address, "relay", last, "fail", "attic")) is NoSuchRoom


async def test_overload_fails_the_call_and_buries_the_send(world: World) -> None:
    address, callee = await world.callee()
    callee._cell.messages_max = callee._cell.watermark = 3
    callee._cell.concurrency = 1
    world.here.send(address, "lua", "later", 2, "x")
    await world.here.root.sleep(0.5)
    for number in range(5):
        world.here.send(address, "lua", "note", number)
    await world.here.root.sleep(0.5)
    assert world.there.dead_letters.by_reason == {"skyloom.overloaded": 2}
    error = await _error(world, address, "add", 1)
    assert (type(error), error.code, error.retryable) == (NotExecuted, "skyloom.overloaded", True)
    await world.here.root.sleep(2)
    assert callee.seen == ["x", 0, 1, 2]


async def test_lost_node_leaves_calls_unknown_and_later_ones_not_executed(world: World) -> None:
    if world.network is None:
        pytest.skip("needs two nodes")
    address, _ = await world.callee()
    world.here.root.timeout(1, _cut, world)
    started = world.here.now()
    error = await _error(world, address, "later", 3, "x")
    assert (type(error), error.code) == (Unknown, "skyloom.peer_lost")
    assert world.here.now() - started == pytest.approx(1)
    error = await _error(world, address, "add", 1)
    assert (type(error), error.code) == (NotExecuted, "skyloom.not_connected")
    world.network.mend("here", "there")
    assert await world.here.call(address, "lua", "add", 1) == 11


async def _cut(world: World) -> None:
    assert world.network is not None
    world.network.cut("here", "there")


async def test_message_too_large_for_the_transport_is_refused(world: World) -> None:
    if world.network is None:
        pytest.skip("needs two nodes")
    address, callee = await world.callee()
    big = b"x" * (2 * 1024 * 1024)
    error = await _error(world, address, "echo", big)
    assert type(error) is NotExecuted

    async def bloat(session: int, source: object, *args: object) -> bytes:
        return big

    callee.dispatch("lua", bloat)
    error = await _error(world, address, "x")
    assert (type(error), error.code) == (Unknown, "skyloom.answer_not_sent")
