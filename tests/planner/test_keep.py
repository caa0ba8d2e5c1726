"""Former assignments stay as long as they are possible, and are planned anew when they are not."""

from __future__ import annotations

from cdmo.model.cluster import Taint
from tests.builders import IDLE, assigned, at, h100, node, pod, snapshot
from tests.planner.expect import assignment, change, layout, places, planned


def test_an_assignment_comes_back_unchanged_while_its_slice_is_on_its_way() -> None:
    given = assigned("train", "gpu-2", "3g.40gb@0")
    nodes = [node("gpu-1", [h100(slices={"3g.40gb@4": IDLE})]), node("gpu-2", [h100(desired=["3g.40gb@0"])])]
    answer = planned(snapshot(nodes, [pod("train", "3g.40gb")], assignments=[given]))
    assert answer.placements == (given,)
    assert answer.changes == ()


def test_an_assignment_comes_back_unchanged_once_its_slice_exists() -> None:
    given = assigned("train", "gpu-1", "3g.40gb@0")
    nodes = [node("gpu-1", [h100(slices={"3g.40gb@0": IDLE}, desired=["3g.40gb@0"])])]
    assert planned(snapshot(nodes, [pod("train", "3g.40gb")], assignments=[given])).placements == (given,)


def test_an_assigned_slice_that_was_never_published_is_created_where_it_was_planned() -> None:
    given = assigned("train", "gpu-1", "3g.40gb@0")
    nodes = [node("gpu-1", [h100(slices={"1g.10gb@1": IDLE})])]
    answer = planned(snapshot(nodes, [pod("train", "3g.40gb")], assignments=[given]))
    assert answer.placements == (given,)
    assert layout(answer, "gpu-1") == {"3g.40gb@0"}


def test_an_assigned_slice_is_neither_destroyed_nor_given_to_a_pod_of_higher_priority() -> None:
    given = assigned("train", "gpu-1", "3g.40gb@0")
    nodes = [node("gpu-1", [h100(slices={"3g.40gb@0": IDLE})])]
    pods = [pod("train", "3g.40gb"), pod("urgent", "7g.80gb", priority=9), pod("also", "3g.40gb", priority=5)]
    answer = planned(snapshot(nodes, pods, assignments=[given]))
    assert assignment(answer, "train") == given
    assert places(answer, "also") == ["gpu-1/0 3g.40gb@4 create"]
    assert [each.pod.name for each in answer.waiting] == ["urgent"]


def test_an_assignment_whose_place_was_taken_is_planned_anew() -> None:
    given = assigned("train", "gpu-1", "3g.40gb@0")
    nodes = [node("gpu-1", [h100(slices={"1g.10gb@1": "ml/other"}, desired=["3g.40gb@0"])])]
    answer = planned(snapshot(nodes, [pod("train", "3g.40gb")], assignments=[given]))
    assert places(answer, "train") == ["gpu-1/0 3g.40gb@4 create"]


def test_a_pod_whose_slice_another_pod_took_gets_the_one_that_was_meant_for_that_pod() -> None:
    nodes = [node("gpu-1", [h100(slices={"1g.10gb@6": "ml/b", "1g.10gb@5": IDLE})])]
    given = [assigned("a", "gpu-1", "1g.10gb@6"), assigned("b", "gpu-1", "1g.10gb@5")]
    bound = [pod("b", "1g.10gb", on="gpu-1")]
    answer = planned(snapshot(nodes, [pod("a", "1g.10gb")], bound, given))
    assert places(answer, "a") == ["gpu-1/0 1g.10gb@5 reuse"]


def test_two_pods_and_two_slices_are_enough_whichever_slice_the_bound_one_takes() -> None:
    nodes = [node("gpu-1", [h100(slices={"1g.10gb@6": IDLE, "1g.10gb@5": IDLE})])]
    given = [assigned("a", "gpu-1", "1g.10gb@6"), assigned("b", "gpu-1", "1g.10gb@5")]
    bound = [pod("b", "1g.10gb", on="gpu-1", phase="Pending")]
    answer = planned(snapshot(nodes, [pod("a", "1g.10gb")], bound, given))
    assert answer.placements == (given[0],)
    assert answer.changes == ()


def test_an_assignment_gives_way_to_a_bound_pod_that_takes_the_only_slice() -> None:
    nodes = [node("gpu-1", [h100(slices={"1g.10gb@6": IDLE})])]
    bound = [pod("stranger", "1g.10gb", on="gpu-1", phase="Pending")]
    given = [assigned("a", "gpu-1", "1g.10gb@6")]
    answer = planned(snapshot(nodes, [pod("a", "1g.10gb")], bound, given))
    assert places(answer, "a") == ["gpu-1/0 1g.10gb@5 create"]


