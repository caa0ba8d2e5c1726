"""Runs small enough to work out by hand: one GPU, a few pods, exact times."""

from __future__ import annotations

import pytest

from cdmo.model.plan import Plan
from cdmo.model.policy import Policy
from cdmo.model.reasons import WaitingCode
from cdmo.model.snapshot import Snapshot
from tests.builders import h100, node
from tests.planner.expect import Judged
from tests.simulation.stage import job, played, starts

ONE_GPU = [node("gpu-1", [h100()])]


def test_pods_wait_for_each_other_on_one_gpu() -> None:
    course = played(
        [
            job("a", "7g.80gb", at=0, runs=10),
            job("b", "7g.80gb", at=1, runs=5),
            job("c", "7g.80gb", at=2, runs=1),
        ],
        ONE_GPU,
    )
    assert starts(course) == {"a": 0.0, "b": 10.0, "c": 15.0}
    assert course.ended == 16.0
    assert (course.created, course.destroyed, course.started) == (1, 0, 3)
    assert course.mean is not None
    assert course.mean.utilisation == 1.0
    assert course.mean.queue == pytest.approx((1 * 1 + 8 * 2 + 5 * 1) / 16)  # 1-2: b; 2-10: b, c; 10-15: c
    assert course.longest_queue == 2


def test_with_loss_a_pod_without_a_place_on_arrival_is_gone() -> None:
    course = played(
        [
            job("a", "4g.40gb", at=0, runs=10),
            job("b", "7g.80gb", at=1, runs=5),
            job("c", "3g.40gb", at=2, runs=1),
        ],
        ONE_GPU,
        loss=True,
    )
    assert starts(course) == {"a": 0.0, "b": None, "c": 2.0}
    lost = course.outcomes[1].why
    assert lost is not None
    assert lost.code is WaitingCode.NO_ROOM
    assert course.longest_queue == 0
    assert course.mean is not None
    assert course.mean.utilisation == pytest.approx((10 * 4 + 1 * 4) / (10 * 8))


@pytest.mark.parametrize("loss", [True, False])
def test_what_ends_makes_room_for_what_arrives_at_the_same_instant(loss: bool) -> None:
    jobs = [job("a", "7g.80gb", at=0, runs=10), job("b", "7g.80gb", at=10, runs=1)]
    assert starts(played(jobs, ONE_GPU, loss=loss)) == {"a": 0.0, "b": 10.0}


def test_pods_that_arrive_together_are_one_batch_the_higher_priority_first() -> None:
    jobs = [
        job("first", "7g.80gb", at=0, runs=2),
        job("second", "7g.80gb", at=0, runs=2, priority=10),
        job("third", "7g.80gb", at=0, runs=2),
    ]
    assert starts(played(jobs, ONE_GPU)) == {"second": 0.0, "first": 2.0, "third": 4.0}
    assert starts(played(jobs, ONE_GPU, loss=True)) == {"second": 0.0, "first": None, "third": None}


def test_a_younger_small_pod_may_go_before_an_older_big_one() -> None:
    jobs = [
        job("runs", "4g.40gb", at=0, runs=10),
        job("big", "7g.80gb", at=1, runs=1),
        job("small", "1g.10gb", at=2, runs=3),
    ]
    assert starts(played(jobs, ONE_GPU)) == {"runs": 0.0, "big": 10.0, "small": 2.0}


def test_an_idle_slice_is_used_again_and_another_profile_costs_a_destroy() -> None:
    course = played(
        [
            job("a", "3g.40gb", at=0, runs=1),
            job("b", "3g.40gb", at=2, runs=1),
            job("c", "7g.80gb", at=4, runs=1),
        ],
        ONE_GPU,
    )
    assert (course.created, course.destroyed) == (2, 1)


def test_pods_ask_for_several_slices_across_the_gpus_of_a_node() -> None:
    nodes = [node("gpu-1", [h100(), h100()])]
    jobs = [job("both", {"7g.80gb": 2}, at=0, runs=5), job("next", {"1g.10gb": 2}, at=1, runs=1)]
    course = played(jobs, nodes)
    assert starts(course) == {"both": 0.0, "next": 5.0}


