"""A seed names a schedule of faults."""

from __future__ import annotations

import itertools

import pytest
from cdmo_harness.chaos.kinds import KINDS
from cdmo_harness.chaos.run import TARGETS
from cdmo_harness.chaos.schedule import FaultKind, Planned, draw

MINUTES = 10.0
BY_NAME = {kind.name: kind for kind in KINDS}


def drawn(seed: int = 7, minutes: float = MINUTES) -> tuple[Planned, ...]:
    return draw(seed, minutes * 60, KINDS, TARGETS)


def kind_of(fault: Planned) -> FaultKind:
    return BY_NAME[fault.kind]


def test_no_two_kinds_have_the_same_name() -> None:
    assert len(BY_NAME) == len(KINDS)


def test_the_same_seed_draws_the_same_schedule() -> None:
    assert drawn(7) == drawn(7)


def test_another_seed_draws_another_schedule() -> None:
    assert drawn(7) != drawn(8)


@pytest.mark.parametrize("seed", range(5))
def test_every_kind_comes_in_a_run_of_some_minutes(seed: int) -> None:
    assert {each.kind for each in drawn(seed)} == set(BY_NAME)


@pytest.mark.parametrize("seed", range(5))
def test_no_kind_comes_again_before_every_kind_has_come(seed: int) -> None:
    first = [each.kind for each in drawn(seed)][: len(KINDS)]
    assert len(set(first)) == len(first)


@pytest.mark.parametrize("minutes", [0.5, 1.0, MINUTES])
def test_every_fault_begins_and_ends_within_the_run(minutes: float) -> None:
    assert all(0 < each.begins < each.ends <= minutes * 60 + 0.01 for each in drawn(minutes=minutes))


def test_faults_overlap_but_never_touch_the_same_thing() -> None:
    overlapping = 0
    for one, other in itertools.combinations(drawn(), 2):
        if other.begins < one.ends:
            overlapping += 1
            assert not kind_of(one).claimed(one.target) & kind_of(other).claimed(other.target), (one, other)
    assert overlapping > 20


def test_a_fault_hits_something_that_it_can_hit() -> None:
    assert all(each.target in TARGETS[kind_of(each).where] for each in drawn())