def test_the_assignment_of_a_pod_that_is_gone_is_dropped_and_its_slice_given_to_another() -> None:
    nodes = [node("gpu-1", [h100(desired=["3g.40gb@0"])])]
    answer = planned(snapshot(nodes, [pod("new", "3g.40gb")], assignments=[assigned("gone", "gpu-1", "3g.40gb@0")]))
    assert places(answer, "new") == ["gpu-1/0 3g.40gb@0 reuse"]


def test_an_assignment_is_not_for_a_pod_made_anew_under_the_same_name() -> None:
    nodes = [node("gpu-1", [h100()]), node("gpu-2", [h100()])]
    given = assigned("train", "gpu-2", "3g.40gb@0", uid="before")
    answer = planned(snapshot(nodes, [pod("train", "3g.40gb")], assignments=[given]))
    assert assignment(answer, "train").node == "gpu-1"


def test_an_assignment_that_is_not_what_the_pod_asks_for_is_planned_anew() -> None:
    given = assigned("train", "gpu-1", "3g.40gb@0")
    answer = planned(snapshot([node("gpu-1", [h100()])], [pod("train", {"1g.10gb": 2})], assignments=[given]))
    assert len(assignment(answer, "train").slices) == 2


def test_an_assignment_ends_where_the_pod_was_tried_in_vain() -> None:
    nodes = [node("gpu-1", [h100(slices={"3g.40gb@0": IDLE})]), node("gpu-2", [h100()])]
    given = assigned("train", "gpu-1", "3g.40gb@0")
    question = snapshot(nodes, [pod("train", "3g.40gb")], assignments=[given], avoid=[("train", "gpu-1")])
    assert assignment(planned(question), "train").node == "gpu-2"


def test_an_assignment_ends_with_its_node() -> None:
    given = assigned("train", "gpu-1", "3g.40gb@0")
    spare = node("gpu-2", [h100()])
    for lost in (
        node("other", [h100()], managed=False),
        node("gpu-1", [h100()], managed=False),
        node("gpu-1", [h100()], alive=False),
        node("gpu-1", [h100()], problem="the driver does not answer"),
        node("gpu-1", [h100()], ready=False),
        node("gpu-1", [h100()], taints=[Taint("upgrade", "", "NoSchedule")]),
        node("gpu-1", [h100()], allocatable={"cpu": 10}),
        node("gpu-1", [h100(problem="Xid 79: the GPU fell off the bus")]),
    ):
        answer = planned(snapshot([lost, spare], [pod("train", "3g.40gb")], assignments=[given]))
        assert assignment(answer, "train").node == "gpu-2"


def test_what_a_kept_assignment_has_to_create_does_not_destroy_what_another_keeps() -> None:
    nodes = [node("gpu-1", [h100(slices={"1g.10gb@1": IDLE, "1g.10gb@4": IDLE})])]
    given = [assigned("a", "gpu-1", "3g.40gb@0"), assigned("b", "gpu-1", "1g.10gb@1")]
    pods = [pod("a", "3g.40gb", priority=5), pod("b", "1g.10gb")]
    answer = planned(snapshot(nodes, pods, assignments=given))
    assert assignment(answer, "b") == given[1]
    assert places(answer, "a") == ["gpu-1/0 3g.40gb@4 create"]
    assert change(answer, "gpu-1").destroy == (at("1g.10gb@4"),)


def test_a_slice_that_went_out_of_the_schedulers_reach_is_not_kept_for_anybody() -> None:
    was = assigned("train", "gpu-1", "1g.10gb@1", action="reuse")
    sick = h100({"1g.10gb@0": "ml/x", "1g.10gb@1": IDLE})
    nodes = [node("gpu-1", [sick], out_of_reach={"1g.10gb": 1})]
    answer = planned(snapshot(nodes, [pod("train", "1g.10gb")], assignments=[was]))
    assert places(answer, "train")[0].endswith(" create")


def test_nothing_is_kept_where_the_scheduler_would_not_reach_it() -> None:
    was = assigned("train", "gpu-1", "1g.10gb@1")
    nodes = [node("gpu-1", [h100({"1g.10gb@0": "ml/x"})], out_of_reach={"1g.10gb": 1})]
    answer = planned(snapshot(nodes, [pod("train", "1g.10gb")], assignments=[was]))
    assert answer.placements == ()
