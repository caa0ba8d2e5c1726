"""Windows: room kept for the oldest pod that has waited for long, or smaller ones could keep it waiting for ever."""

from __future__ import annotations

import pytest

from cdmo.model.policy import Policy
from cdmo.model.relations import PodTerm, SpreadRule
from cdmo.model.selectors import Requirement
from cdmo.model.snapshot import MigNodeView
from tests.builders import BROKEN, BUS, IDLE, NOW, Card, PodParts, at, h100, node, pod, rtx_pro_6000, snapshot
from tests.planner.expect import layout, places, planned, published, waits

OLD = NOW - 400  # longer ago than the policy's 300 seconds
BUSY = node("gpu-1", [h100({"1g.10gb@0": "ml/x"})])
BIG = pod("big", "7g.80gb", created=OLD)


@pytest.mark.parametrize(("waited", "kept"), [(299.0, 0), (300.0, 1), (1e9, 1)])
def test_a_window_is_kept_after_the_policys_time_and_not_before(waited: float, kept: int) -> None:
    answer = planned(snapshot([BUSY], [pod("big", "7g.80gb", created=NOW - waited)]))
    assert len(answer.windows) == kept


def test_how_long_a_pod_has_to_wait_is_the_policys_to_say() -> None:
    question = snapshot([BUSY], [pod("big", "7g.80gb", created=NOW - 20)])
    assert planned(question, Policy(reserve_after=10)).windows
    assert not planned(question, Policy(reserve_after=30)).windows


def test_a_window_says_for_whom_it_is_where_it_lies_and_what_has_to_end() -> None:
    (window,) = planned(snapshot([BUSY], [BIG])).windows
    assert (window.pod, window.node) == (BIG.key, "gpu-1")
    assert window.places == ((BUS[0], at("7g.80gb@0")),)
    assert window.in_the_way == ((BUS[0], at("1g.10gb@0")),)


def test_a_window_lies_where_the_fewest_slots_are_busy() -> None:
    nodes = [
        node("gpu-1", [h100({"2g.20gb@0": "ml/a"})]),
        node("gpu-2", [h100({"3g.40gb@0": "ml/b"}), h100({"1g.10gb@3": "ml/c"})]),
    ]
    (window,) = planned(snapshot(nodes, [BIG])).windows
    assert (window.node, window.places[0][0]) == ("gpu-2", BUS[1])


@pytest.mark.parametrize(("first", "second", "where"), [(OLD, NOW, "gpu-1"), (NOW, OLD, "gpu-2")])
def test_of_windows_alike_the_one_is_kept_whose_last_pod_began_first(first: float, second: float, where: str) -> None:
    nodes = [node("gpu-1", [h100({"1g.10gb@0": "ml/a"})]), node("gpu-2", [h100({"1g.10gb@5": "ml/b"})])]
    bound = [
        pod("a", "1g.10gb", on="gpu-1", created=first),
        pod("b", "1g.10gb", on="gpu-2", created=second),
    ]
    assert planned(snapshot(nodes, [BIG], bound)).windows[0].node == where


def test_idle_slices_in_a_window_go_and_others_stay() -> None:
    nodes = [node("gpu-1", [h100({"1g.10gb@0": "ml/a", "2g.20gb@2": IDLE, "1g.10gb@5": IDLE})])]
    answer = planned(snapshot(nodes, [pod("half", "4g.40gb", created=OLD)]))
    assert layout(answer, "gpu-1") == {"1g.10gb@0", "1g.10gb@5"}


def test_nobody_younger_gets_a_place_in_a_window() -> None:
    answer = planned(snapshot([BUSY], [BIG, pod("small", "1g.10gb")]))
    assert answer.placements == ()
    assert waits(answer, "small")[1] == (
        f"needs 1 free slot; best is node gpu-1 GPU {BUS[0]}: "
        "the window kept for ml/big, which has waited for long, is in the way"
    )


