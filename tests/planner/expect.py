"""Assertion verbs for plans: every plan made here is also checked against the rules that no plan may break."""

from __future__ import annotations

from cdmo.model.plan import GpuChange, Plan
from cdmo.model.policy import Policy
from cdmo.model.reasons import WaitingCode
from cdmo.model.snapshot import Assignment, Snapshot
from cdmo.planner import plan
from cdmo.planner.check import violations
from tests.builders import BUS, key, written


def planned(question: Snapshot) -> Plan:
    """The plan for a snapshot, which breaks no rule."""
    answer = plan(question, Policy())
    assert violations(question, answer) == ()
    return answer


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
