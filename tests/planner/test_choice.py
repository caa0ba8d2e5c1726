"""Where a new pod's slices go: reuse before free slots before destroying idle slices, best fit among creates."""

from __future__ import annotations

from cdmo.model.gpu import MigMode
from cdmo.model.plan import Plan
from cdmo.model.reasons import WaitingCode
from tests.builders import IDLE, a30, at, h100, node, pod, rtx_pro_6000, snapshot
from tests.planner.expect import assignment, change, layout, places, planned, waits


def test_an_idle_slice_is_reused_and_nothing_is_changed() -> None:
    nodes = [node("gpu-1", [h100()]), node("gpu-2", [h100(slices={"3g.40gb@4": IDLE})])]
    answer = planned(snapshot(nodes, [pod("train", "3g.40gb")]))
    assert places(answer, "train") == ["gpu-2/0 3g.40gb@4 reuse"]
    assert answer.changes == ()


def test_a_slice_on_its_way_for_nobody_is_given_before_another_is_created() -> None:
    nodes = [node("gpu-1", [h100(), h100(desired=["3g.40gb@4"])])]
    answer = planned(snapshot(nodes, [pod("train", "3g.40gb")]))
    assert places(answer, "train") == ["gpu-1/1 3g.40gb@4 reuse"]
    assert answer.changes == ()


def test_a_slice_that_exists_is_given_before_one_on_its_way() -> None:
    nodes = [node("gpu-1", [h100(desired=["3g.40gb@4"]), h100(slices={"3g.40gb@4": IDLE})])]
    assert places(planned(snapshot(nodes, [pod("train", "3g.40gb")])), "train") == ["gpu-1/1 3g.40gb@4 reuse"]


def test_free_slots_are_used_before_an_idle_slice_is_destroyed() -> None:
    nodes = [node("gpu-1", [h100(slices={"2g.20gb@0": IDLE, "1g.10gb@6": "ml/old"})]), node("gpu-2", [h100()])]
    answer = planned(snapshot(nodes, [pod("train", "4g.40gb")]))
    assert places(answer, "train") == ["gpu-2/0 4g.40gb@0 create"]


def test_an_idle_slice_gives_way_when_nothing_else_is_left() -> None:
    nodes = [node("gpu-1", [h100(slices={"2g.20gb@0": IDLE, "1g.10gb@4": "ml/old"})])]
    answer = planned(snapshot(nodes, [pod("train", "4g.40gb")]))
    assert places(answer, "train") == ["gpu-1/0 4g.40gb@0 create"]
    assert change(answer, "gpu-1").destroy == (at("2g.20gb@0"),)
    assert change(answer, "gpu-1").create == (at("4g.40gb@0"),)
    assert layout(answer, "gpu-1") == {"4g.40gb@0", "1g.10gb@4"}


def test_the_fewest_slots_of_idle_slices_are_destroyed() -> None:
    nodes = [
        node("gpu-1", [h100(slices={"3g.40gb@0": "ml/a", "3g.40gb@4": IDLE})]),
        node("gpu-2", [h100(slices={"3g.40gb@0": "ml/b", "1g.10gb@5": IDLE})]),
    ]
    answer = planned(snapshot(nodes, [pod("train", {"3g.40gb": 1}), pod("other", "3g.40gb", created=1)]))
    assert places(answer, "other") == ["gpu-1/0 3g.40gb@4 reuse"]
    assert places(answer, "train") == ["gpu-2/0 3g.40gb@4 create"]


def test_a_slice_that_is_in_use_is_never_destroyed() -> None:
    nodes = [node("gpu-1", [h100(slices={"1g.10gb@3": "ml/old"})])]
    answer = planned(snapshot(nodes, [pod("train", "7g.80gb")]))
    assert (answer.placements, answer.changes) == ((), ())


def test_small_slices_fill_the_card_that_is_nearly_full() -> None:
    nodes = [node("gpu-1", [h100(), h100(slices={"4g.40gb@0": "ml/a", "2g.20gb@4": "ml/b"})])]
    assert places(planned(snapshot(nodes, [pod("train", "1g.10gb")])), "train") == ["gpu-1/1 1g.10gb@6 create"]


def test_a_small_slice_on_an_empty_card_keeps_the_low_window_whole() -> None:
    answer = planned(snapshot([node("gpu-1", [h100()])], [pod("train", "1g.10gb"), pod("big", "4g.40gb", created=1)]))
    assert places(answer, "train") == ["gpu-1/0 1g.10gb@6 create"]
    assert places(answer, "big") == ["gpu-1/0 4g.40gb@0 create"]


def test_equal_nodes_and_gpus_are_taken_in_the_order_of_their_names() -> None:
    nodes = [node("gpu-2", [h100(), h100()]), node("gpu-1", [h100(), h100()])]
    assert assignment(planned(snapshot(nodes, [pod("train", "7g.80gb")])), "train").node == "gpu-1"


def test_several_profiles_and_counts_lie_on_one_node() -> None:
    nodes = [node("gpu-1", [h100()]), node("gpu-2", [h100(), h100(slices={"1g.10gb@6": IDLE})])]
    answer = planned(snapshot(nodes, [pod("train", {"3g.40gb": 2, "1g.10gb": 2, "4g.40gb": 1})]))
    found = assignment(answer, "train")
    assert found.node == "gpu-2" and len(found.slices) == 5


