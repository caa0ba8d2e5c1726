"""Many pods at once: as many as possible are served, and nobody is passed over for somebody behind."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdmo.model.cluster import PodInfo
from cdmo.model.gpu import PodKey
from cdmo.model.plan import Plan
from cdmo.model.policy import Policy
from cdmo.model.snapshot import MigNodeView, Snapshot
from cdmo.planner import in_order, plan
from tests.builders import NOW, h100, node, pod, snapshot
from tests.planner.expect import planned, published
from tests.planner.strategies import examples, snapshots

NO_WINDOWS = Policy(reserve_after=1e12)
EMPTY_H100 = [node("gpu-1", [h100()])]


def row(*asks: str) -> list[PodInfo]:
    """Pods p0, p1, … in this order, each a second younger than the one before."""
    return [pod(f"p{number}", each, created=NOW - 100 + number) for number, each in enumerate(asks)]


def served(answer: Plan) -> list[str]:
    return [each.pod.name for each in answer.placements]


def one_by_one(nodes: list[MigNodeView], pods: list[PodInfo]) -> Plan:
    """The last plan when the pods come one after another, each keeping what it got."""
    question = snapshot(nodes)
    answer = Plan()
    for number in range(len(pods)):
        question = replace(question, pending=tuple(pods[: number + 1]))
        answer = planned(question, NO_WINDOWS)
        question = published(question, answer)
    return answer


def test_the_largest_first_makes_room_where_one_by_one_does_not() -> None:
    pods = row("2g.20gb", "2g.20gb", "3g.40gb")
    assert served(one_by_one(EMPTY_H100, pods)) == ["p0", "p1"]
    assert served(planned(snapshot(EMPTY_H100, pods))) == ["p0", "p1", "p2"]


def test_nobody_ahead_is_passed_over_for_many_behind() -> None:
    pods = row("7g.80gb", *["1g.10gb"] * 7)
    assert served(planned(snapshot(EMPTY_H100, pods), NO_WINDOWS)) == ["p0"]


def test_priority_decides_who_is_ahead() -> None:
    pods = [*row(*["1g.10gb"] * 7), pod("urgent", "7g.80gb", priority=5)]
    assert served(planned(snapshot(EMPTY_H100, pods), NO_WINDOWS)) == ["urgent"]


def test_whoever_fits_beside_a_refused_one_is_served_though_behind() -> None:
    nodes = [node("gpu-1", [h100({"1g.10gb@6": "ml/x"})])]
    assert served(planned(snapshot(nodes, row("7g.80gb", "4g.40gb", "2g.20gb")), NO_WINDOWS)) == ["p1", "p2"]


def test_a_refused_pod_that_fits_with_those_ahead_of_it_drives_out_those_behind() -> None:
    # Served as they come, 4g.40gb finds slots 0 to 3 taken; with those ahead of it alone it has room.
    pods = row("1g.10gb", "1g.10gb", "1g.10gb", "4g.40gb", "3g.40gb")
    assert served(planned(snapshot(EMPTY_H100, pods), NO_WINDOWS)) == ["p0", "p1", "p2", "p3"]


def test_what_ends_only_when_everything_is_full_ends_at_seven_small_ones() -> None:
    answer = planned(snapshot(EMPTY_H100, row(*["1g.10gb"] * 9)), NO_WINDOWS)
    assert served(answer) == [f"p{number}" for number in range(7)]
    assert [each.pod.name for each in answer.waiting] == ["p7", "p8"]


def test_hundreds_of_pods_on_too_few_gpus_are_served_in_their_order() -> None:
    nodes = [node(f"gpu-{number}", [h100() for _ in range(8)]) for number in range(3)]
    pods = [pod(f"p{number:03}", "3g.40gb", created=number) for number in range(100)]
    assert served(planned(snapshot(nodes, pods), NO_WINDOWS)) == [f"p{number:03}" for number in range(48)]


@pytest.mark.parametrize("order", [("2g.20gb", "2g.20gb", "3g.40gb"), ("1g.10gb", "4g.40gb", "2g.20gb", "1g.20gb")])
def test_cpu_is_counted_once_however_often_places_are_tried(order: tuple[str, ...]) -> None:
    nodes = [node("gpu-1", [h100()], allocatable={"cpu": 2_000})]
    assert served(planned(snapshot(nodes, row(*order)), NO_WINDOWS)) == ["p0", "p1"]


def test_a_pod_tried_in_vain_does_not_keep_its_equals_from_the_node() -> None:
    pods = row("1g.10gb", "1g.10gb")
    answer = planned(snapshot(EMPTY_H100, pods, avoid=[("p0", "gpu-1")]))
    assert served(answer) == ["p1"]


def sort_of(of: PodInfo) -> str:
    """All that counts about a pod besides who it is and when it came."""
    return repr(replace(of, key=PodKey("", ""), created=0.0, priority=0))


@examples(60)
@given(snapshots(about_others=False), st.booleans())
def test_of_equal_pods_nobody_is_served_behind_one_that_is_refused(question: Snapshot, windows: bool) -> None:
    question = replace(question, assignments=(), avoid=frozenset())
    answer = plan(question, Policy() if windows else NO_WINDOWS)
    refused: set[str] = set()
    given_to = set(served(answer))
    for each in in_order(question.pending, Policy()):
        if each.key.name not in given_to:
            refused.add(sort_of(each))
        else:
            assert sort_of(each) not in refused
