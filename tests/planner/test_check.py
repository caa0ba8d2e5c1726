"""Each kind of broken plan is caught: a good plan is spoiled in one way, and the sentence names the way."""

from __future__ import annotations

from dataclasses import replace

import pytest
from msgspec import structs

from cdmo.model.cluster import Taint
from cdmo.model.gpu import Placement
from cdmo.model.plan import GpuChange, Plan, Waiting
from cdmo.model.policy import Policy
from cdmo.model.reasons import WaitingCode
from cdmo.model.snapshot import Assignment, MigNodeView, SliceChoice, Snapshot
from cdmo.planner import plan
from cdmo.planner.check import violations
from tests.builders import BROKEN, BUS, IDLE, assigned, at, h100, key, node, pod, snapshot

GPU = f"node gpu-1 GPU {BUS[0]}"


def change(*layout: str, create: tuple[str, ...] = (), destroy: tuple[str, ...] = (), on: str = "gpu-1") -> GpuChange:
    """A change of GPU 0, its parts in ascending order."""
    parts = (tuple(sorted(at(each) for each in names)) for names in (layout, create, destroy))
    return GpuChange(on, BUS[0], *parts)


def single(*slices: str, **parts: object) -> MigNodeView:
    """Node gpu-1 with one H100 that holds idle slices."""
    return node("gpu-1", [h100(slices=dict.fromkeys(slices, IDLE))], **parts)  # type: ignore[arg-type]


def broken(question: Snapshot, answer: Plan) -> list[str]:
    return [str(each) for each in violations(question, answer)]


@pytest.fixture
def question() -> Snapshot:
    """Pod ml/train asks for a 3g.40gb; GPU 0 of gpu-1 holds a slice in use and an idle one."""
    return snapshot(
        [node("gpu-1", [h100(slices={"1g.10gb@0": "ml/old", "1g.10gb@6": IDLE})])], [pod("train", "3g.40gb")]
    )


@pytest.fixture
def answer(question: Snapshot) -> Plan:
    """The plan for it: 3g.40gb at slot 4 in place of the idle slice."""
    good = plan(question, Policy())
    assert good.changes == (change("1g.10gb@0", "3g.40gb@4", create=("3g.40gb@4",), destroy=("1g.10gb@6",)),)
    assert violations(question, good) == ()
    return good


def test_a_pod_that_was_forgotten(question: Snapshot) -> None:
    assert broken(question, Plan()) == ["pod ml/train was not answered"]


def test_a_pod_that_was_answered_twice(question: Snapshot, answer: Plan) -> None:
    twice = replace(answer, waiting=(Waiting(key("train"), WaitingCode.NO_ROOM, "it waits"),))
    assert broken(question, twice) == ["pod ml/train was answered 2 times"]


def test_an_answer_to_nobody(question: Snapshot, answer: Plan) -> None:
    stray = replace(answer, waiting=(Waiting(key("stranger"), WaitingCode.NO_ROOM, "it waits"),))
    assert broken(question, stray) == ["pod ml/stranger was answered but is not pending"]


@pytest.mark.parametrize("length", [0, 201])
def test_a_reason_that_nobody_can_read(question: Snapshot, length: int) -> None:
    bad = Plan(waiting=(Waiting(key("train"), WaitingCode.NO_ROOM, "x" * length),))
    assert broken(question, bad) == [f"the reason of pod ml/train has {length} characters, allowed are 1 to 200"]


def test_a_slice_in_use_that_would_be_destroyed(question: Snapshot, answer: Plan) -> None:
    bad = replace(answer, changes=(change("3g.40gb@4", create=("3g.40gb@4",), destroy=("1g.10gb@0", "1g.10gb@6")),))
    assert broken(question, bad) == [
        f"{GPU}: profile 19 at slot 0 is held and would be destroyed",
        f"{GPU}: profile 19 at slot 0 is held and missing from the layout",
    ]


def test_a_broken_slice_that_would_be_destroyed() -> None:
    question = snapshot([node("gpu-1", [h100(slices={"1g.10gb@0": BROKEN})])])
    bad = Plan(changes=(change(destroy=("1g.10gb@0",)),))
    assert f"{GPU}: profile 19 at slot 0 is held and would be destroyed" in broken(question, bad)


