"""Pauses that grow."""

from __future__ import annotations

from itertools import islice

from cdmo.runtime.pauses import growing


def test_each_pause_is_longer_than_the_one_before_up_to_the_longest() -> None:
    assert list(islice(growing(1.0, 2.0, 5.0), 5)) == [1.0, 2.0, 4.0, 5.0, 5.0]


def test_a_first_pause_beyond_the_longest_is_made_once() -> None:
    assert list(islice(growing(8.0, 2.0, 5.0), 3)) == [8.0, 5.0, 5.0]