def test_the_owner_of_a_window_reads_what_has_to_end() -> None:
    assert waits(planned(snapshot([BUSY], [BIG])), "big")[1] == (
        f"needs 1 nvidia.com/mig-7g.80gb; room is kept for it on node gpu-1 GPU {BUS[0]}: "
        "1g.10gb of ml/x at slot 0 is in the way"
    )


def test_whoever_comes_first_by_priority_or_age_gets_its_place_before_a_window_is_kept() -> None:
    pods = [BIG, pod("urgent", "1g.10gb", priority=1), pod("older", "1g.10gb", created=OLD - 1)]
    answer = planned(snapshot([BUSY], pods))
    assert {each.pod.name for each in answer.placements} == {"urgent", "older"}
    assert answer.windows[0].pod == BIG.key


def test_younger_pods_get_their_places_beside_a_window() -> None:
    nodes = [node("gpu-1", [h100({"1g.10gb@0": "ml/x"}), h100({"4g.40gb@0": "ml/y", "2g.20gb@4": "ml/z"})])]
    answer = planned(snapshot(nodes, [BIG, pod("small", "1g.10gb")]))
    assert places(answer, "small") == ["gpu-1/1 1g.10gb@6 create"]


def test_one_window_is_kept_at_a_time() -> None:
    nodes = [BUSY, node("gpu-2", [h100({"1g.10gb@0": "ml/y"})])]
    answer = planned(snapshot(nodes, [BIG, pod("next", "7g.80gb", created=OLD + 1)]))
    assert [each.pod.name for each in answer.windows] == ["big"]


def test_the_smallest_request_needs_no_window() -> None:
    nodes = [node("gpu-1", [h100({"7g.80gb@0": "ml/x"})])]
    assert planned(snapshot(nodes, [pod("small", "1g.10gb", created=OLD)])).windows == ()


def test_several_slices_have_a_window_together() -> None:
    nodes = [node("gpu-1", [h100({"1g.10gb@0": "ml/x"}), h100({"7g.80gb@0": "ml/y"})])]
    answer = planned(snapshot(nodes, [pod("many", {"3g.40gb": 3}, created=OLD), pod("small", "1g.10gb")]))
    (window,) = answer.windows
    assert len(window.places) == 3
    assert {bus for bus, _ in window.in_the_way} == {BUS[0], BUS[1]}
    assert answer.placements == ()


@pytest.mark.parametrize(
    "nodes",
    [
        [node("gpu-1", [h100({"1g.10gb@0": "ml/x"})], cordoned=True)],
        [node("gpu-1", [h100({"1g.10gb@0": "ml/x"})], alive=False)],
        [node("gpu-1", [h100({"1g.10gb@0": "ml/x"})], allocatable={"cpu": 500})],
        [node("gpu-1", [h100({"1g.10gb@0": "ml/x"}, problem="lost")])],
    ],
    ids=["cordoned", "silent", "too small", "lost"],
)
def test_no_window_is_kept_where_the_pod_could_never_run(nodes: list[MigNodeView]) -> None:
    assert planned(snapshot(nodes, [BIG])).windows == ()


def test_no_window_is_kept_where_the_pod_was_tried_in_vain() -> None:
    nodes = [node("gpu-1", [h100({"1g.10gb@0": "ml/x"})]), node("gpu-2", [h100({"3g.40gb@0": "ml/y"})])]
    assert planned(snapshot(nodes, [BIG], avoid=[("big", "gpu-1")])).windows[0].node == "gpu-2"


def test_a_window_on_which_broken_slices_lie_is_not_worth_waiting_for() -> None:
    nodes = [node("gpu-1", [h100({"1g.10gb@0": BROKEN})]), node("gpu-2", [h100({"4g.40gb@0": "ml/x"})])]
    assert planned(snapshot(nodes, [BIG])).windows[0].node == "gpu-2"


@pytest.mark.parametrize("small", ["1g.24gb", "2g.48gb", "1g.24gb+gfx", "1g.24gb+me"])
def test_the_media_engines_of_a_window_are_kept_as_well_as_its_slots(small: str) -> None:
    nodes = [node("gpu-1", [rtx_pro_6000({"1g.24gb@9": "ml/x"})])]
    answer = planned(snapshot(nodes, [pod("video", "2g.48gb+me.all", created=OLD), pod("small", small)]))
    assert answer.windows[0].pod.name == "video"
    assert answer.placements == ()