def test_a_slice_in_use_that_a_former_plan_dropped_and_this_one_does_not_put_back() -> None:
    question = snapshot([node("gpu-1", [h100(slices={"1g.10gb@5": "ml/late"}, desired=["3g.40gb@4"])])])
    assert broken(question, Plan()) == [f"{GPU}: profile 19 at slot 5 is held and missing from the layout"]


def test_a_layout_that_overlaps() -> None:
    question = snapshot([single()])
    bad = Plan(changes=(change("3g.40gb@4", "1g.10gb@6", create=("3g.40gb@4", "1g.10gb@6")),))
    assert broken(question, bad) == [f"{GPU}: 1g.10gb at slot 6: its memory slots are taken"]


def test_a_layout_with_too_many_of_a_profile() -> None:
    bad = Plan(changes=(change("1g.10gb+me@4", "1g.10gb+me@6", create=("1g.10gb+me@4", "1g.10gb+me@6")),))
    assert broken(snapshot([single()]), bad) == [
        f"{GPU}: 1g.10gb+me at slot 6: the card holds at most 1 of this profile"
    ]


def test_a_placement_that_the_card_does_not_have() -> None:
    bad = Plan(changes=(GpuChange("gpu-1", BUS[0], (Placement(9, 2),), (Placement(9, 2),), ()),))
    assert broken(snapshot([single()]), bad) == [
        f"{GPU}: NVIDIA H100 80GB HBM3 has no placement of profile 9 at slot 2"
    ]


def test_steps_that_are_not_the_difference_between_layout_and_card() -> None:
    question = snapshot([single("1g.10gb@6")])
    bad = Plan(changes=(change("3g.40gb@0", "1g.10gb@6", destroy=("1g.10gb@6",)),))
    assert broken(question, bad) == [
        f"{GPU}: `create` is not what the layout adds to the GPU",
        f"{GPU}: `destroy` is not what the layout leaves out of the GPU",
    ]


def test_a_layout_out_of_order() -> None:
    good = change("3g.40gb@0", "1g.10gb@6", create=("3g.40gb@0",))
    bad = Plan(changes=(structs.replace(good, layout=good.layout[::-1]),))
    assert broken(snapshot([single("1g.10gb@6")]), bad) == [
        f"{GPU}: the layout is not ascending, or lists a placement twice"
    ]


def test_a_gpu_that_is_changed_twice_or_for_nothing() -> None:
    same = change("1g.10gb@6")
    assert broken(snapshot([single("1g.10gb@6")]), Plan(changes=(same, same))) == [
        f"{GPU} is changed into what was asked of it already",
        f"{GPU} is changed twice",
        f"{GPU} is changed into what was asked of it already",
    ]


@pytest.mark.parametrize(
    "view",
    [
        node("gpu-1", [h100()], managed=False),
        node("gpu-1", [h100()], alive=False),
        node("gpu-1", [h100()], problem="the plugin is stuck"),
        node("gpu-1", [h100(problem="lost")]),
        node("other", [h100()]),
    ],
)
def test_a_change_of_what_takes_no_part(view: MigNodeView) -> None:
    bad = Plan(changes=(change("3g.40gb@0", create=("3g.40gb@0",)),))
    assert broken(snapshot([view]), bad) == [f"{GPU} is changed but takes no part"]


def test_an_assignment_without_its_slice(question: Snapshot, answer: Plan) -> None:
    assert broken(question, replace(answer, changes=())) == [f"pod ml/train: {GPU} will have no profile 9 at slot 4"]


def test_one_slice_for_two_pods() -> None:
    question = snapshot([single("3g.40gb@0")], [pod("a", "3g.40gb"), pod("b", "3g.40gb")])
    bad = Plan(placements=(assigned("a", "gpu-1", "3g.40gb@0"), assigned("b", "gpu-1", "3g.40gb@0")))
    assert broken(question, bad) == [f"pod ml/b: {GPU} profile 9 at slot 0 was given to pod ml/a as well"]


def test_a_slice_that_another_pod_uses(question: Snapshot) -> None:
    mine = snapshot(question.nodes, [pod("train", "1g.10gb")])
    bad = Plan(placements=(assigned("train", "gpu-1", "1g.10gb@0"),))
    assert broken(mine, bad) == [f"pod ml/train: {GPU} profile 19 at slot 0 is held by another"]


