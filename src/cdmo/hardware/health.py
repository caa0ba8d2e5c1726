"""PURE: which GPUs and which slices are not to be used, from what the driver says now and what is remembered.

What is remembered stands until there is proof of the opposite, for most of it cannot be asked again: NVML hides ECC
errors and remapped rows while there are slices, and an XID is told once.

    a slice's XID      until that slice is destroyed: what is cut in its place is another
    a GPU's XID, ECC   until the GPU was reset
    a pending remap    until the GPU was reset, or NVML says that none is pending
    a failed remap     until NVML says otherwise
    a lost GPU, one whose driver asks for a reset: not remembered, the driver says it at every look

A reboot is a reset, told by the boot id. So is a counter of energy that was higher before ("since the driver was last
reloaded", nvml.h): nothing else turns it back. And so is that a GPU answers that had been lost.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from cdmo.hardware.kernel_log import XidEvent
from cdmo.hardware.port import DriverReading, GpuInstance, GpuReading
from cdmo.hardware.xids import Reach, known, text_of
from cdmo.model.gpu import MigMode

MOST_XIDS = 8  # remembered of one GPU or one slice; what comes after them changes nothing any more
_RESET = "reset it with nothing on it (nvidia-smi --gpu-reset), or reboot the node"

# nvmlDeviceGpuRecoveryAction_t of nvml.h
_ACTIONS = {
    1: "the driver asks for a reset of this GPU",
    2: "the driver asks for a reboot of the node",
    3: "the driver asks that traffic between GPUs is stopped",
    4: "the driver asks that the GPU is drained and reset",
    5: "the driver asks for a recovery of the IMEX domain",
    6: "the driver asks for a reset of the bus",
    7: "the driver asks for a restart of the whole system",
}

Name = Annotated[str, Meta(max_length=96)]  # as NVML bounds its texts
Number = Annotated[int, Meta(ge=0, le=1 << 62)]
Sequence = Annotated[int, Meta(ge=-1, le=1 << 62)]


class SliceFault(Struct, frozen=True):
    """XIDs that hit one slice; its identity is all of the other fields, for ids and UUIDs come back."""

    instance: Number
    profile_id: Number
    start: Number
    uuid: Name
    xids: Annotated[tuple[Number, ...], Meta(max_length=MOST_XIDS)]


class GpuMemory(Struct, frozen=True):
    """What is remembered of one GPU."""

    ecc: bool = False
    remap_pending: bool = False
    remap_failed: bool = False
    xids: Annotated[tuple[Number, ...], Meta(max_length=MOST_XIDS)] = ()
    slices: Annotated[tuple[SliceFault, ...], Meta(max_length=64)] = ()
    energy: Number | None = None  # when it last said it
    lost: bool = False


class Memory(Struct, frozen=True):
    """What is remembered of a host in one boot."""

    boot_id: Name
    sequence: Sequence  # of the last record of the kernel's log that was taken into account
    gpus: Annotated[dict[Name, GpuMemory], Meta(max_length=64)] = {}

    def standing(self) -> object:
        """All of it but what changes at every look."""
        return self.boot_id, self.sequence, {bus: _without_energy(each) for bus, each in self.gpus.items()}

    def without(self, bus: str, instance: int) -> Memory:
        """The same, knowing that this GPU instance was destroyed."""
        gpu = self.gpus.get(bus, GpuMemory())
        slices = tuple(each for each in gpu.slices if each.instance != instance)
        return msgspec.structs.replace(self, gpus={**self.gpus, bus: msgspec.structs.replace(gpu, slices=slices)})


def judge(reading: DriverReading, events: Iterable[XidEvent], memory: Memory) -> tuple[DriverReading, Memory]:
    """The reading with its faults, and what is to be remembered. `events`: in the order of the log."""
    fresh = [each for each in events if each.sequence > memory.sequence]
    gpus, remembered = [], dict(memory.gpus)
    for gpu in reading.gpus:
        known_of_it = _recalled(gpu, memory.gpus.get(gpu.pci_bus_id, GpuMemory()))
        for event in fresh:
            if gpu.pci_bus_id.startswith(f"{event.gpu}."):
                known_of_it = _with_xid(gpu, event, known_of_it)
        remembered[gpu.pci_bus_id] = known_of_it
        gpus.append(_judged(gpu, known_of_it))
    sequence = max([memory.sequence, *(each.sequence for each in fresh)])
    return replace(reading, gpus=tuple(gpus)), Memory(memory.boot_id, sequence, remembered)


def _recalled(gpu: GpuReading, before: GpuMemory) -> GpuMemory:
    """What is still true of what was known, with what the driver says now."""
    if gpu.problem:
        # It says nothing, or nothing that can be relied on.
        return msgspec.structs.replace(before, lost=before.lost or gpu.lost)
    health = gpu.health
    turned_back = before.energy is not None and health.energy is not None and health.energy < before.energy
    was_reset = before.lost or turned_back
    there = {(each.id, each.placement.profile_id, each.placement.start, each.device_uuid) for each in gpu.instances}
    return GpuMemory(
        ecc=_latest(health.ecc_uncorrectable, before.ecc and not was_reset),
        remap_pending=_latest(health.remap_pending, before.remap_pending and not was_reset),
        remap_failed=_latest(health.remap_failed, before.remap_failed),
        xids=() if was_reset else before.xids,
        slices=()
        if was_reset
        else tuple(
            each for each in before.slices if (each.instance, each.profile_id, each.start, each.uuid) in there
        ),
        energy=before.energy if health.energy is None else health.energy,
    )


def _latest(said: bool | None, before: bool) -> bool:
    return before if said is None else said


def _with_xid(gpu: GpuReading, event: XidEvent, before: GpuMemory) -> GpuMemory:
    entry = known(event.xid)
    if entry is not None and entry.reach is Reach.NOBODY:
        return before
    if event.gpu_instance is not None and (entry is None or entry.reach is Reach.SLICE):
        instance = next((each for each in gpu.instances if each.id == event.gpu_instance), None)
        return before if instance is None else _with_slice_xid(instance, event.xid, before)
    if entry is not None and entry.reach is Reach.SLICE and gpu.mig_mode is not MigMode.ENABLED:
        return before  # an application's on a whole GPU
    return msgspec.structs.replace(before, xids=_added(before.xids, event.xid))


def _with_slice_xid(instance: GpuInstance, xid: int, before: GpuMemory) -> GpuMemory:
    where = instance.placement
    fault = SliceFault(instance.id, where.profile_id, where.start, instance.device_uuid, ())
    others = []
    for each in before.slices:
        if each.instance == instance.id:
            fault = each
        else:
            others.append(each)
    fault = msgspec.structs.replace(fault, xids=_added(fault.xids, xid))
    return msgspec.structs.replace(before, slices=(*others, fault))


def _added(xids: tuple[int, ...], xid: int) -> tuple[int, ...]:
    return xids if xid in xids else (*xids, xid)[:MOST_XIDS]


def _judged(gpu: GpuReading, memory: GpuMemory) -> GpuReading:
    faults = [f"{text_of(each)}: {_RESET}" for each in memory.xids]
    action = gpu.health.recovery_action
    if action and not gpu.problem:
        faults.append(_ACTIONS.get(action, f"the driver asks for recovery action {action}"))
    if memory.ecc:
        faults.append(f"it had uncorrectable ECC errors: {_RESET}")
    if memory.remap_pending:
        faults.append(f"rows of its memory wait to be remapped: {_RESET}")
    if memory.remap_failed:
        faults.append("rows of its memory could not be remapped: replace the card")
    hit = {each.instance: each.xids for each in memory.slices}
    instances = tuple(
        replace(each, fault=", ".join(map(text_of, hit[each.id]))) if each.id in hit else each
        for each in gpu.instances
    )
    return replace(gpu, faults=tuple(faults), instances=instances)


def _without_energy(gpu: GpuMemory) -> GpuMemory:
    return msgspec.structs.replace(gpu, energy=None)
