"""Pods and Nodes, reduced to what planning and the fence need to know."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

import msgspec

from cdmo.model.demand import mig_demand
from cdmo.model.gpu import PodKey
from cdmo.model.names import (
    FENCE_LABEL,
    PARTITIONING_LABEL,
    PARTITIONING_VALUE,
    REPARTITIONING_TAINT,
    is_mig_resource,
)
from cdmo.model.relations import PodTerm, SpreadRule
from cdmo.model.selectors import Requirement as Requirement
from cdmo.model.selectors import SelectorTerm as SelectorTerm

ANY_ADDRESS = "0.0.0.0"  # noqa: S104 (a host port without an address; nothing listens here)

Amounts = tuple[tuple[str, int], ...]  # resource and count, ascending by resource


class Taint(msgspec.Struct, frozen=True, gc=False):
    """A taint of a Node."""

    key: str
    value: str
    effect: str  # NoSchedule | PreferNoSchedule | NoExecute


class Toleration(msgspec.Struct, frozen=True, gc=False):
    """A toleration of a Pod; empty key with operator Exists tolerates everything, empty effect every effect."""

    key: str = ""
    operator: str = "Equal"
    value: str = ""
    effect: str = ""

    def tolerates(self, taint: Taint) -> bool:
        """Whether this toleration covers the taint, as the scheduler of Kubernetes 1.37 judges it.

        Gt and Lt tolerate nothing: they belong to a feature (TaintTolerationComparisonOperators) that is off unless
        an administrator turned it on, and the API server refuses them while it is off.
        """
        if self.effect and self.effect != taint.effect:
            return False
        if self.key and self.key != taint.key:
            return False
        return self.operator == "Exists" or (self.operator == "Equal" and self.value == taint.value)


class HostPort(msgspec.Struct, frozen=True, gc=False):
    """A port of the node that a pod takes."""

    port: int
    protocol: str = "TCP"
    address: str = ANY_ADDRESS


class VolumeChoice(msgspec.Struct, frozen=True, gc=False):
    """One way to serve a claim: from which nodes the volume can be reached."""

    terms: tuple[SelectorTerm, ...] | None = None  # any of which must match; None: from everywhere
    volume: str = ""  # a PersistentVolume that serves one claim only; empty: bound already, or made on demand


class VolumeNeed(msgspec.Struct, frozen=True, gc=False):
    """A claim of a pod: the first choice that is within reach of the node and not taken yet serves it."""

    claim: str
    choices: tuple[VolumeChoice, ...]


@dataclass(frozen=True, slots=True)
class PodInfo:
    """A pod: who it is, where it is, what it asks for and where it may run."""

    key: PodKey
    created: float = 0.0  # unix seconds
    priority: int = 0
    phase: str = "Pending"
    node_name: str = ""
    nominated_node: str = ""
    scheduler_name: str = "default-scheduler"
    gated: bool = False  # scheduling gates are left
    unschedulable: bool = False  # the scheduler tried and said so: PodScheduled=False, reason Unschedulable
    terminating: bool = False
    requests: Mapping[str, int] = field(default_factory=dict)  # devices, millicores (cpu), bytes
    node_selector: tuple[tuple[str, str], ...] = ()
    node_affinity: tuple[SelectorTerm, ...] | None = None  # required terms, any of which must match
    tolerations: tuple[Toleration, ...] = ()
    devices: tuple[tuple[str, tuple[str, ...]], ...] = ()  # status.allocatedResourcesStatus: resource, device ids
    labels: tuple[tuple[str, str], ...] = ()  # ascending
    host_ports: tuple[HostPort, ...] = ()
    spread: tuple[SpreadRule, ...] = ()
    affinity: tuple[PodTerm, ...] = ()
    anti_affinity: tuple[PodTerm, ...] = ()
    claims: tuple[str, ...] = ()  # PersistentVolumeClaims it names, in the order of its volumes
    own_claims: tuple[str, ...] = ()  # those that Kubernetes makes for this pod alone (generic ephemeral volumes)
    volumes: tuple[VolumeNeed, ...] = ()  # what the claims ask of a node; filled in by model.storage
    exclusive_claims: tuple[str, ...] = ()  # ReadWriteOncePod; filled in by model.storage
    problem: str = ""  # why it can run nowhere, without a full stop; filled in by model.storage
    demand: Amounts = field(init=False, repr=False, compare=False)  # the MIG slices it asks for
    others: Amounts = field(init=False, repr=False, compare=False)  # everything else that it asks for

    def __post_init__(self) -> None:
        """Take the requests apart, once: every round of planning looks at them."""
        demand, others = _taken_apart(tuple(self.requests.items()))
        object.__setattr__(self, "demand", demand)
        object.__setattr__(self, "others", others)

    @property
    def finished(self) -> bool:
        """Whether its containers are over for good: what it held is free."""
        return self.phase in ("Succeeded", "Failed")


@lru_cache(maxsize=16384)  # pods of a cluster ask for the same few sets of resources, and share these tuples
def _taken_apart(requests: Amounts) -> tuple[Amounts, Amounts]:
    others = sorted((name, count) for name, count in requests if count and not is_mig_resource(name))
    return mig_demand(dict(requests)), tuple(others)


@dataclass(frozen=True, slots=True)
class NodeInfo:
    """A Node: its labels, its taints and what it offers."""

    name: str
    uid: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: tuple[Taint, ...] = ()
    unschedulable: bool = False
    ready: bool = True
    allocatable: Mapping[str, int] = field(default_factory=dict)  # devices, millicores (cpu), bytes
    capacity: Mapping[str, int] = field(default_factory=dict)
    mig_mode: str = ""  # the annotation cdmo.clear.ml/mig-mode


def labelled(node: NodeInfo) -> bool:
    """Whether an administrator gave this node to CDMO."""
    return node.labels.get(PARTITIONING_LABEL) == PARTITIONING_VALUE


def carries_fence(node: NodeInfo) -> bool:
    """Whether a Node carries the fence's label or its taint."""
    return FENCE_LABEL in node.labels or any(each.key == REPARTITIONING_TAINT for each in node.taints)
