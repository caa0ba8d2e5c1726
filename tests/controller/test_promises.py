"""What was planned for whom, and for how long that is waited for."""

from __future__ import annotations

import pytest

from cdmo.controller.promises import Patience, Promises
from tests.builders import assigned, key, pod

FIRST, OTHER = assigned("train", "gpu-1", "3g.40gb@4"), assigned("train", "gpu-2", "3g.40gb@4")


@pytest.fixture
def promises() -> Promises:
    return Promises(Patience(patience=30.0, first_pause=40.0, longest_pause=100.0))


def test_a_promise_is_kept_while_the_pod_waits(promises: Promises) -> None:
    assert promises.keep([FIRST], 0.0) == (FIRST,)
    assert promises.review([pod("train", "3g.40gb")], 29.9) == ()
    assert promises.assignments() == (FIRST,)


def test_a_promise_ends_when_the_pod_runs_or_goes(promises: Promises) -> None:
    promises.keep([FIRST], 0.0)
    assert promises.review([], 1.0) == ()
    assert promises.assignments() == ()


def test_a_pod_made_anew_under_an_old_name_has_no_promise(promises: Promises) -> None:
    promises.keep([FIRST], 0.0)
    promises.review([pod("train", "3g.40gb", uid="another")], 1.0)
    assert promises.assignments() == ()


def test_the_same_plan_again_is_no_news_and_no_new_patience(promises: Promises) -> None:
    promises.keep([FIRST], 0.0)
    assert promises.keep([FIRST], 20.0) == ()
    assert promises.review([pod("train", "3g.40gb")], 30.0) == (FIRST,)


def test_another_place_is_news_and_gets_its_own_patience(promises: Promises) -> None:
    promises.keep([FIRST], 0.0)
    assert promises.keep([OTHER], 20.0) == (OTHER,)
    assert promises.review([pod("train", "3g.40gb")], 49.0) == ()
    assert promises.assignments() == (OTHER,)


def test_what_a_plan_no_longer_places_is_promised_no_more(promises: Promises) -> None:
    promises.keep([FIRST], 0.0)
    promises.keep([], 1.0)
    assert promises.assignments() == ()


def test_a_node_tried_in_vain_is_left_alone_for_doubling_pauses_up_to_a_most(promises: Promises) -> None:
    now, pauses = 0.0, []
    for _ in range(4):
        promises.keep([FIRST], now)
        now += 30.0
        assert promises.review([pod("train", "3g.40gb")], now) == (FIRST,)
        assert promises.avoid() == {(key("train"), "gpu-1")}
        pause = promises.next_due(now)
        pauses.append(pause)
        promises.review([pod("train", "3g.40gb")], now + pause - 0.1)
        assert promises.avoid()
        now += pause
        promises.review([pod("train", "3g.40gb")], now)
        assert not promises.avoid()
    assert pauses == [40.0, 80.0, 100.0, 100.0]


def test_pauses_are_forgotten_with_the_pod(promises: Promises) -> None:
    promises.keep([FIRST], 0.0)
    promises.review([pod("train", "3g.40gb")], 30.0)
    promises.review([], 31.0)
    assert not promises.avoid()
    assert promises.next_due(31.0) == float("inf")


def test_the_next_round_is_due_when_the_first_promise_runs_out(promises: Promises) -> None:
    assert promises.next_due(0.0) == float("inf")
    promises.keep([FIRST], 5.0)
    promises.keep([FIRST, assigned("other", "gpu-1", "1g.10gb@0")], 15.0)
    assert promises.next_due(15.0) == 20.0
    assert promises.next_due(99.0) == 0.0
