"""Figures worked out by hand."""

from __future__ import annotations

import pytest

from cdmo.model.reasons import WaitingCode
from cdmo.simulation.figures import Figures, Waits, demand_label, figures
from cdmo.simulation.workload import Job
from tests.builders import h100, node, resource
from tests.simulation.stage import job, played, workload, world_of

ONE_GPU = [node("gpu-1", [h100()])]


def measured(*jobs: Job, loss: bool = False, warmup: float = 0.0) -> Figures:
    course = played(jobs, ONE_GPU, loss=loss, warmup=warmup)
    return figures(course, world_of(ONE_GPU, workload(jobs)).size)


def test_acceptance_is_counted_by_pods_and_by_slots() -> None:
    made = measured(
        job("a", "4g.40gb", at=0, runs=10),
        job("b", "7g.80gb", at=1, runs=5),
        job("c", "3g.40gb", at=2, runs=1),
        job("d", "1g.10gb", at=2, runs=1),
        loss=True,
    )
    assert (made.pods, made.accepted, made.accepted_share) == (4, 2, 0.5)
    assert (made.slots, made.accepted_slots) == (17, 8)
    assert made.slot_share == pytest.approx(8 / 17)
    (refusal,) = made.refusals
    assert (refusal.code, refusal.pods, refusal.example) == (WaitingCode.NO_ROOM, 2, "sim/b")
    assert refusal.reason


def test_waits_have_a_mean_and_the_value_that_95_percent_do_not_exceed() -> None:
    made = measured(*(job(f"p{number:02d}", "7g.80gb", at=0, runs=1) for number in range(20)))
    assert made.waits == Waits(mean=9.5, p95=18.0)  # waits 0 ... 19: the 19th of 20
    assert made.still_waiting == 0


def test_each_kind_of_pod_has_figures_of_its_own_the_most_frequent_first() -> None:
    made = measured(
        job("a", "7g.80gb", at=0, runs=10),
        job("b", {"1g.10gb": 2, "2g.20gb": 1}, at=4, runs=1),
        job("c", "7g.80gb", at=5, runs=1),
    )
    assert [(each.demand, each.pods, each.accepted, each.waits) for each in made.kinds] == [
        ("7g.80gb", 2, 2, Waits(3.0, 6.0)),
        ("2 x 1g.10gb + 2g.20gb", 1, 1, Waits(6.0, 6.0)),
    ]


def test_creates_and_destroys_are_a_mean_over_the_pods_that_started() -> None:
    made = measured(
        job("a", "7g.80gb", at=0, runs=1),
        job("b", "7g.80gb", at=2, runs=1),
        job("c", {"1g.10gb": 3}, at=4, runs=1),
    )
    assert made.creates_per_accepted == pytest.approx(4 / 3)
    assert made.destroys_per_accepted == pytest.approx(1 / 3)


def test_the_warm_up_is_left_out_of_all_of_them() -> None:
    made = measured(
        job("a", "7g.80gb", at=0, runs=10),
        job("b", "7g.80gb", at=1, runs=5),
        job("c", "1g.10gb", at=12, runs=1),
        job("d", "1g.10gb", at=20, runs=1),
        warmup=0.5,
    )
    assert (made.arrivals, made.pods, made.accepted) == (4, 2, 2)
    assert made.waits == Waits(mean=1.5, p95=3.0)
    assert [each.demand for each in made.kinds] == ["1g.10gb"]


def test_when_no_pod_ever_starts_there_is_nothing_to_divide_by() -> None:
    made = measured(job("a", "9g.90gb", at=0, runs=10), job("b", {"4g.40gb": 1, "7g.80gb": 1}, at=1, runs=10))
    assert (made.accepted, made.waits) == (0, Waits(None, None))
    assert (made.creates_per_accepted, made.destroys_per_accepted) == (None, None)
    assert [each.code for each in made.refusals] == [WaitingCode.NEVER_FITS, WaitingCode.NO_SUCH_PROFILE]


def test_the_curve_of_who_was_turned_away_covers_all_arrivals() -> None:
    made = measured(*(job(f"p{number:03d}", "7g.80gb", at=number, runs=1.5) for number in range(200)), loss=True)
    times = [time for time, _ in made.turned_away]
    assert times == sorted(times)
    assert len(times) == 50  # groups of 4
    assert {share for _, share in made.turned_away} == {0.5}


def test_a_demand_is_named_in_a_few_words() -> None:
    assert demand_label(((resource("1g.10gb+me"), 1),)) == "1g.10gb.me"
    assert demand_label(((resource("1g.10gb"), 2), (resource("3g.40gb"), 1))) == "2 x 1g.10gb + 3g.40gb"
