"""What stands before anything is planned: who takes part, what is held, what bound pods are about to take."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from cdmo.model.cluster import PodInfo
from cdmo.model.gpu import MigMode
from cdmo.model.snapshot import MigNodeView
from cdmo.planner.placement import Layout, table_of
from cdmo.planner.standing import (
    bound_pods,
    device_ids,
    gpu_problem,
    held_placements,
    node_problem,
    outstanding,
    same_pod,
    standing,
    tables_of,
    unseen,
)
from tests.builders import BROKEN, IDLE, IN_USE, Card, at, card, h100, key, node, pod, resource

SMALL = resource("1g.10gb")
H100 = table_of(card("h100"))


def layout(*names: str) -> Layout:
    return frozenset(map(at, names))


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (key("a"), key("a"), True),
        (key("a", "1"), key("a", "2"), False),
        (key("a", "1"), key("a", ""), True),
        (key("a", ""), key("a", "2"), True),
        (key("a", ""), key("b", ""), False),
        (key("ml/a", ""), key("web/a", ""), False),
    ],
)
def test_keys_mean_one_pod_by_name_and_by_uid_where_both_have_one(one: object, other: object, same: bool) -> None:
    assert same_pod(one, other) is same  # type: ignore[arg-type]
    assert same_pod(other, one) is same  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("parts", "problem"),
    [
        ({}, ""),
        ({"managed": False}, "it is not managed by CDMO"),
        ({"alive": False}, "its CDMO agent is silent"),
        ({"problem": "stuck"}, "stuck"),
        ({"managed": False, "problem": "stuck"}, "it is not managed by CDMO"),
    ],
)
def test_a_node_takes_part_unless_it_says_why_not(parts: dict[str, object], problem: str) -> None:
    assert node_problem(node("gpu-1", [h100()], **parts)) == problem  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("one", "problem"),
    [
        (h100(), ""),
        (h100(problem="Xid 79"), "Xid 79"),
        (h100(healthy=False), "it is not healthy"),
        (h100(mig_mode=MigMode.DISABLE_PENDING), "its MIG mode is DisablePending"),
    ],
)
def test_a_gpu_takes_part_unless_it_says_why_not(one: Card, problem: str) -> None:
    view = node("gpu-1", [one])
    assert gpu_problem(tables_of(view), view.gpus[0]) == problem


def test_a_gpu_of_an_unknown_model_takes_no_part() -> None:
    view = node("gpu-1", [h100()])
    assert gpu_problem(tables_of(view), replace(view.gpus[0], model=1)) == "its model is not reported"


def test_what_is_in_use_broken_or_named_in_a_status_is_held() -> None:
    view = node("gpu-1", [h100({"1g.10gb@0": IDLE, "1g.10gb@1": IN_USE, "1g.10gb@2": BROKEN, "1g.10gb@3": IDLE})])
    named = device_ids([pod("old", "1g.10gb", on="gpu-1", devices={"1g.10gb": [view.gpus[0].slices[3].uuid]})])
    assert held_placements(view.gpus[0], named) == layout("1g.10gb@1", "1g.10gb@2", "1g.10gb@3")


def test_pods_that_are_over_are_not_on_the_node_any_more() -> None:
    runs, done = pod("runs", on="gpu-1"), pod("done", on="gpu-1", phase="Failed")
    assert bound_pods(replace(node("gpu-1"), pods=(done, runs))) == (runs,)


# --- slices that bound pods are about to take ---------------------------------------------------------------------


def missing(view: MigNodeView, *bound: PodInfo) -> Counter[str]:
    return unseen(view, tables_of(view), bound)


def test_a_pod_that_holds_all_that_it_asks_for_takes_nothing_more() -> None:
    view = node("gpu-1", [h100({"1g.10gb@0": "ml/old", "1g.10gb@1": "ml/old"})])
    assert missing(view, pod("old", {"1g.10gb": 2}, on="gpu-1")) == {}
    assert missing(view, pod("old", {"1g.10gb": 3}, on="gpu-1")) == {SMALL: 1}


def test_a_pod_counts_by_its_status_before_the_agent_saw_it() -> None:
    view = node("gpu-1", [h100({"1g.10gb@0": IDLE, "1g.10gb@1": IDLE})])
    uuid = view.gpus[0].slices[0].uuid
    assert missing(view, pod("old", "1g.10gb", on="gpu-1", devices={"1g.10gb": [uuid]})) == {}
    assert missing(view, pod("old", "1g.10gb", on="gpu-1", devices={"1g.10gb": ["MIG-gone"]})) == {SMALL: 1}


def test_a_slice_of_a_pod_of_another_uid_is_not_its_own() -> None:
    view = node("gpu-1", [h100({"1g.10gb@0": "ml/old"})])
    assert missing(view, pod("old", "1g.10gb", on="gpu-1", uid="another")) == {SMALL: 1}


def test_no_more_is_outstanding_than_is_idle() -> None:
    view = node("gpu-1", [h100({"1g.10gb@0": IDLE, "1g.10gb@1": "ml/x"})])
    wanted = Counter({SMALL: 3, resource("3g.40gb"): 1})
    assert outstanding(view, tables_of(view), wanted, frozenset()) == {SMALL: 1}


# --- the layout to start from -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("observed", "firm", "base", "expected"),
    [
        (["1g.10gb@0"], [], ["1g.10gb@0"], ["1g.10gb@0"]),  # as it was asked for
        (["1g.10gb@0"], ["1g.10gb@0"], [], ["1g.10gb@0"]),  # held, though dropped
        (["1g.10gb@0"], [], [], ["1g.10gb@0"]),  # idle and asked for by nobody: adopted
        ([], [], ["3g.40gb@4"], ["3g.40gb@4"]),  # on its way
        (["1g.10gb@5"], [], ["3g.40gb@4"], ["3g.40gb@4"]),  # on its way, over an idle one
        (["1g.10gb@5"], ["1g.10gb@5"], ["3g.40gb@4"], ["1g.10gb@5"]),  # on its way, but something held is there
        (["1g.10gb@5", "1g.10gb@0"], [], ["3g.40gb@4"], ["1g.10gb@0", "3g.40gb@4"]),
        ([], [], ["4g.40gb@0", "3g.40gb@0"], ["4g.40gb@0"]),  # asked for what cannot be: the first of it stands
    ],
)
def test_what_was_asked_for_is_corrected_by_what_is_there(
    observed: list[str], firm: list[str], base: list[str], expected: list[str]
) -> None:
    assert standing(H100, layout(*observed), layout(*firm), layout(*base)) == layout(*expected)


def test_idle_slices_that_the_scheduler_cannot_reach_are_spoken_for() -> None:
    """A pod runs on a slice out of use: the scheduler counts the pod, the node no longer counts the slice."""
    view = node(
        "gpu-1", [h100({"1g.10gb@0": "ml/x", "1g.10gb@1": IDLE, "3g.40gb@4": IDLE})], out_of_reach={"1g.10gb": 1}
    )
    missing = unseen(view, tables_of(view), [])
    assert missing == {resource("1g.10gb"): 1}
    assert outstanding(view, tables_of(view), missing, frozenset()) == {resource("1g.10gb"): 1}


def test_there_may_be_more_out_of_reach_than_is_idle() -> None:
    view = node("gpu-1", [h100({"1g.10gb@0": "ml/x", "1g.10gb@2": "ml/y"})], out_of_reach={"1g.10gb": 2})
    missing = unseen(view, tables_of(view), [])
    assert outstanding(view, tables_of(view), missing, frozenset()) == {resource("1g.10gb"): 2}
