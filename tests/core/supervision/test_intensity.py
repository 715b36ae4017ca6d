"""How many restarts are too many, and the waits between them."""

import random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from skyloom.supervision.intensity import BACKOFF_SECONDS, BACKOFF_SHARE, Intensity

waits = st.lists(st.floats(0, 4, allow_nan=False), max_size=30)


@example([0.0, 1.0], 1, 1.0)  # what is just as old as the period is no longer inside
@given(waits, st.integers(0, 6), st.sampled_from([1.0, 5.0]))
def test_at_most_so_many_crashes_in_any_period(waits: list[float], most: int, period: float) -> None:
    intensity, now, crashes = Intensity(most, period), 1000.0, list[float]()
    for wait in waits:
        now += wait
        crashes.append(now)
        inside = [time for time in crashes if time > now - period]
        assert intensity.crashed(now) == (len(inside) <= most)


@given(st.integers(1, 200), st.floats(0.5, 60), st.integers())
def test_a_crash_loop_is_always_over_the_intensity(most: int, period: float, seed: int) -> None:
    intensity, now, rng = Intensity(most, period), 1000.0, random.Random(seed)
    for _ in range(most):
        assert intensity.crashed(now)
        now += intensity.delay(rng)
    assert not intensity.crashed(now)
    assert now - 1000.0 <= period * BACKOFF_SHARE


@given(st.integers())
def test_waits_begin_at_none_and_double_with_jitter(seed: int) -> None:
    intensity, rng = Intensity(100, 3600.0), random.Random(seed)
    intensity.crashed(0.0)
    assert intensity.delay(rng) == 0
    for doubling in range(7):
        intensity.crashed(0.0)
        longest = BACKOFF_SECONDS * 2**doubling
        assert longest / 2 <= intensity.delay(rng) <= longest


def test_the_wait_is_of_the_random_source() -> None:
    intensity = Intensity(3, 5.0)
    intensity.crashed(0.0)
    intensity.crashed(0.0)
    assert len({intensity.delay(random.Random(seed)) for seed in range(20)}) > 10
    assert intensity.delay(random.Random(1)) == intensity.delay(random.Random(1))


@pytest.mark.parametrize(("most", "period"), [(-1, 5.0), (3, 0.0), (3, float("nan"))])
def test_nonsense_is_refused(most: int, period: float) -> None:
    with pytest.raises(ValueError, match="intensity"):
        Intensity(most, period)