def test_the_search_goes_back_when_the_cheapest_option_blocks_the_rest() -> None:
    # The idle 1g.10gb is the cheapest for the small slice, but the only window for 3g.40gb lies over it.
    nodes = [
        node(
            "gpu-1",
            [
                h100(slices={"4g.40gb@0": "ml/a", "1g.10gb@5": IDLE}),
                h100(slices={"4g.40gb@0": "ml/b", "2g.20gb@4": "ml/c"}),
            ],
        )
    ]
    answer = planned(snapshot(nodes, [pod("train", {"3g.40gb": 1, "1g.10gb": 1})]))
    assert places(answer, "train") == ["gpu-1/0 3g.40gb@4 create", "gpu-1/1 1g.10gb@6 create"]


def test_an_idle_slice_elsewhere_on_the_card_gives_way_for_its_media_engines() -> None:
    nodes = [node("gpu-1", [rtx_pro_6000(slices={"1g.24gb@0": IDLE, "2g.48gb-me@6": "ml/a"})])]
    answer = planned(snapshot(nodes, [pod("video", "1g.24gb+me.all")]))
    assert places(answer, "video", "rtx_pro_6000") == ["gpu-1/0 1g.24gb+me.all@3 create"]
    assert change(answer, "gpu-1").destroy == (at("1g.24gb@0", "rtx_pro_6000"),)


def test_a_card_whose_mig_mode_is_off_or_that_is_unwell_takes_no_part() -> None:
    gpus = [h100(mig_mode=MigMode.DISABLED), h100(problem="Xid 79: the GPU fell off the bus"), h100()]
    assert places(planned(snapshot([node("gpu-1", gpus)], [pod("train", "7g.80gb")])), "train") == [
        "gpu-1/2 7g.80gb@0 create"
    ]


def test_cards_of_one_node_may_differ() -> None:
    nodes = [node("gpu-1", [h100(), a30()])]
    answer = planned(snapshot(nodes, [pod("train", "2g.12gb"), pod("other", "2g.20gb")]))
    assert places(answer, "train", "a30") == ["gpu-1/1 2g.12gb@0 create"]
    assert places(answer, "other") == ["gpu-1/0 2g.20gb@4 create"]


def test_priority_goes_before_age_and_age_before_name() -> None:
    nodes = [node("gpu-1", [h100()])]
    pods = [
        pod("a", "7g.80gb", created=30),
        pod("b", "7g.80gb", created=10),
        pod("c", "7g.80gb", created=20, priority=1),
        pod("d", "7g.80gb", created=10),
    ]
    answer = planned(snapshot(nodes, pods))
    assert [each.pod.name for each in answer.placements] == ["c"]
    assert [each.pod.name for each in answer.waiting] == ["b", "d", "a"]


def test_cpu_planned_for_one_pod_is_not_planned_for_another() -> None:
    nodes = [node("gpu-1", [h100()], allocatable={"cpu": 1_500})]
    answer = planned(snapshot(nodes, [pod("a", "1g.10gb", created=1), pod("b", "1g.10gb", created=2)]))
    assert [each.pod.name for each in answer.placements] == ["a"]


def test_pods_without_slices_gated_pods_and_pods_of_other_schedulers_are_not_answered() -> None:
    pods = [
        pod("plain"),
        pod("gated", "1g.10gb", gated=True),
        pod("other", "1g.10gb", scheduler="volcano"),
        pod("gone", "1g.10gb", terminating=True),
    ]
    answer = planned(snapshot([node("gpu-1", [h100()])], pods))
    assert answer == Plan()


def test_a_hopeless_search_ends_and_is_told_from_a_demand_that_never_fits() -> None:
    halves = [
        h100(slices={"3g.40gb@4": "ml/a"}),
        h100(slices={"1g.10gb@6": "ml/b"}),
        h100(slices={"1g.10gb@0": "ml/c"}),
    ]
    nodes = [node(f"gpu-{number}", [*halves, *[h100()] * 5]) for number in range(20)]
    answer = planned(snapshot(nodes, [pod("train", {"3g.40gb": 9, "2g.20gb": 14})]))
    assert [each.code for each in answer.waiting] == [WaitingCode.NO_ROOM]


def test_where_the_scheduler_reaches_no_idle_slice_another_is_cut() -> None:
    """One of two idle slices makes up for the one that a pod holds and that the node does not count any more."""
    sick = h100({"1g.10gb@0": "ml/x", "1g.10gb@1": IDLE, "1g.10gb@2": IDLE})
    nodes = [node("gpu-1", [sick], out_of_reach={"1g.10gb": 1})]
    answer = planned(snapshot(nodes, [pod("one", "1g.10gb"), pod("two", "1g.10gb")]))
    actions = sorted(text.rpartition(" ")[2] for name in ("one", "two") for text in places(answer, name))
    assert actions == ["create", "reuse"]


def test_a_profile_is_not_cut_where_the_scheduler_would_not_reach_it() -> None:
    sick, well = h100({"3g.40gb@0": "ml/x"}), h100({"4g.40gb@0": "ml/y"})
    nodes = [node("gpu-1", [sick], out_of_reach={"3g.40gb": 1}), node("gpu-2", [well])]
    answer = planned(snapshot(nodes, [pod("a", "3g.40gb"), pod("b", "3g.40gb")]))
    assert places(answer, "a") == ["gpu-2/0 3g.40gb@4 create"]
    assert places(planned(snapshot(nodes[:1], [pod("a", "2g.20gb")])), "a")[0].endswith(" create")
    code, reason = waits(answer, "b")
    assert code == "NoRoom"
    assert "3g.40gb of ml/x at slot 0 is in the way" in reason
