"""Assertion verbs for plans: every plan made here is checked against the rules that no plan may break, and each of
its changes is made on the simulated libnvidia-ml.so.1."""

from __future__ import annotations

from dataclasses import replace

from cdmo.model.plan import GpuChange, Plan
from cdmo.model.policy import Policy
from cdmo.model.reasons import WaitingCode
from cdmo.model.snapshot import Assignment, Snapshot
from cdmo.planner import Planner, plan
from cdmo.planner.check import violations
from tests.builders import BUS, key, written
from tests.planner.carried_out import carry_out

POLICY = Policy()


def planned(question: Snapshot, policy: Policy = POLICY) -> Plan:
    """The plan for a snapshot, which breaks no rule and is carried out."""
    answer = plan(question, policy)
    sound(question, answer)
    return answer


class Judged(Planner):
    """The planner, for tests in which somebody else asks it: every plan that it makes is sound, or the test fails."""

    def plan(self, snapshot: Snapshot, policy: Policy) -> Plan:
        """The plan, which breaks no rule and is carried out."""
        answer = super().plan(snapshot, policy)
        sound(snapshot, answer)
        return answer


def sound(question: Snapshot, answer: Plan) -> None:
    """A plan that breaks no rule, and that the cards do not refuse."""
    assert violations(question, answer) == ()
    carry_out(question, answer)


def published(question: Snapshot, answer: Plan) -> Snapshot:
    """The same question once the plan was written into the MigNodes, and nothing else has happened yet."""
    asked = {(each.node, each.gpu): each.layout for each in answer.changes}
    nodes = []
    for view in question.nodes:
        theirs = {bus: layout for (name, bus), layout in asked.items() if name == view.node.name}
        nodes.append(replace(view, desired={**view.desired, **theirs}) if theirs else view)
    return replace(question, nodes=tuple(nodes), assignments=answer.placements)


def assignment(answer: Plan, pod_name: str) -> Assignment:
    """What the plan gives to this pod."""
    (found,) = [each for each in answer.placements if each.pod == key(pod_name)]
    return found


def places(answer: Plan, pod_name: str, model: str = "h100") -> list[str]:
    """The slices a pod was given, as `NODE/GPU NUMBER PROFILE@SLOT ACTION`."""
    found = assignment(answer, pod_name)
    return [
        f"{found.node}/{BUS.index(each.gpu)} {written(each.placement, model)} {each.action}" for each in found.slices
    ]


def change(answer: Plan, node_name: str, gpu: int = 0) -> GpuChange:
    """The one change of this GPU."""
    (found,) = [each for each in answer.changes if (each.node, each.gpu) == (node_name, BUS[gpu])]
    return found


def layout(answer: Plan, node_name: str, gpu: int = 0, model: str = "h100") -> set[str]:
    """The layout a GPU is changed into, as PROFILE@SLOT."""
    return {written(each, model) for each in change(answer, node_name, gpu).layout}


def waits(answer: Plan, pod_name: str) -> tuple[WaitingCode, str]:
    """Why a pod got nothing."""
    (found,) = [each for each in answer.waiting if each.pod == key(pod_name)]
    return found.code, found.reason
