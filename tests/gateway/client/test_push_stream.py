"""The buffer between the client's reader and a consumer of pushes."""

import pytest

from skyloom_gateway.client.errors import PushOverflow
from skyloom_gateway.client.pushes import PushStream


def stream(buffer_max: int) -> PushStream[object]:
    return PushStream("test.tick", lambda _route, body: body, lambda _stream: None, buffer_max)


async def test_a_gap_stays_one_gap_though_room_comes_free_before_it_is_told() -> None:
    ticks = stream(2)
    for seq in (1, 2, 3):
        ticks.offer(seq, "test.tick", None)
    assert (await anext(ticks)).seq == 1
    ticks.offer(4, "test.tick", None)
    assert (await anext(ticks)).seq == 2
    with pytest.raises(
        PushOverflow, match=r"2 pushes of test\.tick were dropped: the consumer left 2 waiting"
    ) as caught:
        await anext(ticks)
    assert caught.value.missed == 2
    ticks.offer(5, "test.tick", None)
    assert (await anext(ticks)).seq == 5


async def test_a_gap_is_told_before_the_end() -> None:
    ticks = stream(1)
    ticks.offer(1, "test.tick", None)
    ticks.offer(2, "test.tick", None)
    ticks.finish(None)
    assert (await anext(ticks)).seq == 1
    with pytest.raises(PushOverflow):
        await anext(ticks)
    assert [push async for push in ticks] == []


def test_a_buffer_for_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="buffer_max must be at least 1, not 0"):
        stream(0)