# --- from one round to the next -----------------------------------------------------------------------------------


def two(first: Card, second: Card) -> list[MigNodeView]:
    return [node("gpu-1", [first]), node("gpu-2", [second])]


def window_after(nodes: list[MigNodeView], bound: dict[str, float]) -> str:
    """Where the window lies in the round after one that was published, with these cards now."""
    pods = [
        pod(name, "1g.10gb", on=each.node.name, created=created)
        for each in nodes
        for name, created in bound.items()
        if any(one.pod is not None and one.pod.name == name for gpu in each.gpus for one in gpu.slices)
    ]
    first = snapshot(nodes, [BIG], pods)
    (window,) = planned(published(first, planned(first))).windows
    return window.node


def test_a_window_stays_while_nothing_changes_and_moves_to_a_better_place_alone() -> None:
    ages = {"a": OLD, "b": OLD + 50, "c": OLD + 100}
    here = h100({"1g.10gb@0": "ml/b"})
    assert window_after(two(h100({"1g.10gb@0": "ml/a", "1g.10gb@1": "ml/c"}), here), ages) == "gpu-2"
    assert window_after(two(h100({"1g.10gb@1": "ml/c"}), here), ages) == "gpu-2"  # as many slots, younger: no better
    assert window_after(two(h100({"1g.10gb@0": "ml/a"}), here), ages) == "gpu-1"  # its last pod began earlier


def test_a_window_stays_when_a_younger_pod_that_keeps_its_owner_away_finds_a_place_elsewhere() -> None:
    web = (Requirement("app", "In", ("web",)),)
    nodes = [
        node("gpu-1", [h100({"1g.10gb@0": "ml/x"})], labels={"zone": "a"}),
        node("gpu-2", [h100({"4g.40gb@0": "ml/y"})], labels={"zone": "b"}),
    ]
    big = pod("big", "7g.80gb", created=OLD, labels=(("app", "web"),))
    lonely = pod("lonely", "1g.10gb", anti_affinity=(PodTerm("zone", web, ("ml",)),))
    question = snapshot(nodes, [big, lonely])
    first = planned(question)
    assert [each.pod.name for each in first.windows] == ["big"]
    second = planned(published(question, first))
    assert second.placements == first.placements
    assert second.windows == first.windows


@pytest.mark.parametrize(
    "parts",
    [
        {"spread": (SpreadRule(1, "zone", (Requirement("app", "In", ("web",)),)),)},
        {"anti_affinity": (PodTerm("host", (Requirement("app", "In", ("web",)),), ("ml",)),)},
    ],
    ids=["spread", "anti-affinity"],
)
def test_a_pod_whose_rules_about_others_are_met_is_not_kept_waiting_for_ever_either(parts: PodParts) -> None:
    nodes = [node("gpu-1", [h100({"1g.10gb@0": "ml/x"})], labels={"zone": "a", "host": "gpu-1"})]
    big = pod("big", "7g.80gb", created=OLD, **parts)
    answer = planned(snapshot(nodes, [big, pod("small", "1g.10gb")]))
    assert answer.windows[0].pod == big.key
    assert answer.placements == ()


def test_under_a_constant_stream_of_small_pods_a_big_one_runs_once_its_window_is_empty() -> None:
    running = {f"1g.10gb@{slot}": f"ml/s{slot}" for slot in range(7)}
    for ended in range(7):
        nodes = [node("gpu-1", [h100(dict(list(running.items())[ended:]))])]
        answer = planned(snapshot(nodes, [BIG, *(pod(f"new-{each}", "1g.10gb") for each in range(7))]))
        assert answer.placements == ()
    answer = planned(
        snapshot([node("gpu-1", [h100()])], [BIG, *(pod(f"new-{each}", "1g.10gb") for each in range(7))])
    )
    assert places(answer, "big") == ["gpu-1/0 7g.80gb@0 create"]
