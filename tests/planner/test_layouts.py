"""What stands in a layout: slices in use, broken, about to be taken, on their way, made by hand."""

from __future__ import annotations

from dataclasses import replace

from msgspec import structs

from cdmo.model.gpu import Placement
from tests.builders import BROKEN, BUS, IDLE, IN_USE, UNHEALTHY, assigned, at, h100, node, pod, snapshot
from tests.planner.expect import change, layout, places, planned, waits


def test_a_gpu_that_is_as_it_was_asked_to_be_is_not_changed() -> None:
    slices = {"1g.10gb@6": IDLE, "3g.40gb@0": "ml/old"}
    nodes = [node("gpu-1", [h100(slices=slices), h100(slices=slices, desired=slices), h100(desired=[])])]
    assert planned(snapshot(nodes)).changes == ()


def test_a_slice_that_came_into_use_is_put_back_into_the_layout_that_dropped_it() -> None:
    nodes = [node("gpu-1", [h100(slices={"1g.10gb@5": "ml/late"}, desired=["3g.40gb@4"])])]
    answer = planned(snapshot(nodes))
    assert layout(answer, "gpu-1") == {"1g.10gb@5"}
    assert change(answer, "gpu-1").create == change(answer, "gpu-1").destroy == ()


def test_an_unhealthy_slice_is_left_to_the_agent_and_not_given_to_anybody() -> None:
    nodes = [node("gpu-1", [h100(slices={"3g.40gb@0": UNHEALTHY})])]
    answer = planned(snapshot(nodes, [pod("train", "3g.40gb"), pod("other", "4g.40gb")]))
    assert places(answer, "train") == ["gpu-1/0 3g.40gb@4 create"]
    assert layout(answer, "gpu-1") == {"3g.40gb@0", "3g.40gb@4"}
    assert waits(answer, "other")[1].endswith("unhealthy 3g.40gb at slot 0 is in the way")


def test_a_pod_that_was_promised_a_slice_is_planned_anew_when_the_slice_becomes_unhealthy() -> None:
    nodes = [node("gpu-1", [h100(slices={"1g.10gb@0": UNHEALTHY, "1g.10gb@1": IDLE})])]
    was = assigned("train", "gpu-1", "1g.10gb@0", action="reuse")
    answer = planned(snapshot(nodes, [pod("train", "1g.10gb")], assignments=[was]))
    assert places(answer, "train") == ["gpu-1/0 1g.10gb@1 reuse"]


def test_a_gpu_that_is_out_of_planning_is_named_to_whoever_waits_for_it() -> None:
    sick = h100(slices={"1g.10gb@0": IDLE}, problem="XID 95 (uncontained memory error): reset it")
    answer = planned(snapshot([node("gpu-1", [sick])], [pod("train", "1g.10gb")]))
    assert (answer.placements, answer.changes) == ((), ())
    assert waits(answer, "train")[1] == (
        f"only node gpu-1 could hold it: GPU {BUS[0]} is out of planning: XID 95 (uncontained memory error): reset it"
    )


def test_a_broken_slice_is_kept_and_not_given_to_anybody() -> None:
    nodes = [node("gpu-1", [h100(slices={"4g.40gb@0": BROKEN})])]
    answer = planned(snapshot(nodes, [pod("train", "4g.40gb"), pod("other", "3g.40gb")]))
    assert layout(answer, "gpu-1") == {"4g.40gb@0", "3g.40gb@4"}
    assert waits(answer, "train")[1] == (
        f"needs 4 free slots in a row; best is node gpu-1 GPU {BUS[0]}: broken 4g.40gb at slot 0 is in the way"
    )


def test_a_slice_used_by_a_process_without_a_pod_is_kept() -> None:
    answer = planned(snapshot([node("gpu-1", [h100(slices={"7g.80gb@0": IN_USE})])], [pod("train", "1g.10gb")]))
    assert answer.changes == ()
    assert waits(answer, "train")[1].endswith("7g.80gb in use at slot 0 is in the way")


def test_an_idle_slice_made_by_hand_is_adopted() -> None:
    nodes = [node("gpu-1", [h100(slices={"1g.10gb@6": IDLE, "2g.20gb@0": IDLE}, desired=["2g.20gb@0"])])]
    answer = planned(snapshot(nodes, [pod("train", "1g.10gb")]))
    assert places(answer, "train") == ["gpu-1/0 1g.10gb@6 reuse"]
    assert layout(answer, "gpu-1") == {"1g.10gb@6", "2g.20gb@0"}


def test_an_idle_slice_whose_slots_are_promised_is_being_destroyed_and_not_given_away() -> None:
    nodes = [node("gpu-1", [h100(slices={"1g.10gb@5": IDLE}, desired=["3g.40gb@4"])])]
    answer = planned(snapshot(nodes, [pod("train", "1g.10gb")]))
    assert places(answer, "train") == ["gpu-1/0 1g.10gb@3 create"]
    assert layout(answer, "gpu-1") == {"3g.40gb@4", "1g.10gb@3"}
    assert change(answer, "gpu-1").destroy == (at("1g.10gb@5"),)


def test_a_desired_placement_that_the_card_does_not_have_is_dropped() -> None:
    view = node("gpu-1", [h100(slices={"1g.10gb@6": IDLE})])
    view.desired[BUS[0]] = (Placement(9, 2), at("1g.10gb@6"))  # type: ignore[index]
    assert layout(planned(snapshot([view])), "gpu-1") == {"1g.10gb@6"}


