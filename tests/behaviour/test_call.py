"""call, send, redirect, forward and response: what arrives, and where."""

import asyncio
import datetime

import pytest

from skyloom import AnsweredTwice, Failed, NotExecuted, Unknown, ValueRefused
from tests.behaviour.world import Basket, Callee, NoSuchRoom, Serial, World


@pytest.mark.parametrize("cls", [Callee, Serial])
async def test_call_answers(world: World, cls: type[Callee]) -> None:
    address, _ = await world.callee(cls)
    assert await world.here.call(address, "lua", "add", 1, 2) == 3
    assert await world.here.call(address, "lua", "add", 1) == 11
    assert await world.here.call(address, "rpc", "later", 2, "x") == "x"
    assert await world.here.call(address, "lua", "note", 1) is None


VALUES: list[object] = [
    None,
    True,
    -1,
    2**70,
    1.5,
    "text\ud800",
    b"\0",
    [1, [2]],
    {"a": {1: (2, 3)}},
    {1, 2},
    (),
    (1, [2]),
]
VALUES += [datetime.date(2020, 1, 2), frozenset({1}), Basket("me", ["pear"])]


@pytest.mark.parametrize("value", VALUES, ids=repr)
async def test_values_arrive_equal_and_never_shared(world: World, value: object) -> None:
    address, callee = await world.callee()
    await world.here.call(address, "lua", "note", value)
    assert callee.seen == [value]
    assert type(callee.seen[0]) is type(value)
    if isinstance(value, list | dict | set | Basket):
        assert callee.seen[0] is not value
    back = await world.here.call(address, "lua", "echo", value)
    assert back == value
    assert type(back) is type(value)


async def test_a_change_of_what_was_sent_is_not_seen(world: World) -> None:
    address, callee = await world.callee()
    mine = Basket("me", ["pear"])
    answer = await world.here.call(address, "lua", "basket", mine)
    assert mine.items == ["pear"]
    assert answer.items == ["pear", "apple"]
    assert answer is not callee.seen[0]
    answer.items.clear()
    assert callee.seen == [Basket("me", ["pear", "apple"])]


async def test_what_is_no_value_is_refused_at_its_sender(world: World) -> None:
    address, _ = await world.callee()
    with pytest.raises(ValueRefused):
        await world.here.call(address, "lua", "echo", asyncio.Lock())
    with pytest.raises(ValueRefused):
        world.here.send(address, "lua", "echo", object())
    with pytest.raises(Failed, match="internal"):
        await world.here.call(address, "lua", "unsendable")


async def test_send_arrives(world: World) -> None:
    address, _ = await world.callee()
    for number in range(100):
        world.here.send(address, "lua", "note", number)
    assert await world.here.call(address, "lua", "noted") == list(range(100))


async def test_raw_handler_gets_session_source_and_arguments(world: World) -> None:
    address, callee = await world.callee()
    assert await world.here.call(address, "snax", "x", 2) == ("got", "x", 2)
    assert await world.here.call(address, "snax", "later") == ("got", "later")
    assert await world.here.call(address, "snax", "ret", 1, [2]) == (1, [2])
    assert await world.here.call(address, "snax", "ret") is None
    assert await world.here.call(address, "snax", "ret", 5) == 5
    world.here.send(address, "snax", "sent")
    await world.here.call(address, "snax", "end")
    assert callee.seen[0] == (True, world.here.root.address, ("x", 2))
    assert callee.seen[-2] == (False, world.here.root.address, ("sent",))


async def test_raw_handler_without_an_answer_fails_its_caller(world: World) -> None:
    address, _ = await world.callee()
    with pytest.raises(Failed) as caught:
        await world.here.call(address, "snax", "silent")
    assert caught.value.code == "skyloom.no_answer"


@pytest.mark.parametrize("method", ["pass_on", "pass_on_later"])
async def test_forward_answers_the_first_caller(world: World, method: str) -> None:
    last, callee = await world.callee()
    middle = await world.here.spawn(Callee)

    async def who(session: int, source: object, *args: object) -> object:
        return (session > 0, source, args)

    callee.dispatch("lua", who)
    answer = await world.here.call(middle, "lua", method, last)
    assert answer == (True, world.here.root.address, (method, last))


async def test_forward_goes_over_several_services(world: World) -> None:
    last, callee = await world.callee()

    async def end(session: int, source: object, *args: object) -> object:
        return "end"

    callee.dispatch("lua", end)
    other, _ = await world.callee()
    middle = await world.here.spawn(Callee)

    class Chain(Callee):
        pass

    first = await world.here.spawn(Chain)
    world.here.cells[first].service.dispatch("lua", _forwarder(world.here.cells[first].service, middle))  # type: ignore[arg-type]  # a Callee
    world.here.cells[middle].service.dispatch("lua", _forwarder(world.here.cells[middle].service, other))  # type: ignore[arg-type]  # a Callee
    world.there.cells[other].service.dispatch("lua", _forwarder(world.there.cells[other].service, last))  # type: ignore[arg-type]  # a Callee
    assert await world.here.call(first, "lua", "anything") == "end"


def _forwarder(service: Callee, dest: object) -> object:
    async def forward(session: int, source: object, *args: object) -> None:
        service.forward(dest)  # type: ignore[arg-type]  # an Address

    return forward


async def test_forward_to_the_dead_fails_the_first_caller(world: World) -> None:
    dead, _ = await world.callee()
    world.there.kill(dead)
    middle = await world.here.spawn(Callee)
    with pytest.raises(NotExecuted) as caught:
        await world.here.call(middle, "lua", "pass_on", dead)
    assert caught.value.code == "skyloom.no_service"


