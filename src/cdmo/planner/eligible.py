"""Whether a pod could run on a node were its MIG slices there: the kube-scheduler's filters on plain values.

Judged here: node name, node selector, required node affinity, taints, cordon, readiness and volumes, which stay as
they are whatever else is planned (`obstacle`, `Eligibility`); and what is left of cpu, memory, pods, other resources
and host ports (`Room`). Rules about other pods: `relations`. CDMO's own taint never counts: it goes away with the
change that the pod waits for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from functools import lru_cache
from types import MappingProxyType
from typing import TypeAlias

from cdmo.model.cluster import ANY_ADDRESS, HostPort, NodeInfo, PodInfo, Taint, Toleration, VolumeNeed
from cdmo.model.names import REPARTITIONING_TAINT, is_mig_resource
from cdmo.model.selectors import SelectorTerm, any_matches

PODS = "pods"  # the resource under which a Node says how many pods it takes

_CORDON = Taint("node.kubernetes.io/unschedulable", "", "NoSchedule")
_BARRING_EFFECTS = ("NoSchedule", "NoExecute")


class Bar(Enum):
    """How firmly a pod is kept from a node."""

    NEVER = auto()  # until the pod or the node is changed by somebody
    NOT_READY = auto()  # until the node is well again
    BUSY = auto()  # until something that runs there ends
    OTHERS = auto()  # until pods that its rules, or theirs, are about come or go


@dataclass(frozen=True, slots=True)
class Obstacle:
    """What keeps a pod from a node."""

    bar: Bar
    sentence: str  # without the node's name, no full stop


NodeSelector: TypeAlias = tuple[tuple[str, str], ...]
NodeTerms: TypeAlias = tuple[SelectorTerm, ...] | None
Kind: TypeAlias = tuple[str, NodeSelector, NodeTerms, tuple[Toleration, ...], tuple[VolumeNeed, ...], str]
"""All of a pod that `obstacle` looks at."""


def kind_of(pod: PodInfo) -> Kind:
    """The pod's kind: two pods of equal kind meet equal obstacles on every node."""
    return pod.node_name, pod.node_selector, pod.node_affinity, pod.tolerations, pod.volumes, pod.problem


def obstacle(pod: PodInfo, node: NodeInfo) -> Obstacle | None:
    """What keeps the pod from the node however empty it is, or None."""
    if pod.problem:
        return Obstacle(Bar.NEVER, pod.problem)
    if pod.node_name and pod.node_name != node.name:
        return Obstacle(Bar.NEVER, f"the pod names node {pod.node_name}")
    for key, value in pod.node_selector:
        if node.labels.get(key) != value:
            return Obstacle(Bar.NEVER, f"the pod's nodeSelector wants {key}={value}")
    if pod.node_affinity is not None and not any_matches(pod.node_affinity, node.labels, node.name):
        return Obstacle(Bar.NEVER, "the pod's required node affinity does not match it")
    if not node.ready:
        return Obstacle(Bar.NOT_READY, "it is not ready")
    if node.unschedulable and not tolerated(pod, _CORDON):
        return Obstacle(Bar.NEVER, "it is cordoned")
    for taint in node.taints:
        if taint.key != REPARTITIONING_TAINT and bars(pod, taint):
            value = f"={taint.value}" if taint.value else ""
            return Obstacle(Bar.NEVER, f"the pod does not tolerate its taint {taint.key}{value}:{taint.effect}")
    claim = _out_of_reach(pod.volumes, node)
    return Obstacle(Bar.NEVER, f"no volume for the pod's claim {claim} is within its reach") if claim else None


def selected(pod: PodInfo, node: NodeInfo) -> bool:
    """Whether the pod's node selector and required node affinity match the node."""
    if any(node.labels.get(key) != value for key, value in pod.node_selector):
        return False
    return pod.node_affinity is None or any_matches(pod.node_affinity, node.labels, node.name)


