"""A Planner that went through a history of snapshots answers exactly as one that never saw any of them."""

from __future__ import annotations

from dataclasses import replace
from unittest.mock import patch

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from msgspec.structs import replace as changed

from cdmo.model.cluster import PodInfo
from cdmo.model.gpu import DeviceState, Gpu, Placement, Slice
from cdmo.model.plan import Plan
from cdmo.model.snapshot import Assignment, MigNodeView
from cdmo.planner import Planner, plan
from tests.builders import snapshot
from tests.planner.expect import POLICY, published, sound
from tests.planner.strategies import NODE_NAMES, bound_pods, examples, pending_pods, strangers, views

MODELS = ("h100", "rtx_pro_6000")
_POD_NAMES = tuple("abcdefgh")


class History(RuleBasedStateMachine):
    """A cluster that changes step by step, with one planner that sees it all."""

    def __init__(self) -> None:
        super().__init__()
        self.planner = Planner()
        self.question = snapshot()
        self.answer = Plan()

    @initialize(data=st.data())
    def begin(self, data: st.DataObject) -> None:
        self.question = snapshot([data.draw(views(name, MODELS)) for name in NODE_NAMES[:2]])

    @rule(data=st.data(), name=st.sampled_from(NODE_NAMES))
    def a_node_comes_or_looks_otherwise(self, data: st.DataObject, name: str) -> None:
        self._put(data.draw(views(name, MODELS)))

    @rule(name=st.sampled_from(NODE_NAMES))
    def a_node_goes(self, name: str) -> None:
        left = tuple(each for each in self.question.nodes if each.node.name != name)
        self.question = replace(self.question, nodes=left)

    @rule(name=st.sampled_from(NODE_NAMES))
    def a_view_is_replaced_by_an_equal_one(self, name: str) -> None:
        for each in self.question.nodes:
            if each.node.name == name:
                self._put(replace(each))

    @rule(data=st.data())
    def the_order_of_the_nodes_changes(self, data: st.DataObject) -> None:
        mixed = data.draw(st.permutations(self.question.nodes))
        self.question = replace(self.question, nodes=tuple(mixed))

    @rule(data=st.data(), name=st.sampled_from(NODE_NAMES), bound=st.sampled_from(("x", "y", "z")))
    def a_pod_is_bound_by_the_scheduler(self, data: st.DataObject, name: str, bound: str) -> None:
        for each in self.question.nodes:
            if each.node.name == name:
                others = tuple(pod for pod in each.pods if pod.key.name != bound)
                self._put(replace(each, pods=(*others, data.draw(bound_pods(bound, MODELS, name)))))

    @rule(data=st.data(), name=st.sampled_from(_POD_NAMES))
    def a_pod_begins_to_wait(self, data: st.DataObject, name: str) -> None:
        others = tuple(each for each in self.question.pending if each.key.name != name)
        self.question = replace(self.question, pending=(*others, data.draw(pending_pods(name, MODELS))))

    @rule(data=st.data())
    def many_pods_begin_to_wait(self, data: st.DataObject) -> None:
        pods = tuple(data.draw(pending_pods(name, MODELS)) for name in _POD_NAMES)
        self.question = replace(self.question, pending=pods)

    @rule(name=st.sampled_from(_POD_NAMES))
    def a_pod_goes(self, name: str) -> None:
        left = tuple(each for each in self.question.pending if each.key.name != name)
        self.question = replace(self.question, pending=left)

    @rule(seconds=st.sampled_from((1.0, 400.0)))
    def time_passes(self, seconds: float) -> None:
        self.question = replace(self.question, now=self.question.now + seconds)

    @rule(data=st.data())
    def nodes_of_others_come_and_go(self, data: st.DataObject) -> None:
        self.question = replace(self.question, others=tuple(data.draw(strangers())))

    @rule(name=st.sampled_from(_POD_NAMES), where=st.sampled_from(NODE_NAMES))
    def a_pod_was_tried_in_vain(self, name: str, where: str) -> None:
        keys = [each.key for each in self.question.pending if each.key.name == name]
        self.question = replace(self.question, avoid=frozenset((key, where) for key in keys))

    @rule()
    def the_plan_is_published(self) -> None:
        self.question = published(self.question, self.answer)

    @precondition(lambda self: self.answer.changes)
    @rule()
    def the_agents_carry_it_out(self) -> None:
        self.question = published(self.question, self.answer)
        asked = {(each.node, each.gpu): each.layout for each in self.answer.changes}
        for view in self.question.nodes:
            layouts = {gpu: layout for (name, gpu), layout in asked.items() if name == view.node.name}
            if layouts:
                self._put(replace(view, gpus=tuple(_cut(gpu, layouts.get(gpu.pci_bus_id)) for gpu in view.gpus)))

    @precondition(lambda self: self.answer.placements)
    @rule()
    def the_first_pod_is_bound_and_takes_its_slices(self) -> None:
        first = self.answer.placements[0]
        pod = next((each for each in self.question.pending if each.key == first.pod), None)
        views_there = [each for each in self.question.nodes if each.node.name == first.node]
        if pod is not None and views_there and _all_there(views_there[0], first):
            left = tuple(each for each in self.question.pending if each is not pod)
            self.question = replace(self.question, pending=left)
            self._put(_with_pod(views_there[0], replace(pod, node_name=first.node), first))

    @invariant()
    def it_answers_as_if_it_had_seen_nothing_before(self) -> None:
        self.answer = self.planner.plan(self.question, POLICY)
        assert msgspec.json.encode(self.answer) == msgspec.json.encode(plan(self.question, POLICY))
        sound(self.question, self.answer)

    def _put(self, view: MigNodeView) -> None:
        others = tuple(each for each in self.question.nodes if each.node.name != view.node.name)
        self.question = replace(self.question, nodes=(*others, view))


