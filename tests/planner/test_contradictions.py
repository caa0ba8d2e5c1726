"""Snapshots that contradict themselves: a plan is made, breaks no rule, and serves whoever is not concerned."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace as changed

from cdmo.model.gpu import Gpu, Placement, Slice
from cdmo.model.plan import Plan
from cdmo.model.profile import GpuModel
from cdmo.model.snapshot import MigNodeView, SliceChoice, Snapshot
from cdmo.planner import plan
from cdmo.planner.check import violations
from tests.builders import BUS, IDLE, IN_USE, Card, a30, assigned, at, h100, node, pod, snapshot
from tests.planner.expect import POLICY, places, waits
from tests.planner.strategies import examples, snapshots

WELL = node("a-well", [h100()])


def answered(view: MigNodeView, *more: MigNodeView) -> Plan:
    """The plan for two pods, one of which finds its place on a node that nothing is wrong with."""
    question = snapshot([view, *more, WELL], [pod("big", "7g.80gb"), pod("small", "1g.10gb")])
    answer = plan(question, POLICY)
    assert violations(question, answer) == ()
    assert places(answer, "big") == ["a-well/0 7g.80gb@0 create"]
    return answer


def with_gpu(view: MigNodeView, **parts: object) -> MigNodeView:
    """The view with another GPU 0."""
    return replace(view, gpus=(replace(view.gpus[0], **parts), *view.gpus[1:]))  # type: ignore[arg-type]


def with_slices(*slices: Slice) -> MigNodeView:
    return with_gpu(node("odd", [h100()]), slices=slices)


def test_a_gpu_whose_slices_overlap_gets_no_slice_that_it_could_not_have() -> None:
    answered(with_slices(Slice(at("4g.40gb@0"), IN_USE, "MIG-1"), Slice(at("2g.20gb@2"), IN_USE, "MIG-2")))
    answered(with_slices(Slice(at("4g.40gb@0"), IDLE, "MIG-1"), Slice(at("2g.20gb@2"), IDLE, "MIG-2")))


def test_an_idle_slice_that_overlaps_one_in_use_is_given_to_nobody() -> None:
    answered(with_slices(Slice(at("7g.80gb@0"), IDLE, "MIG-1"), Slice(at("4g.40gb@0"), IN_USE, "MIG-2")))


def test_a_slice_that_is_listed_twice_is_one_slice() -> None:
    view = with_slices(Slice(at("1g.10gb@6"), IDLE, "MIG-1"), Slice(at("1g.10gb@6"), IN_USE, "MIG-1"))
    assert places(answered(view), "small") != ["odd/0 1g.10gb@6 reuse"]


def test_a_profile_that_the_card_does_not_have_ends_planning_on_that_gpu_alone() -> None:
    view = with_gpu(node("odd", [h100(), h100()]), slices=(Slice(Placement(99, 0), IDLE, "MIG-1"),))
    assert places(answered(view), "small") == ["odd/1 1g.10gb@6 create"]


@pytest.mark.parametrize("model", [1, -1, 2**40])
def test_a_gpu_of_a_model_that_its_node_does_not_report_takes_no_part(model: int) -> None:
    view = with_gpu(node("odd", [h100()]), model=model)
    assert waits(answered(view), "small")[0] == "NoRoom"


def once_each(answer: Plan, pods: int) -> None:
    """Every pod was answered, and no slice was given to two of them."""
    given_away = [(each.node, one.gpu, one.placement) for each in answer.placements for one in each.slices]
    assert len(given_away) == len(set(given_away))
    assert len(answer.placements) + len(answer.waiting) == pods


def test_of_gpus_with_one_bus_id_no_slice_is_given_twice() -> None:
    view = node("odd", [h100(), h100()])
    twice = replace(view, gpus=tuple(replace(each, pci_bus_id=BUS[0]) for each in view.gpus))
    question = snapshot([twice, WELL], [pod(f"p{number:02}", "1g.10gb") for number in range(20)])
    answer = plan(question, POLICY)
    once_each(answer, 20)
    assert violations(question, answer) == ()


@pytest.mark.parametrize("other", [h100(), a30()], ids=["alike", "another card"])
def test_of_nodes_with_one_name_no_slice_is_given_twice(other: Card) -> None:
    nodes = [node("odd", [h100()]), node("odd", [other]), WELL]
    once_each(plan(snapshot(nodes, [pod(f"p{number:02}", "1g.10gb") for number in range(20)]), POLICY), 20)


def test_a_pod_that_waits_twice_is_answered_once() -> None:
    question = snapshot([WELL], [pod("train", "1g.10gb"), pod("train", "3g.40gb"), pod("train", "1g.10gb")])
    answer = plan(question, POLICY)
    assert len(answer.placements) == 1
    assert answer.waiting == ()


def test_the_order_in_which_a_pod_is_listed_twice_does_not_matter() -> None:
    one, other = pod("train", "1g.10gb"), pod("train", "3g.40gb")
    assert plan(snapshot([WELL], [one, other]), POLICY) == plan(snapshot([WELL], [other, one]), POLICY)


def test_a_pod_that_is_pending_and_bound_at_once_is_planned_beside_itself() -> None:
    question = snapshot([WELL], [pod("train", "1g.10gb")], [pod("train", "1g.10gb", on="a-well")])
    answer = plan(question, POLICY)
    assert violations(question, answer) == ()


def test_a_pod_in_the_view_of_a_node_that_it_does_not_name_counts_there_once() -> None:
    view = replace(WELL, pods=(pod("lost", "1g.10gb", on="elsewhere"),) * 2)
    question = snapshot([view], [pod("train", "7g.80gb")])
    assert violations(question, plan(question, POLICY)) == ()


def test_one_slice_that_was_planned_for_two_pods_stays_with_the_first() -> None:
    former = [assigned("a", "a-well", "7g.80gb@0"), assigned("b", "a-well", "7g.80gb@0")]
    question = snapshot([WELL], [pod("b", "7g.80gb"), pod("a", "7g.80gb")], assignments=former)
    answer = plan(question, POLICY)
    assert [each.pod.name for each in answer.placements] == ["a"]
    assert violations(question, answer) == ()


def test_a_card_whose_table_makes_no_sense_offers_what_of_it_does() -> None:
    model = node("odd", [h100()]).models[0]
    small, rest = model.profiles[-2], model.profiles[:-2]
    mad = changed(model, profiles=(*rest, changed(small, starts=(0, 6, 7, 8, -1, 99)), changed(small, id=77, size=0)))
    question = snapshot([replace(node("odd", [h100()]), models=(mad,))], [pod("train", "1g.10gb")])
    answer = plan(question, POLICY)
    assert violations(question, answer) == ()
    (given_slice,) = answer.placements[0].slices
    assert given_slice.placement in {Placement(small.id, start) for start in (0, 6, 7)}


# --- everything at once -------------------------------------------------------------------------------------------

_PLACES = st.builds(Placement, st.sampled_from((0, 5, 9, 14, 19, 77, -1)), st.integers(-1, 12))
_SLICES = st.builds(Slice, _PLACES, st.sampled_from((IDLE, IN_USE)), st.sampled_from(("", "MIG-1", "MIG-2")))


@st.composite
def mad_gpus(draw: st.DrawFn, gpu: Gpu) -> Gpu:
    """A GPU with something wrong about it."""
    kind = draw(st.sampled_from(("slices", "model", "bus", "nothing")))
    if kind == "slices":
        return replace(gpu, slices=(*gpu.slices, *draw(st.lists(_SLICES, max_size=3))))
    if kind == "model":
        return replace(gpu, model=draw(st.integers(-2, 3)))
    return replace(gpu, pci_bus_id=draw(st.sampled_from(("", BUS[0], BUS[1])))) if kind == "bus" else gpu


@st.composite
def mad_models(draw: st.DrawFn, model: GpuModel) -> GpuModel:
    """A model whose table may say what cannot be."""
    profiles = tuple(
        changed(
            each,
            starts=tuple(draw(st.lists(st.integers(-1, 12), max_size=3))),
            max_instances=draw(st.integers(-1, 3)),
            size=draw(st.integers(-1, 13)),
            compute_slices=draw(st.integers(-1, 9)),
        )
        if draw(st.integers(0, 5)) == 0
        else each
        for each in model.profiles
    )
    return changed(model, profiles=profiles, memory_slots=draw(st.sampled_from((model.memory_slots,) * 3 + (0, 5))))


@st.composite
def mad_snapshots(draw: st.DrawFn) -> Snapshot:
    """A snapshot in which anything may contradict anything."""
    question = draw(snapshots())
    nodes = []
    for view in question.nodes:
        nodes.append(
            replace(
                view,
                gpus=tuple(draw(mad_gpus(each)) for each in view.gpus),
                models=tuple(draw(mad_models(each)) if draw(st.booleans()) else each for each in view.models),
                desired={
                    **view.desired,
                    draw(st.sampled_from(("nowhere", BUS[0]))): tuple(draw(st.lists(_PLACES, max_size=3))),
                },
            )
        )
    pods = tuple(
        replace(each, requests={**each.requests, "cpu": draw(st.sampled_from((-5, 0, 1_000, 2**70)))})
        for each in question.pending
    )
    wild = st.builds(SliceChoice, st.sampled_from(("nowhere", BUS[0])), _PLACES, st.sampled_from(("create", "?")))
    given_before = tuple(
        changed(each, slices=tuple(draw(st.lists(wild, max_size=3)))) for each in question.assignments
    )
    return replace(
        question,
        nodes=tuple(nodes),
        pending=pods + pods[: draw(st.integers(0, 2))],
        assignments=given_before + question.assignments,
    )


@examples(60)
@given(mad_snapshots())
def test_whatever_contradicts_whatever_a_plan_is_made_and_breaks_no_rule(question: Snapshot) -> None:
    answer = plan(question, POLICY)
    assert violations(question, answer) == ()
    answers = [each.pod for each in answer.placements] + [each.pod for each in answer.waiting]
    assert len(answers) == len(set(answers)) == len({each.key for each in question.pending})


@examples(30)
@given(mad_snapshots())
def test_nodes_of_one_name_are_no_reason_to_fail(question: Snapshot) -> None:
    alike = tuple(replace(view, node=replace(view.node, name="one")) for view in question.nodes)
    answer = plan(replace(question, nodes=alike), POLICY)
    assert len(answer.placements) + len(answer.waiting) == len({each.key for each in question.pending})
