"""The whole question that a plan answers, at one moment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from cdmo.model.cluster import NodeInfo, PodInfo
from cdmo.model.gpu import Gpu, Placement, PodKey
from cdmo.model.profile import GpuModel


@dataclass(frozen=True, slots=True)
class MigNodeView:
    """A node that CDMO manages: the Node, its GPUs as observed, and the layouts that were asked of it."""

    node: NodeInfo
    models: tuple[GpuModel, ...]
    gpus: tuple[Gpu, ...]
    desired: Mapping[str, tuple[Placement, ...]] = field(default_factory=dict)  # by PCI bus id; absent: as it is
    managed: bool = True  # False: label removed or mode Disabled. Nothing is planned there, nothing changed
    alive: bool = True  # its agent's heartbeat is fresh
    problem: str = ""  # why nothing can be planned here just now, one sentence
    pods: tuple[PodInfo, ...] = ()  # every unfinished pod bound to it: for cpu, memory and slices about to be taken
    # By resource: slices that pods hold and that are out of use. The node does not count them, the scheduler counts
    # their pods, so as many idle ones are out of its reach.
    out_of_reach: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Host:
    """A Node that CDMO does not manage. It counts only in rules that relate pods to each other."""

    node: NodeInfo
    pods: tuple[PodInfo, ...] = ()  # every unfinished pod bound to it


class SliceChoice(msgspec.Struct, frozen=True, gc=False):
    """One slice of a pod's plan."""

    gpu: str  # PCI bus id
    placement: Placement
    action: str  # "reuse" | "create"


class Assignment(msgspec.Struct, frozen=True, gc=False):
    """Slices that were planned for a pod and stay its own until it runs or goes."""

    pod: PodKey
    node: str
    slices: tuple[SliceChoice, ...]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything a plan may look at. `now` is unix seconds: the planner has no clock.

    A view that did not change between two snapshots should be the same object: the planner recognises it by that.
    """

    now: float
    nodes: tuple[MigNodeView, ...]
    pending: tuple[PodInfo, ...]  # unbound pods that ask for MIG slices and that the scheduler could not place
    others: tuple[Host, ...] = ()
    namespaces: Mapping[str, Mapping[str, str]] = field(default_factory=dict)  # labels, by name
    assignments: tuple[Assignment, ...] = ()
    avoid: frozenset[tuple[PodKey, str]] = frozenset()  # (pod, node name): tried in vain, left alone for now
