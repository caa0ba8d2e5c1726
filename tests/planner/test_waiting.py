"""Why a pod waits: each code with the sentence a person reads."""

from __future__ import annotations

from cdmo.model.cluster import Taint
from cdmo.model.gpu import MigMode
from cdmo.model.reasons import WaitingCode
from tests.builders import BUS, IDLE, assigned, h100, node, pod, rtx_pro_6000, snapshot
from tests.planner.expect import planned, waits


def test_the_slice_in_the_way_is_named() -> None:
    nodes = [
        node("gpu-1", [h100(slices={"1g.10gb@2": "ml/train-7", "3g.40gb@4": "ml/a"})]),
        node("gpu-2", [h100(slices={"2g.20gb@0": "ml/b", "3g.40gb@4": "ml/c"})]),
    ]
    assert waits(planned(snapshot(nodes, [pod("train", "4g.40gb")])), "train") == (
        WaitingCode.NO_ROOM,
        f"needs 4 free slots in a row; best is node gpu-1 GPU {BUS[0]}: "
        "1g.10gb of ml/train-7 at slot 2 is in the way",
    )


def test_further_slices_in_the_way_are_counted() -> None:
    nodes = [node("gpu-1", [h100(slices={f"1g.10gb@{slot}": f"ml/pod-{slot}" for slot in range(3)})])]
    assert waits(planned(snapshot(nodes, [pod("train", "7g.80gb")])), "train")[1] == (
        f"needs 8 free slots in a row; best is node gpu-1 GPU {BUS[0]}: "
        "1g.10gb of ml/pod-0 at slot 0 and 2 more are in the way"
    )


def test_one_slot_is_called_one_slot() -> None:
    nodes = [node("gpu-1", [h100(slices={"7g.80gb@0": "ml/old"})])]
    assert waits(planned(snapshot(nodes, [pod("train", "1g.10gb")])), "train")[1] == (
        f"needs 1 free slot; best is node gpu-1 GPU {BUS[0]}: 7g.80gb of ml/old at slot 0 is in the way"
    )


def test_a_slice_planned_for_a_pod_that_waits_too_is_named() -> None:
    nodes = [node("gpu-1", [h100(slices={"7g.80gb@0": IDLE})])]
    question = snapshot(
        nodes, [pod("a", "7g.80gb"), pod("b", "7g.80gb")], assignments=[assigned("b", "gpu-1", "7g.80gb@0")]
    )
    assert waits(planned(question), "a")[1].endswith("7g.80gb planned for ml/b at slot 0 is in the way")


def test_engines_in_the_way_are_told_from_slots() -> None:
    nodes = [node("gpu-1", [rtx_pro_6000(slices={"1g.24gb@9": "ml/old"})])]
    assert waits(planned(snapshot(nodes, [pod("video", "1g.24gb+me.all")])), "video")[1] == (
        f"needs 3 free slots in a row; best is node gpu-1 GPU {BUS[0]}: "
        "its other slices hold the compute slices or media engines it needs"
    )


def test_a_node_with_room_for_some_of_several_slices_is_named() -> None:
    nodes = [
        node("gpu-1", [h100(slices={"1g.10gb@5": "ml/a", "1g.10gb@0": "ml/b"})]),
        node("gpu-2", [h100(slices={"1g.10gb@5": "ml/c"})]),
    ]
    assert waits(planned(snapshot(nodes, [pod("train", {"3g.40gb": 2})])), "train") == (
        WaitingCode.NO_ROOM,
        "needs 2 nvidia.com/mig-3g.40gb on one node; best is node gpu-2 with room for 1 of nvidia.com/mig-3g.40gb; "
        f"on GPU {BUS[0]}: 1g.10gb of ml/c at slot 5 is in the way",
    )


def test_room_for_each_but_not_for_all_at_once_is_told() -> None:
    nodes = [node("gpu-1", [h100(slices={"3g.40gb@0": "ml/a"})])]
    assert waits(planned(snapshot(nodes, [pod("train", {"3g.40gb": 1, "1g.10gb": 1})])), "train")[1] == (
        "needs 1 nvidia.com/mig-1g.10gb and 1 nvidia.com/mig-3g.40gb on one node; "
        "best is node gpu-1 with room for each, but not for all at once"
    )


def test_a_profile_that_no_card_has_is_answered_with_those_that_exist() -> None:
    answer = planned(snapshot([node("gpu-1", [h100()])], [pod("train", "3g.39gb")]))
    code, sentence = waits(answer, "train")
    assert code is WaitingCode.NO_SUCH_PROFILE
    assert sentence.startswith(
        "no managed card can be cut into nvidia.com/mig-3g.39gb; cards here offer nvidia.com/mig-3g.40gb, "
    )
    assert len(sentence) <= 200 and sentence.endswith("…")


def test_cards_of_nodes_that_are_not_managed_offer_nothing() -> None:
    answer = planned(snapshot([node("gpu-1", [h100()], managed=False)], [pod("train", "1g.10gb")]))
    assert waits(answer, "train") == (
        WaitingCode.NO_SUCH_PROFILE,
        "no node with a MIG card is managed: label one with cdmo.clear.ml/gpu-partitioning=mig",
    )


