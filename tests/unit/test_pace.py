"""A rate, kept by small pieces."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from echoserver.answers.pace import Pace

RATES = st.floats(0.5, 1e9)


def test_nothing_goes_at_once() -> None:
    pace = Pace(1000, 5.0)
    assert pace.allowed(5.0) == 0
    assert pace.allowed(5.05) == 50


def test_a_slow_rate_goes_byte_by_byte() -> None:
    pace = Pace(10, 0.0)
    assert pace.next(0.0, 100) == pytest.approx(0.1)
    assert pace.allowed(0.099) == 0
    assert pace.allowed(0.101) == 1
    pace.spent(1)
    assert pace.allowed(0.101) == 0
    assert pace.next(0.101, 100) == pytest.approx(0.099)


def test_a_small_rest_does_not_wait_for_a_whole_piece() -> None:
    pace = Pace(1000, 0.0)
    assert pace.next(0.0, 1000) == pytest.approx(0.05)
    assert pace.next(0.0, 10) == pytest.approx(0.01)


def test_what_is_late_is_made_up_for_but_not_without_end() -> None:
    pace = Pace(1000, 0.0)
    assert pace.next(60.0, 1000) == 0.0
    assert pace.allowed(60.0) == 150
    pace.spent(150)
    assert pace.allowed(60.0) == 0


def test_time_without_anything_to_send_counts_as_a_millisecond() -> None:
    pace = Pace(10_000, 0.0)
    pace.begin(60.0)
    assert pace.allowed(60.0) == 10
    pace.spent(10)
    pace.begin(60.0)
    assert pace.allowed(60.0) == 0


def test_beginning_again_forgives_nothing() -> None:
    pace = Pace(1000, 0.0)
    pace.spent(1000)
    pace.begin(0.5)
    assert pace.allowed(1.0) == 0
    assert pace.allowed(1.05) == 50


@given(
    RATES,
    st.lists(st.tuples(st.floats(0.0, 0.5), st.integers(1, 1 << 20), st.booleans()), max_size=60),
    st.floats(0, 1e6),
)
def test_never_faster(rate: float, steps: list[tuple[float, int, bool]], start: float) -> None:
    """Whenever the caller comes, and whatever it has to send: from the beginning, and from each begin()."""
    pace = Pace(rate, start)
    now = start
    sent_since = {start: 0}
    for wait, waiting, begins in steps:
        now += wait
        if begins:
            pace.begin(now)
            sent_since.setdefault(now - 0.001, 0)
        size = min(waiting, pace.allowed(now))
        pace.spent(size)
        for since, before in sent_since.items():
            sent = sent_since[since] = before + size
            assert sent <= (now - since) * rate + rate * 1e-6 + 1e-5


@given(RATES, st.floats(0, 1e6))
def test_kept_by_who_comes_in_time(rate: float, start: float) -> None:
    """All the time something waits: after a second what has gone is what the rate says, but for one piece."""
    pace = Pace(rate, start)
    now, sent = start, 0
    while now < start + 1.0:
        wait = pace.next(now, 1 << 30)
        assert wait < 0.06 or wait * rate <= 1.0 + 1e-6
        now += wait
        size = pace.allowed(now)
        assert size
        pace.spent(size)
        sent += size
    assert sent >= (now - start) * rate - max(1.0, rate * 0.05) - rate * 1e-3
