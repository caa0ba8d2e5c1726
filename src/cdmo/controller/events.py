"""Each Event the controller writes, as a function."""

from __future__ import annotations

from cdmo.kube.port import Event, Involved
from cdmo.model.gpu import PodKey
from cdmo.model.plan import Waiting
from cdmo.model.reasons import EventReason
from cdmo.model.snapshot import Assignment


def waiting(entry: Waiting) -> Event:
    """Why a pod has no place, on the pod."""
    return Event(_pod(entry.pod), EventReason.WAITING, f"{entry.code}: {entry.reason}", warning=True)


def planned(assignment: Assignment) -> Event:
    """Where a pod's slices are being cut, on the pod."""
    gpus = sorted({each.gpu for each in assignment.slices})
    cut = any(each.action == "create" for each in assignment.slices)
    verb = "are being cut" if cut else "are there"
    return Event(
        _pod(assignment.pod),
        EventReason.PLANNED,
        f"its MIG slices {verb} on node {assignment.node}, GPU {', '.join(gpus)}",
    )


def in_vain(assignment: Assignment, seconds: float) -> Event:
    """A pod that the scheduler did not bind although its slices were there, on the pod."""
    return Event(
        _pod(assignment.pod),
        EventReason.WAITING,
        f"its MIG slices were cut on node {assignment.node}, but the scheduler did not bind it there within "
        f"{seconds:g} s; it is tried elsewhere. `kubectl describe pod` says what the scheduler misses",
        warning=True,
    )


def _pod(key: PodKey) -> Involved:
    return Involved("Pod", key.name, key.namespace, key.uid)