def bars(pod: PodInfo, taint: Taint) -> bool:
    """Whether the taint keeps the pod away."""
    return taint.effect in _BARRING_EFFECTS and not tolerated(pod, taint)


def tolerated(pod: PodInfo, taint: Taint) -> bool:
    """Whether one of the pod's tolerations covers the taint."""
    return any(each.tolerates(taint) for each in pod.tolerations)


def _out_of_reach(needs: tuple[VolumeNeed, ...], node: NodeInfo) -> str:
    """The first claim that nothing could serve on this node; empty if there is none."""
    taken: set[str] = set()
    for need in needs:
        for choice in need.choices:
            if choice.volume not in taken and (
                choice.terms is None or any_matches(choice.terms, node.labels, node.name)
            ):
                if choice.volume:
                    taken.add(choice.volume)
                break
        else:
            return need.claim
    return ""


# --- many nodes at once -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Signature:
    """What of a node a kind of pod looks at, besides taints, cordon and readiness."""

    keys: tuple[str, ...]  # labels, ascending
    names: frozenset[str]  # nodes that it names; all others are alike


def signature(kind: Kind) -> Signature:
    """What of a node this kind looks at: nodes that agree in that meet equal obstacles."""
    node_name, node_selector, node_affinity, _, volumes, _ = kind
    choices = [choice.terms or () for need in volumes for choice in need.choices]
    terms = [term for each in (node_affinity or (), *choices) for term in each]
    keys = {key for key, _ in node_selector} | {each.key for term in terms for each in term.labels}
    names = {value for term in terms for each in term.fields for value in each.values}
    return Signature(tuple(sorted(keys)), frozenset(names | {node_name} - {""}))


_Seen: TypeAlias = dict[object, Obstacle | None]


class Eligibility:
    """`obstacle`, worked out once for every kind of pod and every sort of node: few of either differ."""

    def __init__(self) -> None:
        self._known: dict[Kind, tuple[Signature, _Seen]] = {}

    def obstacle(self, pod: PodInfo, node: NodeInfo) -> Obstacle | None:
        """What keeps the pod from the node however empty it is, or None."""
        return self.judge(pod, (node,))[0]

    def judge(self, pod: PodInfo, nodes: Sequence[NodeInfo]) -> list[Obstacle | None]:
        """What keeps the pod from each of the nodes, in their order."""
        kind = kind_of(pod)
        found = self._known.get(kind)
        if found is None:
            found = self._known[kind] = (signature(kind), {})
        looks_at, seen = found
        sorts = sorts_of(looks_at, nodes)
        answers = [seen.get(sort, _UNSEEN) for sort in sorts]
        if any(answer is _UNSEEN for answer in answers):
            for sort, node in zip(sorts, nodes, strict=True):
                if sort not in seen:
                    seen[sort] = obstacle(pod, node)
            return [seen[sort] for sort in sorts]
        return answers


_UNSEEN = Obstacle(Bar.NEVER, "")


def sorts_of(looks_at: Signature, nodes: Sequence[NodeInfo]) -> list[object]:
    """What a kind sees of each node: equal sorts, equal obstacles."""
    keys, names = looks_at.keys, looks_at.names
    if names:
        named = (node.name if node.name in names else "" for node in nodes)
        return list(zip(named, sorts_of(Signature(keys, frozenset()), nodes), strict=True))
    if not keys:
        return [(node.taints, node.unschedulable, node.ready) for node in nodes]
    first, second = keys[0], keys[-1]
    if len(keys) <= 2:  # nearly always, and a third faster
        return [
            (node.labels.get(first), node.labels.get(second), node.taints, node.unschedulable, node.ready)
            for node in nodes
        ]
    return [(*map(node.labels.get, keys), node.taints, node.unschedulable, node.ready) for node in nodes]


# --- room ---------------------------------------------------------------------------------------------------------


