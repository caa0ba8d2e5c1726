"""Each Event the controller writes, as a function."""

from __future__ import annotations

from cdmo.kube.port import Event, Involved
from cdmo.model.cluster import NodeInfo
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


def fence_lifted(node: NodeInfo, silent: float) -> Event:
    """A fence that was given up because nobody will lower it, on the node. `silent`: seconds."""
    message = f"the fence was lifted: the node's agent has been silent for {silent:.0f} s before it changed anything"
    return Event(_node(node), EventReason.FENCE_LAPSED, message, warning=True)


def fence_stands(node: NodeInfo, silent: float) -> Event:
    """A fence that stays up although its agent is silent, on the node. `silent`: seconds, at least."""
    message = (
        f"no pod can be bound to the node: its agent has been silent for more than {silent:.0f} s in the middle of "
        "a change, and only it can tell what the GPUs are cut into. See to it that the agent's pod runs again"
    )
    return Event(_node(node), EventReason.FENCE_STANDS, message, warning=True)


def _node(node: NodeInfo) -> Involved:
    return Involved("Node", node.name, uid=node.uid)


def _pod(key: PodKey) -> Involved:
    return Involved("Pod", key.name, key.namespace, key.uid)
