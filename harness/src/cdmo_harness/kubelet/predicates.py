"""The kubelet's second admission step: does the pod fit beside the others? A part of lifecycle/predicate.go.

Only resources and the number of pods are judged: the harness's pods use nothing else that a kubelet would reject.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .node_status import is_extended
from .pods import Pod, demand, total

_REASONS = {
    "cpu": "OutOfcpu",
    "memory": "OutOfmemory",
    "ephemeral-storage": "OutOfephemeral-storage",
    "pods": "OutOfpods",
}


@dataclass(frozen=True, slots=True)
class Rejection:
    """Reason and message of a pod's status, without the kubelet's "Pod was rejected: " in front."""

    reason: str
    message: str


def rejection(pod: Pod, others: Sequence[Pod], allocatable: Mapping[str, int]) -> Rejection | None:
    """Why the pod does not fit, or None. `allocatable`: cpu in thousandths, the rest in whole units.

    An extended resource the node does not have at all is left out, not refused: such a pod runs without it.
    """
    capacity = allocatable.get("pods", 0)
    if len(others) + 1 > capacity:
        return _insufficient("pods", 1, len(others), capacity)
    used = total(others)
    for resource, requested in demand(pod).items():
        if requested == 0 or (is_extended(resource) and resource not in allocatable):
            continue
        capacity = allocatable.get(resource, 0)
        taken = used.get(resource, 0)
        if requested > capacity - taken:
            return _insufficient(resource, requested, taken, capacity)
    return None


def _insufficient(resource: str, requested: int, used: int, capacity: int) -> Rejection:
    return Rejection(
        _REASONS.get(resource, f"OutOf{resource}"),
        f"Node didn't have enough resource: {resource}, requested: {requested}, used: {used}, capacity: {capacity}",
    )
