"""A GPU and the slices on it, as seen at one moment."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import msgspec


class MigMode(StrEnum):
    """Current and pending MIG mode in one word; Pending needs a GPU reset (Ampere)."""

    ENABLED = "Enabled"
    DISABLED = "Disabled"
    ENABLE_PENDING = "EnablePending"
    DISABLE_PENDING = "DisablePending"
    UNSUPPORTED = "Unsupported"


class DeviceState(StrEnum):
    """What a slice is doing."""

    IDLE = "Idle"
    IN_USE = "InUse"  # a pod holds it, or a process runs on it
    BROKEN = "Broken"  # no full-width compute instance in it: the device plugin cannot serve it
    UNHEALTHY = "Unhealthy"  # idle, but an error hit it: it is cut anew before anybody gets it


# Structs where there are hundreds of thousands of a kind: smaller, and compared and hashed in C.
class Placement(msgspec.Struct, frozen=True, order=True, gc=False):
    """Where on a GPU an instance of which profile lies. One GPU never holds two equal placements."""

    profile_id: int
    start: int  # first memory slot


class PodKey(msgspec.Struct, frozen=True, order=True, gc=False):
    """A pod by name and by uid: a pod made anew under an old name is another pod."""

    namespace: str
    name: str
    uid: str = ""

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


class Slice(msgspec.Struct, frozen=True, gc=False):
    """A GPU instance with its compute instance: what the device plugin calls a MIG device."""

    placement: Placement
    state: DeviceState = DeviceState.IDLE
    uuid: str = ""  # "MIG-…"; empty without a compute instance. Not an identity: it may come back
    pod: PodKey | None = None


@dataclass(frozen=True, slots=True)
class Gpu:
    """One physical GPU of a node."""

    pci_bus_id: str  # "00000000:10:00.0": the key within a node, stable over reboots
    uuid: str
    model: int  # index into the node's models
    mig_mode: MigMode
    slices: tuple[Slice, ...] = ()
    healthy: bool = True
    problem: str = ""  # why it is not healthy, one sentence
