"""A plan with a fault costs the nodes on which it shows, and no others."""

from __future__ import annotations

from dataclasses import replace

from cdmo.controller.checked import checked
from cdmo.model.plan import GpuChange, Plan
from cdmo.model.policy import Policy
from cdmo.model.snapshot import Snapshot
from cdmo.planner import plan
from tests.builders import BUS, at, h100, key, node, pod, snapshot

POLICY = Policy()


def question(*names: str) -> Snapshot:
    """Nodes that hold a slice in use each, and two pods: one would go to either, the other to the first alone."""
    views = [node(name, [h100({"1g.10gb@0": "ml/old"})], labels={"name": name}) for name in names]
    return snapshot(views, [pod("train", "3g.40gb"), pod("chosen", "2g.20gb", selector={"name": names[0]})])


class Spoiler:
    """Plans as the planner does, but takes the slice in use off each of these nodes that it may change."""

    def __init__(self, *nodes: str) -> None:
        self.nodes = nodes
        self.asked = 0

    def __call__(self, asked: Snapshot, policy: Policy) -> Plan:
        self.asked += 1
        good = plan(asked, policy)
        changed = {each.node for each in good.changes}
        usable = [view.node.name for view in asked.nodes if view.node.name in self.nodes and not view.problem]
        spoiled = [each for each in good.changes if each.node not in usable]
        spoiled += [GpuChange(name, BUS[0], (), (), (at("1g.10gb@0"),)) for name in usable]
        assert changed, "there is something to spoil"
        return replace(good, changes=tuple(spoiled))


def test_a_good_plan_is_published_as_it_is() -> None:
    asked = question("gpu-1", "gpu-2")
    made = checked(plan, asked, POLICY)
    assert (made.plan, made.broken) == (plan(asked, POLICY), ())


def test_a_node_with_a_wrong_plan_is_left_out_and_its_pods_are_told() -> None:
    spoiler = Spoiler("gpu-1")
    made = checked(spoiler, question("gpu-1", "gpu-2"), POLICY)
    assert made.plan is not None
    assert {each.node for each in made.broken} == {"gpu-1"}
    assert {each.node for each in made.plan.changes} == {"gpu-2"}
    assert [each.pod for each in made.plan.placements] == [key("train")]
    (told,) = made.plan.waiting
    assert told.pod == key("chosen")
    assert "CDMO's own check refuses its plan for this node" in told.reason
    assert "is held and would be destroyed" in told.reason


def test_a_fault_that_is_no_nodes_stops_the_whole_plan() -> None:
    made = checked(lambda *_: Plan(), question("gpu-1"), POLICY)
    assert made.plan is None
    assert {str(each) for each in made.broken} == {"pod ml/train was not answered", "pod ml/chosen was not answered"}


def test_a_fault_that_comes_back_on_other_nodes_stops_the_whole_plan() -> None:
    names = ("gpu-1", "gpu-2", "gpu-3", "gpu-4", "gpu-5")

    class Spreading(Spoiler):
        def __call__(self, asked: Snapshot, policy: Policy) -> Plan:
            self.nodes = (names[self.asked],)
            return super().__call__(asked, policy)

    spoiler = Spreading()
    made = checked(spoiler, question(*names), POLICY)
    assert made.plan is None
    assert spoiler.asked == 3
