"""Means over time: a state weighs as long as it held, whatever the number of instants."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdmo.simulation.timeline import POINTS, State, Timeline

FULL, HALF, EMPTY = State(8, 0, 0.0, 3), State(4, 4, 1.0, 1), State(0, 8, 0.0, 0)


def test_a_mean_weighs_states_by_time() -> None:
    timeline = Timeline(0.0, first=0.0, last=None)
    timeline.hold(FULL, 1.0)
    timeline.hold(HALF, 4.0)
    mean = timeline.mean()
    assert mean is not None
    assert mean.utilisation == pytest.approx((1 * 8 + 3 * 4) / (4 * 8))
    assert mean.queue == pytest.approx((1 * 3 + 3 * 1) / 4)
    assert mean.fragmentation == pytest.approx(3 * 1.0 / (3 * 4))  # of the free slots alone
    assert timeline.longest_queue == 3


def test_what_lies_outside_the_window_is_in_no_mean() -> None:
    timeline = Timeline(0.0, first=2.0, last=5.0)
    timeline.hold(FULL, 3.0)
    timeline.hold(HALF, 4.0)
    timeline.hold(EMPTY, 100.0)
    mean = timeline.mean()
    assert mean is not None
    assert (mean.start, mean.end) == (2.0, 5.0)
    assert mean.utilisation == pytest.approx((8 + 4 + 0) / 24)
    assert timeline.points()[-1].end == 5.0


def test_the_longest_queue_is_that_of_the_window() -> None:
    timeline = Timeline(0.0, first=2.0, last=None)
    timeline.hold(FULL, 2.0)
    timeline.hold(HALF, 3.0)
    assert timeline.longest_queue == 1


def test_without_time_there_is_no_mean() -> None:
    timeline = Timeline(3.0, first=3.0, last=None)
    timeline.hold(FULL, 3.0)
    assert timeline.mean() is None
    assert timeline.points() == ()


def test_a_full_cluster_is_not_fragmented() -> None:
    timeline = Timeline(0.0, first=0.0, last=None)
    timeline.hold(FULL, 3.0)
    mean = timeline.mean()
    assert mean is not None
    assert (mean.utilisation, mean.fragmentation) == (1.0, 0.0)


@given(
    st.lists(st.tuples(st.floats(1e-9, 1e12), st.integers(0, 8)), min_size=1, max_size=30),
    st.sampled_from([0.0, 1.0, 1e6]),
)
def test_the_curve_has_a_bounded_number_of_points_that_lose_nothing(
    held: list[tuple[float, int]], start: float
) -> None:
    timeline = Timeline(start, first=start, last=None)
    now, busy_time = start, 0.0
    for duration, busy in held:
        later = now + duration
        timeline.hold(State(busy, 8 - busy, 0.0, 0), later)
        busy_time += busy * (later - now)
        now = later
    points = timeline.points()
    assert len(points) <= 2 * POINTS
    assert all(before.end == after.start for before, after in pairwise(points))
    assert sum(8 * each.utilisation * (each.end - each.start) for each in points) == pytest.approx(
        busy_time, rel=1e-6
    )