@pytest.mark.parametrize("slices", [("1g.10gb@6",), ("3g.40gb@0", "1g.10gb@6"), ("3g.40gb@0", "3g.40gb@0")])
def test_slices_that_the_pod_did_not_ask_for(slices: tuple[str, ...]) -> None:
    question = snapshot([single("1g.10gb@6", "3g.40gb@0")], [pod("train", "3g.40gb")])
    bad = Plan(placements=(assigned("train", "gpu-1", *slices),))
    assert broken(question, bad) == ["pod ml/train was not given what it asks for"]


def test_a_node_or_a_gpu_that_takes_no_part_is_given() -> None:
    away = Plan(placements=(assigned("train", "gpu-9", "3g.40gb@0"),))
    question = snapshot([single("3g.40gb@0")], [pod("train", "3g.40gb")])
    assert broken(question, away) == ["pod ml/train is planned on node gpu-9, which takes no part"]
    elsewhere = Plan(
        placements=(Assignment(key("train"), "gpu-1", (SliceChoice(BUS[5], at("3g.40gb@0"), "reuse"),)),)
    )
    assert f"pod ml/train: node gpu-1 GPU {BUS[5]} takes no part" in broken(question, elsewhere)


@pytest.mark.parametrize(
    ("parts", "sentence"),
    [
        ({"cordoned": True}, "it is cordoned"),
        ({"taints": [Taint("a", "b", "NoExecute")]}, "the pod does not tolerate its taint a=b:NoExecute"),
        ({"ready": False}, "it is not ready"),
        ({"allocatable": {"cpu": 1}}, "the pod asks for 1000m of cpu, 1m of cpu is left there"),
    ],
)
def test_a_node_where_the_pod_may_not_run(parts: dict[str, object], sentence: str) -> None:
    question = snapshot([single("3g.40gb@0", **parts)], [pod("train", "3g.40gb")])
    bad = Plan(placements=(assigned("train", "gpu-1", "3g.40gb@0"),))
    assert broken(question, bad) == [f"pod ml/train is planned on node gpu-1: {sentence}"]


def test_cpu_that_is_promised_twice() -> None:
    question = snapshot(
        [single("3g.40gb@0", "3g.40gb@4", allocatable={"cpu": 1_500})], [pod("a", "3g.40gb"), pod("b", "3g.40gb")]
    )
    bad = Plan(placements=(assigned("a", "gpu-1", "3g.40gb@0"), assigned("b", "gpu-1", "3g.40gb@4")))
    assert broken(question, bad) == [
        "pod ml/b is planned on node gpu-1: the pod asks for 1000m of cpu, 500m of cpu is left there"
    ]


def test_a_node_where_the_pod_was_tried_in_vain() -> None:
    question = snapshot([single("3g.40gb@0")], [pod("train", "3g.40gb")], avoid=[("train", "gpu-1")])
    bad = Plan(placements=(assigned("train", "gpu-1", "3g.40gb@0"),))
    assert broken(question, bad) == ["pod ml/train is planned on node gpu-1, where it was tried in vain"]


def test_a_slice_that_a_bound_pod_is_about_to_take() -> None:
    bound = [pod("just-bound", "3g.40gb", on="gpu-1", phase="Pending")]
    question = snapshot([single("3g.40gb@0")], [pod("train", "3g.40gb")], bound)
    bad = Plan(placements=(assigned("train", "gpu-1", "3g.40gb@0"),))
    assert broken(question, bad) == ["node gpu-1: nvidia.com/mig-3g.40gb of bound pods was given to pods that wait"]


def test_an_idle_slice_that_a_bound_pod_may_take_is_destroyed() -> None:
    bound = [pod("just-bound", "1g.10gb", on="gpu-1", phase="Pending")]
    question = snapshot([single("1g.10gb@6", "1g.10gb@5")], (), bound)
    bad = Plan(changes=(change("1g.10gb@5", destroy=("1g.10gb@6",)),))
    assert broken(question, bad) == [f"{GPU}: profile 19 at slot 6 is destroyed though a bound pod may take it"]
