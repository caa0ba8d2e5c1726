"""When a change that did not come about is tried again."""

from __future__ import annotations

import pytest

from cdmo.agent.retry import Retry
from tests.fakes.clock import VirtualClock


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


def waits(retry: Retry, clock: VirtualClock, purpose: str) -> float:
    """Seconds until the purpose is due."""
    waited = 0.0
    while not retry.due(purpose):
        clock.jump(0.5)
        waited += 0.5
    return waited


def test_pauses_double_up_to_the_longest(clock: VirtualClock) -> None:
    retry, pauses = Retry(clock, 1.0, 6.0), []
    for _ in range(5):
        pauses.append(waits(retry, clock, "a"))
        retry.failed()
    assert pauses == [0.0, 1.0, 2.0, 4.0, 6.0]


def test_a_new_purpose_is_tried_at_once_and_begins_with_the_first_pause(clock: VirtualClock) -> None:
    retry = Retry(clock, 1.0, 60.0)
    for _ in range(4):
        waits(retry, clock, "a")
        retry.failed()
    assert retry.due("b")
    retry.failed()
    assert waits(retry, clock, "b") == 1.0


def test_after_success_the_same_is_a_new_purpose(clock: VirtualClock) -> None:
    retry = Retry(clock, 1.0, 60.0)
    assert retry.due("a")
    retry.failed()
    retry.succeeded()
    assert retry.due("a")


def test_what_no_longer_stands_in_the_way_is_tried_at_once(clock: VirtualClock) -> None:
    retry = Retry(clock, 30.0, 60.0)
    assert retry.due("a")
    retry.failed()
    assert not retry.due("a")
    retry.at_once()
    assert retry.due("a")
