"""Whether a pod could run on a node were its MIG slices there: the kube-scheduler's filters on plain values.

Judged: node name, node selector, required node affinity, taints, cordon, readiness, and what is left of cpu, memory,
pods and other resources. CDMO's own taint never counts: it goes away with the change that the pod waits for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum, auto

from cdmo.model.cluster import NodeInfo, PodInfo, Requirement, SelectorTerm, Taint
from cdmo.model.names import REPARTITIONING_TAINT, is_mig_resource

PODS = "pods"  # the resource under which a Node says how many pods it takes

_CORDON = Taint("node.kubernetes.io/unschedulable", "", "NoSchedule")
_BARRING_EFFECTS = ("NoSchedule", "NoExecute")


class Bar(Enum):
    """How firmly a pod is kept from a node."""

    NEVER = auto()  # until the pod or the node is changed by somebody
    NOT_READY = auto()  # until the node is well again
    BUSY = auto()  # until something that runs there ends


@dataclass(frozen=True, slots=True)
class Obstacle:
    """What keeps a pod from a node."""

    bar: Bar
    sentence: str  # without the node's name, no full stop


def obstacle(pod: PodInfo, node: NodeInfo) -> Obstacle | None:
    """What keeps the pod from the node however empty it is, or None."""
    if pod.node_name and pod.node_name != node.name:
        return Obstacle(Bar.NEVER, f"the pod names node {pod.node_name}")
    for key, value in pod.node_selector:
        if node.labels.get(key) != value:
            return Obstacle(Bar.NEVER, f"the pod's nodeSelector wants {key}={value}")
    if pod.node_affinity is not None and not any(_term_matches(term, node) for term in pod.node_affinity):
        return Obstacle(Bar.NEVER, "the pod's required node affinity does not match it")
    if not node.ready:
        return Obstacle(Bar.NOT_READY, "it is not ready")
    if node.unschedulable and not _tolerated(pod, _CORDON):
        return Obstacle(Bar.NEVER, "it is cordoned")
    for taint in node.taints:
        if taint.key == REPARTITIONING_TAINT or taint.effect not in _BARRING_EFFECTS:
            continue
        if not _tolerated(pod, taint):
            value = f"={taint.value}" if taint.value else ""
            return Obstacle(Bar.NEVER, f"the pod does not tolerate its taint {taint.key}{value}:{taint.effect}")
    return None


def room_of(node: NodeInfo, pods: Iterable[PodInfo]) -> dict[str, int]:
    """What the pods that are on a node leave of its allocatable resources, MIG slices apart."""
    room = {resource: count for resource, count in node.allocatable.items() if not is_mig_resource(resource)}
    for pod in pods:
        take(room, pod)
    return room


def take(room: dict[str, int], pod: PodInfo) -> None:
    """Take what the pod needs, MIG slices apart, out of the room."""
    for resource, count in needs(pod).items():
        room[resource] = room.get(resource, 0) - count


def needs(pod: PodInfo) -> dict[str, int]:
    """What a pod needs of a node besides MIG slices."""
    wanted = {name: count for name, count in pod.requests.items() if count and not is_mig_resource(name)}
    wanted[PODS] = 1
    return wanted


def shortage(pod: PodInfo, node: NodeInfo, room: Mapping[str, int]) -> Obstacle | None:
    """Which resource, MIG slices apart, the node has too little of for this pod, or None."""
    for resource, wanted in needs(pod).items():
        left = max(0, room.get(resource, 0))
        if wanted <= left:
            continue
        if resource == PODS:
            bar = Bar.BUSY if node.allocatable.get(PODS, 0) else Bar.NEVER
            return Obstacle(bar, "it takes no more pods")
        bar = Bar.BUSY if wanted <= node.allocatable.get(resource, 0) else Bar.NEVER
        return Obstacle(bar, f"the pod asks for {_amount(resource, wanted)}, {_amount(resource, left)} is left there")
    return None


def _amount(resource: str, count: int) -> str:
    if resource == "cpu":
        return f"{count}m of cpu"
    if resource in ("memory", "ephemeral-storage") or resource.startswith("hugepages-"):
        return f"{count / 2**20:.0f}Mi of {resource}"
    return f"{count} of {resource}"


def _tolerated(pod: PodInfo, taint: Taint) -> bool:
    return any(each.tolerates(taint) for each in pod.tolerations)


def _term_matches(term: SelectorTerm, node: NodeInfo) -> bool:
    if not term.labels and not term.fields:
        return False
    names = {"metadata.name": node.name}
    return all(_holds(each, node.labels) for each in term.labels) and all(_holds(each, names) for each in term.fields)


def _holds(requirement: Requirement, labels: Mapping[str, str]) -> bool:
    value = labels.get(requirement.key)
    match requirement.operator:
        case "In":
            return value in requirement.values
        case "NotIn":  # an absent label is not one of the values
            return value not in requirement.values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case "Gt":
            return _compares(value, requirement.values, int.__gt__)
        case "Lt":
            return _compares(value, requirement.values, int.__lt__)
    return False


def _compares(value: str | None, bounds: tuple[str, ...], compare: Callable[[int, int], bool]) -> bool:
    """Gt and Lt compare whole numbers; anything else does not match (Kubernetes, labels.Requirement)."""
    if value is None or len(bounds) != 1:
        return False
    try:
        return compare(int(value), int(bounds[0]))
    except ValueError:
        return False


class Eligibility:
    """`obstacle`, worked out once for every node and every kind of pod: many pods differ in their names alone."""

    def __init__(self) -> None:
        self._known: dict[tuple[object, ...], Obstacle | None] = {}

    def obstacle(self, pod: PodInfo, node: NodeInfo) -> Obstacle | None:
        """What keeps the pod from the node however empty it is, or None. One node by each name."""
        key = (node.name, pod.node_name, pod.node_selector, pod.node_affinity, pod.tolerations)
        if key not in self._known:
            self._known[key] = obstacle(pod, node)
        return self._known[key]