async def test_redirect_in_anothers_name(world: World) -> None:
    address, callee = await world.callee()
    other, _ = await world.asker()
    world.here.root.redirect(address, other, "snax", 0, ("hello", 1))
    await world.here.call(address, "snax", "end")
    assert callee.seen[0] == (False, other, ("hello", 1))


async def test_redirect_of_a_response_is_an_answer(world: World) -> None:
    address, callee = await world.callee()

    async def by_hand(session: int, source: object, *args: object) -> None:
        callee._cell.take(callee.request)
        callee.redirect(callee.request.source, callee.address, "response", session, ("by hand",))

    callee.dispatch("lua", by_hand)
    assert await world.here.call(address, "lua", "x") == "by hand"


@pytest.mark.parametrize("ptype", ["response", "error", "harbor"])
async def test_nobody_calls_with_the_runtimes_own_types(world: World, ptype: str) -> None:
    address, _ = await world.callee()
    with pytest.raises(ValueRefused):
        await world.here.call(address, ptype, "x")
    with pytest.raises(ValueRefused):
        world.here.send(address, ptype, "x")


async def test_response_is_given_later_and_once(world: World) -> None:
    address, callee = await world.callee()
    calls = [asyncio.create_task(world.here.call(address, "lua", "keep")) for _ in range(3)]
    await asyncio.sleep(1)
    assert len(callee.kept) == 3
    await world.here.call(address, "lua", "release", "now")
    assert await asyncio.gather(*calls) == ["now"] * 3
    assert all(response.answered for response in callee.kept)
    with pytest.raises(AnsweredTwice):
        callee.kept[0].ret(1)
    with pytest.raises(AnsweredTwice):
        callee.kept[0].fail(Failed("x"))


async def test_response_may_fail(world: World) -> None:
    address, callee = await world.callee()
    call = asyncio.create_task(world.here.call(address, "lua", "keep"))
    await asyncio.sleep(1)
    with pytest.raises(ValueRefused):
        callee.kept[0].fail(Failed("x", details={"lock": asyncio.Lock()}))
    with pytest.raises(ValueRefused):
        callee.kept[0].ret(asyncio.Lock())
    assert not callee.kept[0].answered
    error = NoSuchRoom("gone", details={"list": [1]})
    callee.kept[0].fail(error)
    with pytest.raises(NoSuchRoom) as caught:
        await call
    assert caught.value.details == {"list": [1]}
    assert caught.value.details["list"] is not error.details["list"]


@pytest.mark.parametrize("method", ["forget", "forget_later"])
async def test_dropped_response_fails_its_caller_at_once(world: World, method: str) -> None:
    address, _ = await world.callee()
    started = world.here.now()
    with pytest.raises(Failed) as caught:
        await world.here.call(address, "lua", method)
    assert caught.value.code == "skyloom.no_answer"
    assert world.here.now() - started <= 1


async def test_response_taken_after_a_suspension_answers(world: World) -> None:
    address, _ = await world.callee()
    assert await world.here.call(address, "lua", "take_after_wait", "x") == "x"


async def test_second_answers_raise_and_the_first_counts(world: World) -> None:
    address, callee = await world.callee()
    assert await world.here.call(address, "lua", "twice") == "first"
    assert callee.seen == ["AnsweredTwice"]


async def test_two_responses_to_one_request_are_one_too_many(world: World) -> None:
    address, callee = await world.callee()

    async def greedy(session: int, source: object, *args: object) -> None:
        first = callee.response()
        with pytest.raises(AnsweredTwice):
            callee.response()
        with pytest.raises(AnsweredTwice):
            callee.forward(callee.address)
        first.ret("ok")

    callee.dispatch("lua", greedy)
    assert await world.here.call(address, "lua", "x") == "ok"


async def test_payload_that_does_not_unpack_fails_its_caller(world: World) -> None:
    address, callee = await world.callee()
    callee.register_protocol("numbers", 30, lambda n: b"%d" % n, int)

    async def double(session: int, source: object, number: int) -> int:
        return number * 2

    callee.dispatch("numbers", double)
    sender = world.here.root
    sender.register_protocol("numbers", 30, lambda text: str(text).encode(), int)
    assert await sender.call(address, "numbers", 21) == 42
    with pytest.raises(NotExecuted) as caught:
        await sender.call(address, "numbers", "x")
    assert caught.value.code == "skyloom.bad_payload"


async def test_answer_that_does_not_unpack_is_unknown(world: World) -> None:
    address, callee = await world.callee()
    callee.register_protocol("numbers", 30, lambda n: str(n).encode(), int)

    async def double(session: int, source: object, number: int) -> str:
        if number == 2:
            await callee.sleep(1)
        return "not a number"

    callee.dispatch("numbers", double)
    world.here.root.register_protocol("numbers", 30, lambda n: str(n).encode(), int)
    for number in (1, 2):
        with pytest.raises(Unknown) as caught:
            await world.here.call(address, "numbers", number)
        assert caught.value.code == "skyloom.bad_answer"


async def test_queue_messages_run_one_at_a_time(world: World) -> None:
    address, callee = await world.callee()
    calls = [world.here.root.call(address, "queue", "later", 1, number) for number in range(3)]
    started = world.here.now()
    assert await asyncio.gather(*calls) == [0, 1, 2]
    assert callee.seen == [0, 1, 2]
    assert world.here.now() - started == pytest.approx(3)
