"""The delays between attempts: at once, then growing to a cap, spread by jitter, reset only when told."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from van.transport.backoff import CAP_SECONDS, INITIAL_SECONDS, Backoff


def test_the_first_attempt_is_made_at_once_and_then_the_delays_double_to_the_cap() -> None:
    backoff = Backoff(lambda: 1.0, initial=1.0, cap=10.0)
    assert [backoff.next_delay() for _ in range(7)] == [0.0, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0]


def test_a_reset_begins_again_but_not_at_zero() -> None:
    backoff = Backoff(lambda: 1.0, initial=1.0, cap=10.0)
    for _ in range(6):
        backoff.next_delay()
    backoff.reset()
    assert [backoff.next_delay() for _ in range(3)] == [1.0, 2.0, 4.0]


def test_with_patience_the_delays_stay_short_for_a_while() -> None:
    backoff = Backoff(lambda: 1.0, initial=0.25, cap=1.0, patience=1.0)
    series = [0.25, 0.25, 0.25, 0.25, 0.5, 1.0, 1.0]
    assert [backoff.next_delay() for _ in range(8)] == [0.0, *series]
    backoff.reset()
    assert [backoff.next_delay() for _ in range(7)] == series


def test_a_peer_that_is_the_wrong_one_is_asked_seldom() -> None:
    backoff = Backoff(lambda: 1.0, initial=1.0, cap=10.0, patience=60.0)
    backoff.next_delay()
    backoff.slow_down()
    assert [backoff.next_delay() for _ in range(2)] == [10.0, 10.0]
    backoff.reset()
    assert backoff.next_delay() == 1.0


@given(st.lists(st.floats(0.0, 1.0, exclude_max=True), min_size=2, max_size=2000))
def test_every_delay_is_in_the_upper_half_of_its_bound_and_under_the_cap(jitters: list[float]) -> None:
    source = iter(jitters)
    backoff = Backoff(lambda: next(source))
    assert backoff.next_delay() == 0.0
    bound = INITIAL_SECONDS
    for _ in jitters:
        delay = backoff.next_delay()
        assert bound / 2 <= delay <= bound <= CAP_SECONDS
        bound = min(2 * bound, CAP_SECONDS)


def test_jitter_spreads_those_who_lost_the_same_hub() -> None:
    delays = set()
    for site in range(100):
        backoff = Backoff(lambda site=site: site / 100)  # type: ignore[misc]
        backoff.next_delay()
        delays.add(backoff.next_delay())
    assert len(delays) == 100


@pytest.mark.parametrize(("initial", "cap"), [(0.0, 1.0), (2.0, 1.0), (-1.0, 1.0)])
def test_senseless_settings_are_refused(initial: float, cap: float) -> None:
    with pytest.raises(ValueError, match="must satisfy"):
        Backoff(lambda: 0.0, initial=initial, cap=cap)