Room: TypeAlias = dict[str, int]
"""What is left on a node by resource, MIG slices apart. Host ports that are taken stand in it as well, as how many
pods hold them (see `_port_keys`), so that a copy of the dict is a copy of the room."""


def room_of(node: NodeInfo, pods: Iterable[PodInfo]) -> Room:
    """What the pods that are on a node leave of its allocatable resources, MIG slices apart."""
    room = {resource: count for resource, count in node.allocatable.items() if not is_mig_resource(resource)}
    alike: dict[tuple[tuple[str, int], ...], int] = {}  # pods by what they need: most need the same
    total = 0
    for pod in pods:
        total += 1
        alike[pod.others] = alike.get(pod.others, 0) + 1
        for port in pod.host_ports:
            for key in _port_keys(port):
                room[key] = room.get(key, 0) + 1
    for others, times in alike.items():
        for resource, count in others:
            room[resource] = room.get(resource, 0) - count * times
    room[PODS] = room.get(PODS, 0) - total
    return room


def take(room: Room, pod: PodInfo) -> None:
    """Take what the pod needs, MIG slices apart, out of the room."""
    for resource, count in needs(pod).items():
        room[resource] = room.get(resource, 0) - count
    for port in pod.host_ports:
        for key in _port_keys(port):
            room[key] = room.get(key, 0) + 1


def give(room: Room, pod: PodInfo) -> None:
    """Undo `take`."""
    for resource, count in needs(pod).items():
        room[resource] += count
    for port in pod.host_ports:
        for key in _port_keys(port):
            room[key] -= 1


def needs(pod: PodInfo) -> Mapping[str, int]:
    """What a pod needs of a node besides MIG slices and host ports; the same object for pods that need the same."""
    return _needs(pod.others)


@lru_cache(maxsize=16384)
def _needs(others: tuple[tuple[str, int], ...]) -> Mapping[str, int]:
    return MappingProxyType({**dict(others), PODS: 1})


def shortage(pod: PodInfo, node: NodeInfo, room: Mapping[str, int]) -> Obstacle | None:
    """Which resource, MIG slices apart, or host port the node has too little of for this pod, or None."""
    for resource, wanted in needs(pod).items():
        if wanted <= room.get(resource, 0):
            continue
        return _lacking(resource, wanted, node, max(0, room.get(resource, 0)))
    for port in pod.host_ports:
        if _taken(port, room):
            return Obstacle(Bar.BUSY, f"port {port.port}/{port.protocol} of it is taken")
    return None


def _lacking(resource: str, wanted: int, node: NodeInfo, left: int) -> Obstacle:
    enough = wanted <= node.allocatable.get(resource, 0)
    bar = Bar.BUSY if enough else Bar.NEVER
    if resource == PODS:
        return Obstacle(bar, "it takes no more pods")
    return Obstacle(bar, f"the pod asks for {_amount(resource, wanted)}, {_amount(resource, left)} is left there")


def _taken(port: HostPort, room: Mapping[str, int]) -> bool:
    """A port is taken on its own address or, by either side, on all of them."""
    own, any_address = _port_keys(port)
    if port.address == ANY_ADDRESS:
        return room.get(any_address, 0) > 0
    everywhere, _ = _port_keys(HostPort(port.port, port.protocol))
    return room.get(own, 0) > 0 or room.get(everywhere, 0) > 0


@lru_cache(maxsize=4096)
def _port_keys(port: HostPort) -> tuple[str, str]:
    """Where a room counts a port: on its address, and on whatever address. No resource is called like that."""
    number = f"hostPort {port.port}/{port.protocol}"
    return f"{number} on {port.address}", number


def _amount(resource: str, count: int) -> str:
    if resource == "cpu":
        return f"{count}m of cpu"
    if resource in ("memory", "ephemeral-storage") or resource.startswith("hugepages-"):
        return f"{count / 2**20:.0f}Mi of {resource}"
    return f"{count} of {resource}"
