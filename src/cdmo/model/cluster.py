"""Pods and Nodes, reduced to what planning and the fence need to know."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from cdmo.model.demand import mig_demand
from cdmo.model.gpu import PodKey
from cdmo.model.names import FENCE_LABEL, PARTITIONING_LABEL, PARTITIONING_VALUE, REPARTITIONING_TAINT


@dataclass(frozen=True, slots=True)
class Taint:
    """A taint of a Node."""

    key: str
    value: str
    effect: str  # NoSchedule | PreferNoSchedule | NoExecute


@dataclass(frozen=True, slots=True)
class Toleration:
    """A toleration of a Pod; empty key with operator Exists tolerates everything, empty effect every effect."""

    key: str = ""
    operator: str = "Equal"
    value: str = ""
    effect: str = ""

    def tolerates(self, taint: Taint) -> bool:
        """Whether this toleration covers the taint, as the scheduler judges it."""
        if self.effect and self.effect != taint.effect:
            return False
        if self.key and self.key != taint.key:
            return False
        return self.operator == "Exists" or (bool(self.key) and self.value == taint.value)


@dataclass(frozen=True, slots=True)
class Requirement:
    """One expression of a node selector term: In, NotIn, Exists, DoesNotExist, Gt or Lt."""

    key: str
    operator: str
    values: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SelectorTerm:
    """Requirements that must all hold; a term without any matches nothing."""

    labels: tuple[Requirement, ...] = ()
    fields: tuple[Requirement, ...] = ()  # metadata.name alone


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

    @property
    def demand(self) -> tuple[tuple[str, int], ...]:
        """The MIG slices it asks for, by extended resource."""
        return mig_demand(self.requests)

    @property
    def finished(self) -> bool:
        """Whether its containers are over for good: what it held is free."""
        return self.phase in ("Succeeded", "Failed")


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


def labelled(node: NodeInfo) -> bool:
    """Whether an administrator gave this node to CDMO."""
    return node.labels.get(PARTITIONING_LABEL) == PARTITIONING_VALUE


def carries_fence(node: NodeInfo) -> bool:
    """Whether a Node carries the fence's label or its taint."""
    return FENCE_LABEL in node.labels or any(each.key == REPARTITIONING_TAINT for each in node.taints)
