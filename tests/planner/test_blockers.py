"""What stands in the way of a slice: named from the lowest slot up, each by what keeps it there."""

from __future__ import annotations

from tests.builders import BROKEN, IDLE, IN_USE, UNHEALTHY, Card, h100, node, pod, snapshot
from tests.planner.expect import planned, waits


def in_the_way_of(profile: str, *cards: Card) -> str:
    """The end of the sentence for a pod that asks for this on one node with these cards."""
    return waits(planned(snapshot([node("gpu-1", cards)], [pod("train", profile)])), "train")[1].partition(": ")[2]


def test_the_lowest_slot_is_named_first() -> None:
    card = h100({"1g.10gb@4": "ml/late", "1g.10gb@2": "ml/early", "1g.10gb@3": IN_USE})
    assert in_the_way_of("7g.80gb", card) == "1g.10gb of ml/early at slot 2 and 2 more are in the way"


def test_only_what_covers_the_slots_is_in_the_way() -> None:
    card = h100({"1g.10gb@0": "ml/a", "1g.10gb@1": "ml/b", "1g.10gb@5": "ml/c"})
    assert in_the_way_of("3g.40gb", card) == "1g.10gb of ml/c at slot 5 is in the way"


def test_idle_slices_are_not_in_the_way() -> None:
    card = h100({"1g.10gb@0": IDLE, "1g.10gb@1": "ml/b", "2g.20gb@4": IDLE})
    assert in_the_way_of("7g.80gb", card) == "1g.10gb of ml/b at slot 1 is in the way"


def test_a_process_without_a_pod_and_a_broken_slice_are_told_apart() -> None:
    assert in_the_way_of("7g.80gb", h100({"1g.10gb@1": IN_USE})) == "1g.10gb in use at slot 1 is in the way"
    assert in_the_way_of("7g.80gb", h100({"1g.10gb@1": BROKEN})) == "broken 1g.10gb at slot 1 is in the way"
    assert in_the_way_of("7g.80gb", h100({"1g.10gb@1": UNHEALTHY})) == "unhealthy 1g.10gb at slot 1 is in the way"


def test_a_slice_that_is_only_named_in_a_status_is_in_use() -> None:
    view = node("gpu-1", [h100({"1g.10gb@1": IDLE})])
    bound = [pod("old", "1g.10gb", on="gpu-1", devices={"1g.10gb": [view.gpus[0].slices[0].uuid]})]
    answer = planned(snapshot([view], [pod("train", "7g.80gb")], bound))
    assert waits(answer, "train")[1].endswith("1g.10gb in use at slot 1 is in the way")


def test_slices_that_this_plan_gives_are_named_with_their_pods() -> None:
    pods = [pod("a", "4g.40gb"), pod("b", "3g.40gb"), pod("c", "4g.40gb")]
    reason = waits(planned(snapshot([node("gpu-1", [h100()])], pods)), "c")[1]
    assert reason.endswith("4g.40gb planned for ml/a at slot 0 is in the way")


def test_the_card_with_the_fewest_slots_in_the_way_is_named() -> None:
    cards = [h100({"4g.40gb@0": "ml/a"}), h100({"1g.10gb@0": "ml/b"}), h100({"2g.20gb@0": "ml/c"})]
    assert in_the_way_of("7g.80gb", *cards) == "1g.10gb of ml/b at slot 0 is in the way"
