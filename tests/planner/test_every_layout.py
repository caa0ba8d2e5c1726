"""Every layout that a card allows, as slices in use on one GPU: a lone pod gets the best place there is, or none."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from cdmo.model.gpu import Placement
from cdmo.model.plan import Plan
from cdmo.model.profile import GpuModel
from cdmo.model.snapshot import MigNodeView
from cdmo.planner import Planner
from cdmo.planner.placement import EMPTY, CardTable, Layout, table_of
from cdmo.planner.worth import Worth
from tests.builders import CARDS, IN_USE, card, gpu_of, node, pod, snapshot, written
from tests.planner.expect import POLICY, sound

# How many layouts each card has, media extensions and graphics among them, and how many of them differ in what they
# cover or in what could still be created beside them: counted by the walk below.
LAYOUTS = {"h100": (2319, 787), "a100": (2319, 787), "a30": (76, 46), "rtx_pro_6000": (717, 84)}
CARRIED_OUT = 97  # every so-manieth plan is made on the simulated card: all of them would take a minute


def every_layout(table: CardTable) -> list[Layout]:
    """All layouts that are reached by creating one slice after another, in an order that never changes."""
    found = {EMPTY}
    edge = [EMPTY]
    while edge:
        more = {layout | {each} for layout in edge for each in table.addable(layout)} - found
        found |= more
        edge = sorted(more, key=sorted)
    return sorted(found, key=lambda layout: (len(layout), sorted(layout)))


def different(table: CardTable, layouts: list[Layout]) -> list[Layout]:
    """One of all that cover the same slots in the same pieces and leave the same places: one case for a planner."""
    cases: dict[tuple[frozenset[int], Layout], Layout] = {}
    for layout in layouts:
        pieces = frozenset(table.cuts[each].mask for each in layout)
        cases.setdefault((pieces, table.addable(layout)), layout)
    return list(cases.values())


def in_use(model: GpuModel, layout: Layout) -> MigNodeView:
    """A node with one GPU on which all of this is in use."""
    return node("gpu-1", [gpu_of(model, {written(each, model): IN_USE for each in sorted(layout)})])


def answers(model: GpuModel, layouts: list[Layout]) -> Iterator[tuple[Layout, str, Plan]]:
    """For each layout and each profile of the card the plan for one pod that asks for it."""
    pods = {each.resource: pod("train", each.name) for each in model.profiles}
    number = 0
    for layout in layouts:
        planner = Planner()
        question = snapshot([in_use(model, layout)])
        for resource, train in pods.items():
            asked = replace(question, pending=(train,))
            answer = planner.plan(asked, POLICY)
            number += 1
            if number % CARRIED_OUT == 0:
                sound(asked, answer)
            yield layout, resource, answer


def placed(answer: Plan) -> Placement | None:
    """Where the plan creates the pod's slice."""
    if not answer.placements:
        return None
    (given,) = answer.placements
    (choice,) = given.slices
    (change,) = answer.changes
    assert change.create == (choice.placement,) and not change.destroy
    return choice.placement


def told(layout: Layout, model: GpuModel) -> str:
    return " ".join(written(each, model) for each in sorted(layout)) or "nothing"


@pytest.mark.parametrize("name", CARDS)
def test_in_every_layout_a_lone_pod_gets_the_place_that_costs_least_or_none_if_there_is_none(name: str) -> None:
    model = card(name)
    table = table_of(model)
    worth = Worth(table)
    layouts = every_layout(table)
    cases = different(table, layouts)
    assert (len(layouts), len(cases)) == LAYOUTS[name]
    for layout, resource, answer in answers(model, cases):
        places = [each for each in table.addable(layout) if table.resource_at(each) == resource]
        losses = {each: worth.loss(layout, table.cuts[each]) for each in places}
        place = placed(answer)
        if place is None:
            assert not places, f"{resource} is refused beside {told(layout, model)}"
        else:
            assert place in losses, f"{resource} beside {told(layout, model)} is put where it cannot be: {place}"
            assert losses[place] == min(losses.values()), f"{resource} beside {told(layout, model)} goes to {place}"
