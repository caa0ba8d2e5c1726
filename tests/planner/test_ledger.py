"""The working state of a planner: what is given is written down, and taken back without a trace."""

from __future__ import annotations

import pytest

from cdmo.model.cluster import HostPort
from cdmo.model.snapshot import MigNodeView
from cdmo.planner.ledger import Ledger
from cdmo.planner.shape import Mode, Shapes
from tests.builders import BROKEN, BUS, IDLE, IN_USE, h100, node, pod, resource, written

SMALL = pod("small", "1g.10gb", host_ports=(HostPort(8080),))
VIEWS = (
    node("gpu-1", [h100({"1g.10gb@0": "ml/x", "2g.20gb@2": IDLE}), h100(desired=["3g.40gb@4"])]),
    node("gpu-2", [h100({"4g.40gb@0": BROKEN}), h100(problem="lost")], allocatable={"cpu": 3_000}),
    node("gpu-3", [h100()], managed=False),
)


def ledger_of(*views: MigNodeView) -> Ledger:
    ledger = Ledger(Shapes())
    ledger.update(views)
    return ledger


def state(ledger: Ledger) -> list[object]:
    """Everything about a ledger that a plan can change. A host port that nobody holds is like one never heard of."""
    nodes = ledger.in_order()
    rooms = [{name: count for name, count in each.room.items() if count} for each in nodes]
    return [rooms, [(gpu.bus, gpu.shape.key) for each in nodes for gpu in each.gpus], ledger.changes()]


def give_one(ledger: Ledger, name: str) -> None:
    """Give a small slice on the first GPU of a node that can have one."""
    there = ledger.nodes[name]
    for gpu in there.gpus:
        found = gpu.shape.best(resource("1g.10gb"), Mode.PLENTY)
        if found is not None:
            ledger.give(SMALL, there, [(gpu, found[1])])
            return


def test_nodes_that_cdmo_does_not_manage_and_gpus_that_are_unwell_take_no_part() -> None:
    ledger = ledger_of(*VIEWS)
    assert {name: [gpu.bus for gpu in each.gpus] for name, each in ledger.nodes.items()} == {
        "gpu-1": [BUS[0], BUS[1]],
        "gpu-2": [BUS[0]],
    }


def test_what_is_given_is_gone_from_slices_cpu_and_host_ports() -> None:
    ledger = ledger_of(*VIEWS)
    before = dict(ledger.nodes["gpu-2"].room)
    give_one(ledger, "gpu-2")
    after = ledger.nodes["gpu-2"].room
    assert (before["cpu"] - after["cpu"], before["pods"] - after["pods"]) == (1_000, 1)
    assert sum(count for name, count in after.items() if name.startswith("hostPort")) == 2
    (change,) = [each for each in ledger.changes() if each.node == "gpu-2"]
    assert [written(each) for each in change.create] == ["1g.10gb@6"]


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_taking_back_restores_everything_exactly(steps: int) -> None:
    ledger = ledger_of(*VIEWS)
    before = state(ledger)
    mark = ledger.mark()
    for number in range(steps):
        give_one(ledger, ("gpu-1", "gpu-2")[number % 2])
    assert state(ledger) != before
    ledger.rollback(mark)
    assert state(ledger) == before


def test_what_came_before_a_mark_stays_when_what_came_after_is_taken_back() -> None:
    ledger = ledger_of(*VIEWS)
    outer = ledger.mark()
    give_one(ledger, "gpu-1")
    between = state(ledger)
    inner = ledger.mark()
    give_one(ledger, "gpu-1")
    give_one(ledger, "gpu-2")
    ledger.rollback(inner)
    assert state(ledger) == between
    ledger.rollback(outer)
    assert state(ledger) == state(ledger_of(*VIEWS))


def test_only_views_that_are_other_objects_are_looked_at_again() -> None:
    ledger = ledger_of(*VIEWS)
    kept = ledger.nodes["gpu-1"]
    gone, came = ledger.update((VIEWS[0], node("gpu-2", [h100()])))
    assert ([each.name for each in gone], [each.name for each in came]) == (["gpu-2"], ["gpu-2"])
    assert ledger.nodes["gpu-1"] is kept
    gone, came = ledger.update(())
    assert sorted(each.name for each in gone) == ["gpu-1", "gpu-2"]
    assert (came, ledger.in_order(), ledger.changes()) == ([], [], ())


@pytest.mark.parametrize(("busy", "mode"), [(2, Mode.PLENTY), (3, Mode.SCARCE), (4, Mode.SCARCE)])
def test_room_is_scarce_from_three_quarters_of_the_slots_on(busy: int, mode: Mode) -> None:
    cards = [h100({"7g.80gb@0": IN_USE}) for _ in range(busy)] + [h100({"7g.80gb@0": IDLE})] * (4 - busy)
    assert ledger_of(node("gpu-1", cards)).begin() is mode


def test_a_slice_that_came_into_use_against_the_plan_is_put_back_without_anybody_asking() -> None:
    ledger = ledger_of(node("gpu-1", [h100({"1g.10gb@5": IN_USE}, desired=["3g.40gb@4"])]))
    (change,) = ledger.changes()
    assert [written(each) for each in change.layout] == ["1g.10gb@5"]
