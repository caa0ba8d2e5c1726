"""The judge of plans: good ones are carried out, and each kind of bad one is refused by the simulated card."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cdmo.model.gpu import Placement
from cdmo.model.plan import GpuChange, Plan
from cdmo.model.snapshot import MigNodeView
from cdmo.planner.placement import EMPTY, table_of
from tests.builders import BROKEN, BUS, CARDS, IDLE, UNHEALTHY, Slices, at, card, gpu_of, h100, node, pod, snapshot
from tests.planner.carried_out import NotCarriedOut, carry_out


def holding(slices: Slices) -> MigNodeView:
    """Node gpu-1 with one H100."""
    return node("gpu-1", [h100(slices)])


def change(*layout: str, create: tuple[str, ...] = (), destroy: tuple[str, ...] = ()) -> Plan:
    """A plan that changes GPU 0."""
    parts = (tuple(sorted(at(each) for each in names)) for names in (layout, create, destroy))
    return Plan(changes=(GpuChange("gpu-1", BUS[0], *parts),))


def test_a_good_plan_is_carried_out() -> None:
    question = snapshot([holding({"1g.10gb@0": "ml/old", "1g.10gb@6": IDLE})])
    carry_out(question, change("1g.10gb@0", "3g.40gb@4", create=("3g.40gb@4",), destroy=("1g.10gb@6",)))


@pytest.mark.parametrize("name", CARDS)
def test_every_card_is_filled_with_each_of_its_profiles(name: str) -> None:
    table = table_of(card(name))
    for profile in table.model.profiles:
        layout = EMPTY
        for cut in table.by_profile[profile.id]:
            layout |= {cut.placement} & table.addable(layout)
        places = tuple(sorted(layout))
        question = snapshot([node("gpu-1", [gpu_of(name)])])
        carry_out(question, Plan(changes=(GpuChange("gpu-1", BUS[0], places, places, ()),)))


@pytest.mark.parametrize("name", CARDS)
def test_no_card_takes_one_more_of_a_profile_than_it_has_room_for(name: str) -> None:
    table = table_of(card(name))
    whole = max(table.model.profiles, key=lambda each: each.size)
    small = min(table.model.profiles, key=lambda each: each.size)
    question = snapshot([node("gpu-1", [gpu_of(name, {f"{whole.name}@0": "ml/old"})])])
    more = Placement(small.id, small.starts[0])
    layout = tuple(sorted((more, at(f"{whole.name}@0", name))))
    with pytest.raises(NotCarriedOut, match=f"profile {small.id} at slot"):
        carry_out(question, Plan(changes=(GpuChange("gpu-1", BUS[0], layout, (more,), ()),)))


@pytest.mark.parametrize("state", ["ml/old", BROKEN, UNHEALTHY])
def test_a_slice_that_is_held_is_not_destroyed(state: str) -> None:
    question = snapshot([holding({"1g.10gb@0": state})])
    with pytest.raises(NotCarriedOut, match="processes run on it"):
        carry_out(question, change(destroy=("1g.10gb@0",)))


def test_a_slice_that_only_a_pods_status_names_is_not_destroyed() -> None:
    bound = [pod("old", "1g.10gb", on="gpu-1", devices={"1g.10gb": ["MIG-gpu-1-0-19-0"]})]
    question = snapshot([holding({"1g.10gb@0": IDLE})], (), bound)
    with pytest.raises(NotCarriedOut, match="processes run on it"):
        carry_out(question, change(destroy=("1g.10gb@0",)))


def test_a_slice_without_room_is_not_created() -> None:
    question = snapshot([holding({"1g.10gb@5": "ml/old"})])
    with pytest.raises(NotCarriedOut, match=r"node gpu-1 GPU 00000000:10:00\.0: .*profile 9 at slot 4"):
        carry_out(question, change("3g.40gb@4", "1g.10gb@5", create=("3g.40gb@4",)))


def test_a_layout_that_is_not_what_the_steps_lead_to_is_found() -> None:
    with pytest.raises(NotCarriedOut, match="it was left with"):
        carry_out(snapshot([holding({"1g.10gb@5": IDLE})]), change("3g.40gb@0", create=("3g.40gb@0",)))


def test_a_slice_that_is_not_there_is_not_destroyed() -> None:
    with pytest.raises(NotCarriedOut, match="destroy what is not there"):
        carry_out(snapshot([holding({})]), change(destroy=("1g.10gb@0",)))


def test_a_card_whose_mig_mode_is_off_is_not_changed() -> None:
    view = holding({})
    off = replace(view, gpus=(replace(view.gpus[0], mig_mode="Disabled"),))  # type: ignore[arg-type]
    with pytest.raises(NotCarriedOut, match="MIG mode is Disabled"):
        carry_out(snapshot([off]), change("3g.40gb@0", create=("3g.40gb@0",)))


def test_nothing_is_left_behind_by_a_plan_that_was_refused() -> None:
    question = snapshot([holding({"7g.80gb@0": "ml/old"})])
    with pytest.raises(NotCarriedOut):
        carry_out(question, change(destroy=("7g.80gb@0",)))
    carry_out(snapshot([holding({})]), change("7g.80gb@0", create=("7g.80gb@0",)))
