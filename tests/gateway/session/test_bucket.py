"""The token bucket, exact in virtual time."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyloom_gateway.session import Bucket
from skyloom_gateway.session.allowance import ADVANCE_MESSAGES, Allowance
from skyloom_gateway.session.buckets import Buckets


def test_burst_then_rate() -> None:
    bucket = Bucket(50, 100)
    assert [bucket.take(1000.0) for _ in range(100)] == [0.0] * 100
    assert bucket.take(1000.0) == 0.02
    assert bucket.take(1000.01) == 0.01
    assert bucket.take(1000.02) == 0.0
    assert bucket.take(1000.02) == 0.02


def test_it_holds_no_more_than_the_burst() -> None:
    bucket = Bucket(10, 3)
    for start in (0.0, 1e6):
        assert [bucket.take(start) > 0 for _ in range(4)] == [False, False, False, True]


def test_a_million_seconds_of_exact_rate_are_never_refused() -> None:
    bucket = Bucket(50, 1)
    assert all(bucket.take(10**6 + n / 50) == 0.0 for n in range(5000))
    assert bucket.take(10**6 + 4999 / 50 + 0.019) == pytest.approx(0.001)


@given(
    st.sampled_from([1, 2, 50, 1000]),
    st.integers(1, 20),
    st.lists(st.integers(0, 3000), max_size=80),
)
def test_it_is_the_textbook_bucket(per_second: int, burst: int, pauses_ms: list[int]) -> None:
    bucket = Bucket(per_second, burst)
    tokens, last, now_ms = Fraction(burst), 0, 0
    for pause in pauses_ms:
        now_ms += pause
        tokens = min(Fraction(burst), tokens + Fraction((now_ms - last) * per_second, 1000))
        last = now_ms
        wait = bucket.take(now_ms / 1000)
        if tokens >= 1:
            tokens -= 1
            assert wait == 0.0
        else:
            assert wait == pytest.approx(float((1 - tokens) / per_second), abs=1e-9)


@given(st.floats(0.1, 10_000), st.integers(1, 50), st.floats(0, 1e6))
def test_whoever_waits_as_told_gets_in(per_second: float, burst: int, now: float) -> None:
    bucket = Bucket(per_second, burst)
    while not (wait := bucket.take(now)):
        pass
    # The float `now` itself is good to less than a nanosecond here.
    assert bucket.take(now + wait + 1e-9) == 0.0


def test_several_tokens_go_together_or_not_at_all() -> None:
    bucket = Bucket(10, 5)
    assert bucket.take(0.0, 3) == 0.0
    assert bucket.take(0.0, 3) == 0.1
    assert bucket.take(0.0, 2) == 0.0
    assert bucket.take(0.5, 5) == 0.0


def test_a_key_has_one_bucket_and_the_longest_unasked_is_forgotten() -> None:
    buckets = Buckets(1, 1, 2)
    first, second = buckets.of("first"), buckets.of("second")
    assert buckets.of("first") is first
    assert buckets.of("third") is not first
    assert buckets.of("first") is first
    assert buckets.of("second") is not second
    assert len(buckets) == 2


def test_a_million_keys_take_no_more_room_than_the_last() -> None:
    buckets = Buckets(1, 1, 100)
    for n in range(10_000):
        assert buckets.of(str(n)).take(0.0) == 0.0
    assert len(buckets) == 100


def test_an_allowance_is_held_by_its_own_bucket_first() -> None:
    shared = Bucket(1000, 1000)
    allowance = Allowance(Bucket(50, 3), [shared])
    assert [allowance.take(0.0) for _ in range(4)] == [0.0, 0.0, 0.0, 0.02]


def test_allowances_share_what_is_shared() -> None:
    """Whoever shares a bucket has no more together than it gives, less what lies with them in advance."""
    user, address = Bucket(10, 40), Bucket(100, 1000)
    allowances = [Allowance(Bucket(1000, 1000), [user, address]) for _ in range(5)]
    sent = sum(allowance.take(0.0) == 0.0 for _ in range(100) for allowance in allowances)
    assert 40 - 5 * (ADVANCE_MESSAGES - 1) <= sent <= 40
    wait = allowances[0].take(0.0)
    assert wait == pytest.approx(ADVANCE_MESSAGES / 10, abs=0.01)
    assert allowances[0].take(wait) == 0.0


def test_over_ten_seconds_a_user_sends_at_its_rate() -> None:
    user = Bucket(20, 40)
    allowances = [Allowance(Bucket(50, 100), [user]) for _ in range(4)]
    sent = sum(allowance.take(tick / 100) == 0.0 for tick in range(1000) for allowance in allowances)
    assert 200 <= sent <= 40 + 200
