"""Pods that may not run everywhere: 20 classes of node selectors, required node affinity, taints and tolerations.

Nodes are in four zones and five pools, taken in turns; one pool is tainted. A class of pods is at home in one zone
and one pool, and says so in one of four ways.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from cdmo.model.cluster import PodInfo, Requirement, SelectorTerm, Taint, Toleration
from cdmo.model.relations import PodTerm, SpreadRule
from cdmo.model.snapshot import MigNodeView, Snapshot

ZONE, POOL = "topology.kubernetes.io/zone", "example.com/pool"
ZONES = tuple(f"zone-{number}" for number in range(4))
POOLS = tuple(f"pool-{number}" for number in range(5))
CLASSES = tuple((zone, pool) for zone in ZONES for pool in POOLS)
TAINTED = POOLS[-1]
_TAINT = Taint("example.com/dedicated", TAINTED, "NoSchedule")
_TOLERATION = Toleration("example.com/dedicated", "Equal", TAINTED, "NoSchedule")


def constrained(snapshot: Snapshot) -> Snapshot:
    """The same question with every node in one of the 20 classes, and every pending pod too."""
    return replace(
        snapshot,
        nodes=tuple(_node(number, view) for number, view in enumerate(snapshot.nodes)),
        pending=tuple(_pod(number, pod) for number, pod in enumerate(snapshot.pending)),
    )


def related(snapshot: Snapshot) -> Snapshot:
    """A constrained question in which the pods of two classes in 20 are also kept apart from each other.

    The pods of one of them do not share a node (required anti-affinity), those of the other spread over zones.
    """
    return replace(
        snapshot, pending=tuple(_apart(number % len(CLASSES), pod) for number, pod in enumerate(snapshot.pending))
    )


def _node(number: int, view: MigNodeView) -> MigNodeView:
    zone, pool = CLASSES[number % len(CLASSES)]
    node = replace(
        view.node,
        labels={**view.node.labels, ZONE: zone, POOL: pool, "example.com/generation": str(number % 3)},
        taints=(_TAINT,) if pool == TAINTED else (),
    )
    return replace(view, node=node)


def _pod(number: int, pod: PodInfo) -> PodInfo:
    zone, pool = CLASSES[number % len(CLASSES)]
    said = _WAYS[number % len(CLASSES) % len(_WAYS)](pod, zone, pool)
    return replace(said, tolerations=(_TOLERATION,)) if pool == TAINTED else said


def _by_selector(pod: PodInfo, zone: str, pool: str) -> PodInfo:
    return replace(pod, node_selector=((POOL, pool), (ZONE, zone)))


def _by_affinity(pod: PodInfo, zone: str, pool: str) -> PodInfo:
    term = SelectorTerm(labels=(Requirement(ZONE, "In", (zone,)), Requirement(POOL, "In", (pool,))))
    return replace(pod, node_affinity=(term,))


def _by_both(pod: PodInfo, zone: str, pool: str) -> PodInfo:
    others = tuple(each for each in POOLS if each != pool)
    return replace(
        pod,
        node_selector=((ZONE, zone),),
        node_affinity=(SelectorTerm(labels=(Requirement(POOL, "NotIn", others),)),),
    )


def _by_either(pod: PodInfo, zone: str, pool: str) -> PodInfo:
    """Two terms, any of which must match: the newer nodes of the zone's pool, or the older ones."""
    home = (Requirement(ZONE, "In", (zone,)), Requirement(POOL, "In", (pool,)))
    newer = SelectorTerm(labels=(*home, Requirement("example.com/generation", "Gt", ("0",))))
    older = SelectorTerm(labels=(*home, Requirement("example.com/generation", "Lt", ("1",))))
    return replace(pod, node_affinity=(newer, older))


_WAYS: tuple[Callable[[PodInfo, str, str], PodInfo], ...] = (_by_selector, _by_affinity, _by_both, _by_either)


def _apart(number: int, pod: PodInfo) -> PodInfo:
    app = (("app", f"class-{number}"),)
    mine = (Requirement("app", "In", (f"class-{number}",)),)
    if number == 0:
        return replace(
            pod, labels=app, anti_affinity=(PodTerm("kubernetes.io/hostname", mine, (pod.key.namespace,)),)
        )
    if number == 1:
        return replace(pod, labels=app, node_affinity=None, spread=(SpreadRule(1, ZONE, mine),))
    return replace(pod, labels=app)
