"""The whole answer: a place or a reason for every pending pod, and the layouts that follow."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from cdmo.model.gpu import Placement, PodKey
from cdmo.model.reasons import WaitingCode
from cdmo.model.snapshot import Assignment


class GpuChange(msgspec.Struct, frozen=True, gc=False):
    """A new desired layout of one GPU, and how it differs from what is there."""

    node: str
    gpu: str  # PCI bus id
    layout: tuple[Placement, ...]  # the whole desired layout, ascending
    create: tuple[Placement, ...]
    destroy: tuple[Placement, ...]


class Waiting(msgspec.Struct, frozen=True, gc=False):
    """Why a pod has no place yet: a code for machines, a sentence for people."""

    pod: PodKey
    code: WaitingCode
    reason: str


@dataclass(frozen=True, slots=True)
class Window:
    """Slots that nobody else is given, so that a pod which has waited for long can have them one day."""

    pod: PodKey
    node: str
    places: tuple[tuple[str, Placement], ...]  # PCI bus id, and what is to be cut there
    in_the_way: tuple[tuple[str, Placement], ...]  # slices that have to end before; nobody new is to get them


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do. Deterministic: the same snapshot and policy give the same plan."""

    placements: tuple[Assignment, ...] = ()
    changes: tuple[GpuChange, ...] = ()
    waiting: tuple[Waiting, ...] = ()
    windows: tuple[Window, ...] = ()
