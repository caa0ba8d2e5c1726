"""The whole answer: a place or a reason for every pending pod, and the layouts that follow."""

from __future__ import annotations

from dataclasses import dataclass

from cdmo.model.gpu import Placement, PodKey
from cdmo.model.reasons import WaitingCode
from cdmo.model.snapshot import Assignment


@dataclass(frozen=True, slots=True)
class GpuChange:
    """A new desired layout of one GPU, and how it differs from what is there."""

    node: str
    gpu: str  # PCI bus id
    layout: tuple[Placement, ...]  # the whole desired layout, ascending
    create: tuple[Placement, ...]
    destroy: tuple[Placement, ...]


@dataclass(frozen=True, slots=True)
class Waiting:
    """Why a pod has no place yet: a code for machines, a sentence for people."""

    pod: PodKey
    code: WaitingCode
    reason: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do. Deterministic: the same snapshot and policy give the same plan."""

    placements: tuple[Assignment, ...] = ()
    changes: tuple[GpuChange, ...] = ()
    waiting: tuple[Waiting, ...] = ()