@pytest.mark.parametrize(
    ("asks", "code"),
    [
        ("9g.90gb", WaitingCode.NO_SUCH_PROFILE),
        ({"7g.80gb": 2}, WaitingCode.ABSURD_COUNT),
        ({"7g.80gb": 1, "1g.10gb": 1}, WaitingCode.NEVER_FITS),
    ],
)
def test_a_pod_that_can_never_run_leaves_the_queue_with_its_reason(
    asks: str | dict[str, int], code: WaitingCode
) -> None:
    jobs = [job("never", asks, at=0, runs=1), job("a", "7g.80gb", at=0, runs=3), job("b", "7g.80gb", at=1, runs=1)]
    course = played(jobs, ONE_GPU)
    assert starts(course) == {"never": None, "a": 0.0, "b": 3.0}
    (why,) = (each.why for each in course.outcomes if each.started is None)
    assert why is not None
    assert why.code is code
    assert course.longest_queue == 1


@pytest.mark.parametrize(
    ("loss", "asks", "code"),
    [(False, {"7g.80gb": 2}, WaitingCode.ABSURD_COUNT), (True, {"7g.80gb": 1}, WaitingCode.NO_ROOM)],
    ids=["can never run", "gone at once"],
)
def test_of_pods_that_arrive_together_and_leave_again_each_is_told_why(
    loss: bool, asks: dict[str, int], code: WaitingCode
) -> None:
    first = job("first", "7g.80gb", at=0, runs=10)
    course = played([first, *(job(f"late-{each}", asks, at=1, runs=1) for each in range(5))], ONE_GPU, loss=loss)
    assert [each.why.code if each.why else None for each in course.outcomes] == [None, *[code] * 5]


def test_a_pod_behind_one_of_the_cluster_that_never_ends_is_left_waiting() -> None:
    nodes = [node("gpu-1", [h100(slices={"4g.40gb@0": "ml/server"})])]
    course = played([job("big", "7g.80gb", at=0, runs=1), job("half", "3g.40gb", at=1, runs=1)], nodes)
    assert starts(course) == {"big": None, "half": 1.0}
    assert course.outcomes[0].why is None


def test_the_warm_up_is_in_no_count_but_is_simulated() -> None:
    jobs = [job(f"p{number}", "7g.80gb", at=10 * number, runs=5) for number in range(5)]
    course = played(jobs, ONE_GPU, warmup=0.4)
    assert (course.counted, course.started, course.created) == (2, 3, 0)  # the slice is there from the first pod
    assert course.mean is not None
    assert (course.mean.start, course.mean.end) == (20.0, 45.0)
    assert course.mean.utilisation == pytest.approx(15 / 25)


def test_a_steady_workload_is_measured_until_its_last_arrival() -> None:
    jobs = [job("a", "7g.80gb", at=0, runs=10), job("b", "1g.10gb", at=20, runs=100)]
    course = played(jobs, ONE_GPU, steady=True)
    assert course.mean is not None
    assert (course.mean.end, course.ended) == (20.0, 120.0)
    assert course.mean.utilisation == pytest.approx(0.5)


class Listening(Judged):
    """The planner; writes down what it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[Snapshot] = []

    def plan(self, snapshot: Snapshot, policy: Policy) -> Plan:
        """The planner's answer."""
        self.asked.append(snapshot)
        return super().plan(snapshot, policy)


def test_the_planner_is_asked_in_virtual_time_and_once_an_instant() -> None:
    planner = Listening()
    jobs = [
        job("a", "7g.80gb", at=0, runs=10),
        job("b", "7g.80gb", at=3, runs=4),
        job("c", "7g.80gb", at=3, runs=4),
        job("d", "7g.80gb", at=14, runs=4),
    ]
    played(jobs, ONE_GPU, planner=planner)
    # a; b and c; a ends; b ends as d arrives; c ends. The end of d leaves nobody to plan for.
    assert [each.now for each in planner.asked] == [0.0, 3.0, 10.0, 14.0, 18.0]


def test_nodes_on_which_nothing_happened_are_the_same_objects_in_the_next_question() -> None:
    planner = Listening()
    nodes = [node("gpu-1", [h100()]), node("gpu-2", [h100()])]
    jobs = [job("a", "7g.80gb", at=0, runs=10), job("b", "1g.10gb", at=1, runs=2)]
    played(jobs, nodes, planner=planner)
    first, second = planner.asked
    same = [before is after for before, after in zip(first.nodes, second.nodes, strict=True)]
    assert sorted(same) == [False, True]
