"""The virtual cluster carries plans out as a driver would, and refuses what a driver would refuse."""

from __future__ import annotations

import pytest

from cdmo.errors import HardwareError, InUse, NoRoom, NotThere
from cdmo.model.gpu import DeviceState, MigMode
from cdmo.model.plan import GpuChange, Plan
from cdmo.model.snapshot import Assignment, MigNodeView, SliceChoice
from cdmo.simulation.fragmentation import Stranded
from cdmo.simulation.world import Carried, World, capacity_of
from tests.builders import BUS, IDLE, a30, assigned, at, card, h100, key, node, pod, resource

WEIGHTS = {resource("1g.10gb"): 0.5, resource("7g.80gb"): 0.5}


def world(*views: MigNodeView) -> World:
    return World(views, Stranded(WEIGHTS))


def change(node_name: str, *, create: tuple[str, ...] = (), destroy: tuple[str, ...] = (), gpu: int = 0) -> GpuChange:
    """A change of a GPU that had nothing but what is destroyed."""
    made, gone = tuple(map(at, create)), tuple(map(at, destroy))
    return GpuChange(node_name, BUS[gpu], tuple(sorted(made)), made, gone)


def test_a_plan_is_carried_out_at_once_and_its_pods_run() -> None:
    here = world(node("n1", [h100(slices={"3g.40gb@4": IDLE})]), node("n2", [h100()]))
    before = here.views
    plan = Plan(
        placements=(assigned("a", "n1", "7g.80gb@0"),),
        changes=(change("n1", create=("7g.80gb@0",), destroy=("3g.40gb@4",)),),
    )
    assert here.apply(plan, {key("a"): pod("a", "7g.80gb")}) == Carried(created=1, destroyed=1)
    ((slice_,),) = (gpu.slices for gpu in here.views[0].gpus)
    assert (slice_.placement, slice_.state, slice_.pod) == (at("7g.80gb@0"), DeviceState.IN_USE, key("a"))
    assert [(each.key, each.node_name, each.phase) for each in here.views[0].pods] == [(key("a"), "n1", "Running")]
    assert (here.busy, here.free) == (8, 8)
    assert here.views[1] is before[1]  # nothing happened there
    assert here.views[0] is not before[0]


def test_an_ended_pod_leaves_its_slices_idle() -> None:
    here = world(node("n1", [h100(slices={"3g.40gb@4": IDLE})]))
    here.apply(Plan(placements=(assigned("a", "n1", "3g.40gb@4", action="reuse"),)), {key("a"): pod("a", "3g.40gb")})
    assert here.busy == 4
    here.end([key("a")])
    assert here.busy == 0
    assert [(each.state, each.pod) for each in here.views[0].gpus[0].slices] == [(IDLE, None)]
    assert here.views[0].pods == ()


def test_views_are_the_same_objects_until_something_happens() -> None:
    here = world(node("n1", [h100()]), node("n2", [h100()]))
    assert here.views is here.views
    here.end([])
    assert here.views is here.views


def test_only_gpus_that_take_part_count_and_what_others_hold_there_stays_in_use() -> None:
    here = world(
        node("n1", [h100(slices={"3g.40gb@4": "ml/old"}), h100(mig_mode=MigMode.DISABLED), h100(problem="lost")]),
        node("n2", [a30()]),
        node("n3", [h100()], managed=False),
        node("n4", [h100()], alive=False),
        node("n5", [h100()], problem="being repaired"),
    )
    assert (here.gpus, here.total, here.busy) == (2, 12, 4)
    assert capacity_of(here.views) == {card("h100"): 8, card("a30"): 4}
    assert here.stranded == pytest.approx(0.5 * 4 + 4)  # 7g beside ml/old, and everything on the A30


def test_layouts_that_were_only_asked_for_are_forgotten() -> None:
    here = world(node("n1", [h100(slices={"1g.10gb@6": IDLE}, desired=["3g.40gb@4"])]))
    assert here.views[0].desired == {}


def test_a_demand_counts_its_slots_on_the_card_where_it_is_smallest() -> None:
    here = world(node("n1", [h100()]), node("n2", [a30()]))
    assert here.size(((resource("1g.10gb"), 2), (resource("3g.40gb"), 1))) == 6
    assert here.size(((resource("9g.90gb"), 2),)) == 2


HELD = "ml/old"


@pytest.mark.parametrize(
    ("plan", "refusal", "sentence"),
    [
        (Plan(changes=(change("n1", destroy=("1g.10gb@0",)),)), InUse, "which ml/old holds"),
        (Plan(changes=(change("n1", destroy=("1g.10gb@1",)),)), NotThere, "where it is not"),
        (Plan(changes=(change("n1", create=("1g.10gb@0",)),)), NoRoom, "where it is already"),
        (Plan(changes=(change("n1", create=("7g.80gb@0",)),)), NoRoom, "slots are taken"),
        (Plan(changes=(change("n1", create=("3g.40gb@2",)),)), NoRoom, "has no placement"),
        (Plan(changes=(change("n9", create=("1g.10gb@1",)),)), NotThere, "GPU .* of node n9"),
        (Plan(changes=(change("n1", create=("1g.10gb@1",), gpu=1),)), NotThere, "takes no part"),
        (Plan(placements=(assigned("a", "n1", "1g.10gb@0"),)), InUse, "which ml/old holds"),
        (Plan(placements=(assigned("a", "n1", "1g.10gb@3"),)), NotThere, "where it is not"),
        (Plan(placements=(assigned("a", "n1", "2g.20gb@4"),)), NotThere, "it asked for"),
        (
            Plan(placements=(Assignment(key("a"), "n1", (SliceChoice(BUS[0], at("1g.10gb@6"), "reuse"),) * 2),)),
            InUse,
            "which ml/a holds",
        ),
    ],
)
def test_what_a_driver_would_refuse_is_refused(plan: Plan, refusal: type[HardwareError], sentence: str) -> None:
    slices = {"1g.10gb@0": HELD, "2g.20gb@4": IDLE, "1g.10gb@6": IDLE}
    here = world(node("n1", [h100(slices=slices), h100(problem="lost")]))
    before = here.views
    with pytest.raises(refusal, match=sentence):
        here.apply(plan, {key("a"): pod("a", "1g.10gb")})
    assert here.views is before