def test_more_slices_than_any_node_could_hold() -> None:
    nodes = [node("gpu-1", [h100()]), node("gpu-2", [h100(), h100(problem="lost")])]
    pods = [pod("many", {"1g.10gb": 15}), pod("mad", {"1g.10gb": 2**62})]
    answer = planned(snapshot(nodes, pods))
    assert waits(answer, "many") == (
        WaitingCode.ABSURD_COUNT,
        "asks for 15 of nvidia.com/mig-1g.10gb; the most that one managed node could ever hold is 14",
    )
    assert waits(answer, "mad")[0] is WaitingCode.ABSURD_COUNT


def test_profiles_that_never_fit_one_node_together() -> None:
    answer = planned(snapshot([node("gpu-1", [h100()])] * 1, [pod("train", {"7g.80gb": 1, "1g.10gb": 1})]))
    assert waits(answer, "train") == (
        WaitingCode.NEVER_FITS,
        "asks for 1 nvidia.com/mig-1g.10gb and 1 nvidia.com/mig-7g.80gb: "
        "no managed node could hold that even with every GPU of it empty",
    )


def test_a_node_where_the_pod_may_not_run() -> None:
    nodes = [node("gpu-1", [h100()], taints=[Taint("dedicated", "vision", "NoSchedule")])]
    assert waits(planned(snapshot(nodes, [pod("train", "1g.10gb")])), "train") == (
        WaitingCode.NO_ELIGIBLE_NODE,
        "only node gpu-1 could hold it, but the pod cannot run there: "
        "the pod does not tolerate its taint dedicated=vision:NoSchedule",
    )


def test_several_nodes_where_the_pod_may_not_run() -> None:
    nodes = [node("gpu-2", [h100()], cordoned=True), node("gpu-1", [h100()], allocatable={"cpu": 500})]
    assert waits(planned(snapshot(nodes, [pod("train", "1g.10gb")])), "train") == (
        WaitingCode.NO_ELIGIBLE_NODE,
        "2 nodes could hold it, but the pod can run on none of them; node gpu-1: "
        "the pod asks for 1000m of cpu, 500m of cpu is left there",
    )


def test_cpu_that_other_pods_hold_is_room_that_comes_back() -> None:
    nodes = [node("gpu-1", [h100()])]
    bound = [pod("hog", on="gpu-1", requests={"cpu": 63_500})]
    assert waits(planned(snapshot(nodes, [pod("train", "1g.10gb")], bound)), "train") == (
        WaitingCode.NO_ROOM,
        "best is node gpu-1: the pod asks for 1000m of cpu, 500m of cpu is left there",
    )


def test_a_node_whose_agent_is_silent() -> None:
    answer = planned(snapshot([node("gpu-1", [h100()], alive=False)], [pod("train", "1g.10gb")]))
    assert waits(answer, "train") == (
        WaitingCode.NODE_NOT_READY,
        "only node gpu-1 could hold it: its CDMO agent is silent",
    )


def test_nodes_that_are_being_repaired() -> None:
    nodes = [
        node("gpu-1", [h100()], problem="the device plugin did not come back"),
        node("gpu-2", [h100()], ready=False),
    ]
    assert waits(planned(snapshot(nodes, [pod("train", "1g.10gb")])), "train") == (
        WaitingCode.NODE_NOT_READY,
        "2 nodes could hold it, none is ready; node gpu-1: the device plugin did not come back",
    )


def test_a_card_whose_mig_mode_is_not_enabled() -> None:
    nodes = [node("gpu-1", [h100(mig_mode=MigMode.ENABLE_PENDING)])]
    assert waits(planned(snapshot(nodes, [pod("train", "1g.10gb")])), "train") == (
        WaitingCode.NODE_NOT_READY,
        f"only node gpu-1 could hold it: GPU {BUS[0]} is out of planning: its MIG mode is EnablePending",
    )


def test_a_pod_that_was_tried_in_vain() -> None:
    nodes = [node("gpu-1", [h100(slices={"1g.10gb@6": IDLE})])]
    assert waits(planned(snapshot(nodes, [pod("train", "1g.10gb")], avoid=[("train", "gpu-1")])), "train") == (
        WaitingCode.TRIED_IN_VAIN,
        "its slices were ready on node gpu-1, yet the scheduler refused it: left alone there for a while; "
        "see the pod's FailedScheduling event",
    )


def test_a_sentence_never_exceeds_200_characters() -> None:
    long = "n" * 63
    nodes = [node(f"{long}.{long}.{long}", [h100(slices={"7g.80gb@0": f"{long}/{'p' * 253}"})])]
    pods = [pod("a", "1g.10gb"), pod("b", {"1g.10gb": 2, "2g.20gb": 1}), pod("c", "9g." + "9" * 60 + "gb")]
    answer = planned(snapshot(nodes, pods))
    assert {len(each.reason) for each in answer.waiting} == {200}
    assert waits(answer, "a")[1].endswith("… is in the way")