def test_a_card_with_an_instance_that_its_table_does_not_list_is_left_alone() -> None:
    nodes = [node("gpu-1", [h100(slices={"1g.10gb@6": IDLE})])]
    lost = Placement(77, 0)
    gpu = nodes[0].gpus[0]
    view = replace(
        nodes[0], gpus=(replace(gpu, slices=(*gpu.slices, structs.replace(gpu.slices[0], placement=lost))),)
    )
    answer = planned(snapshot([view], [pod("train", "3g.40gb")]))
    assert (answer.placements, answer.changes) == ((), ())
    assert waits(answer, "train")[1] == (
        f"only node gpu-1 could hold it: GPU {BUS[0]} is out of planning: "
        "it holds an instance that its card's profile table does not list"
    )


def test_the_slice_that_a_bound_pod_will_take_is_not_given_to_another() -> None:
    nodes = [node("gpu-1", [h100(slices={"7g.80gb@0": IDLE})])]
    bound = [pod("just-bound", "7g.80gb", on="gpu-1", phase="Pending")]
    answer = planned(snapshot(nodes, [pod("train", "7g.80gb")], bound))
    assert answer.placements == ()
    assert waits(answer, "train")[1] == (
        f"needs 8 free slots in a row; best is node gpu-1 GPU {BUS[0]}: "
        "7g.80gb at slot 0 that a bound pod is about to take is in the way"
    )


def test_no_idle_slice_of_its_resource_is_destroyed_while_a_bound_pod_has_not_shown_which_it_took() -> None:
    # One of the two would be enough for the bound pod, but the kubelet chooses which.
    nodes = [node("gpu-1", [h100(slices={"1g.10gb@1": IDLE, "1g.10gb@5": IDLE})])]
    bound = [pod("just-bound", "1g.10gb", on="gpu-1", phase="Pending")]
    answer = planned(snapshot(nodes, [pod("train", "3g.40gb"), pod("small", "1g.10gb")], bound))
    assert waits(answer, "train")[0] == "NoRoom"
    assert places(answer, "small")[0].endswith("reuse")


def test_a_bound_pod_whose_slice_is_seen_in_use_takes_no_other() -> None:
    nodes = [node("gpu-1", [h100(slices={"1g.10gb@5": "ml/old", "1g.10gb@6": IDLE})])]
    answer = planned(snapshot(nodes, [pod("train", "1g.10gb")], [pod("old", "1g.10gb", on="gpu-1")]))
    assert places(answer, "train") == ["gpu-1/0 1g.10gb@6 reuse"]


def test_a_pod_made_anew_under_an_old_name_is_another_pod() -> None:
    nodes = [node("gpu-1", [h100(slices={"1g.10gb@5": "ml/old", "1g.10gb@6": IDLE})])]
    bound = [pod("old", "1g.10gb", on="gpu-1", uid="another", phase="Pending")]
    answer = planned(snapshot(nodes, [pod("train", "1g.10gb")], bound))
    assert places(answer, "train")[0].endswith("create")


def test_a_slice_named_in_a_pods_status_is_held_before_the_agent_says_so() -> None:
    nodes = [node("gpu-1", [h100(slices={"1g.10gb@5": IDLE, "1g.10gb@1": IDLE})])]
    bound = [pod("old", "1g.10gb", on="gpu-1", devices={"1g.10gb": ["MIG-gpu-1-0-19-5"]})]
    answer = planned(snapshot(nodes, [pod("train", "4g.40gb")], bound))
    assert layout(answer, "gpu-1") == {"1g.10gb@5", "4g.40gb@0"}


def test_a_finished_pod_takes_no_slice() -> None:
    nodes = [node("gpu-1", [h100(slices={"7g.80gb@0": IDLE})])]
    bound = [pod("done", "7g.80gb", on="gpu-1", phase="Succeeded")]
    assert places(planned(snapshot(nodes, [pod("train", "7g.80gb")], bound)), "train") == ["gpu-1/0 7g.80gb@0 reuse"]


def test_a_slice_on_its_way_gives_way_to_one_that_a_bound_pod_may_take() -> None:
    nodes = [node("gpu-1", [h100(slices={"1g.10gb@5": IDLE}, desired=["3g.40gb@4"])])]
    bound = [pod("just-bound", "1g.10gb", on="gpu-1", phase="Pending")]
    assert layout(planned(snapshot(nodes, (), bound)), "gpu-1") == {"1g.10gb@5"}


def test_nothing_is_changed_on_a_node_that_takes_no_part() -> None:
    gpu = h100(slices={"1g.10gb@5": "ml/late"}, desired=["3g.40gb@4"])
    nodes = [
        node("a", [gpu], managed=False),
        node("b", [gpu], alive=False),
        node("c", [gpu], problem="the device plugin is stuck"),
    ]
    assert planned(snapshot(nodes)).changes == ()


def test_a_slice_on_its_way_is_not_dropped_while_a_bound_pod_may_hold_it_already() -> None:
    # Pods and MigNodes are watched apart: the pod can be seen bound before its slice is seen at all.
    nodes = [node("gpu-1", [h100(desired=["3g.40gb@4"])])]
    bound = [pod("just-bound", "3g.40gb", on="gpu-1", phase="Pending")]
    answer = planned(snapshot(nodes, [pod("train", "7g.80gb")], bound))
    assert answer.changes == ()
    assert waits(answer, "train")[0] == "NoRoom"


def test_a_bound_pod_that_found_no_slice_does_not_take_one_from_a_pod_that_waits() -> None:
    given = assigned("train", "gpu-1", "1g.10gb@6")
    nodes = [node("gpu-1", [h100(desired=["1g.10gb@6"])])]
    bound = [pod("failing", "1g.10gb", on="gpu-1")]
    answer = planned(snapshot(nodes, [pod("train", "1g.10gb")], bound, [given]))
    assert answer.placements == (given,)
    assert answer.changes == ()