class ForgetfulHistory(History):
    """The same with a planner that has room for next to nothing, so that it forgets and begins anew all the time."""

    def __init__(self) -> None:
        super().__init__()
        self.limits = [
            patch("cdmo.planner.index.MOST_KINDS", 2),
            patch("cdmo.planner.index.MOST_FILLED", 3),
            patch("cdmo.planner.fit.MOST_REMEMBERED", 3),
            patch("cdmo.planner.MOST_SHAPES", 25),
        ]
        for each in self.limits:
            each.start()

    def teardown(self) -> None:
        for each in self.limits:
            each.stop()


def _cut(gpu: Gpu, layout: tuple[Placement, ...] | None) -> Gpu:
    """The GPU with this layout; what was there already stays as it is."""
    if layout is None:
        return gpu
    there = {each.placement: each for each in gpu.slices}
    uuids = {each: f"MIG-{gpu.uuid}-{each.profile_id}-{each.start}" for each in layout}
    return replace(gpu, slices=tuple(there.get(each) or Slice(each, uuid=uuids[each]) for each in layout))


def _all_there(view: MigNodeView, given: Assignment) -> bool:
    idle = {
        (gpu.pci_bus_id, each.placement) for gpu in view.gpus for each in gpu.slices if each.state is DeviceState.IDLE
    }
    return all((each.gpu, each.placement) in idle for each in given.slices)


def _with_pod(view: MigNodeView, pod: PodInfo, given: Assignment) -> MigNodeView:
    taken = {(each.gpu, each.placement) for each in given.slices}
    gpus = tuple(
        replace(
            gpu,
            slices=tuple(
                changed(each, state=DeviceState.IN_USE, pod=pod.key)
                if (gpu.pci_bus_id, each.placement) in taken
                else each
                for each in gpu.slices
            ),
        )
        for gpu in view.gpus
    )
    return replace(view, gpus=gpus, pods=(*view.pods, pod))


_SETTINGS = settings(examples(18), stateful_step_count=15)

TestAPlannerThatRemembers = History.TestCase
TestAPlannerThatRemembers.settings = _SETTINGS
TestAPlannerThatForgets = ForgetfulHistory.TestCase
TestAPlannerThatForgets.settings = _SETTINGS
