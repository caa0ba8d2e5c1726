"""NVML's answers as values of the model: pure, so that odd answers are easy to try."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Protocol

from cdmo.errors import DriverFault, GpuLost, HardwareError, ResetNeeded
from cdmo.hardware.port import GpuReading
from cdmo.model.gpu import MigMode, Placement
from cdmo.model.names import resource_of_profile
from cdmo.model.profile import Engines, GpuModel, Profile
from cdmo.text import printable

MAX_TEXT = 96  # NVML_DEVICE_NAME_V2_BUFFER_SIZE

# What a MigNode can say of a card; real ones are far below. An answer beyond would make every status of the node one
# that the API server refuses.
MAX_PROFILE_ID = 1023
MAX_SLOTS = 32
MAX_NAME = 63
MAX_MEMORY_MIB = 2**43  # of one profile: what fits into 63 bits as bytes
_BUS_ID = re.compile(r"[0-9A-F]{8}:[0-9A-F]{2}:[0-9A-F]{2}\.[0-7]")

_MODES = {
    (0, 0): MigMode.DISABLED,
    (1, 1): MigMode.ENABLED,
    (0, 1): MigMode.ENABLE_PENDING,
    (1, 0): MigMode.DISABLE_PENDING,
}


class ProfileInfo(Protocol):
    """The fields of nvmlGpuInstanceProfileInfo_v2_t that CDMO uses."""

    id: int
    sliceCount: int  # noqa: N815 the names are NVML's
    instanceCount: int  # noqa: N815
    decoderCount: int  # noqa: N815
    encoderCount: int  # noqa: N815
    jpegCount: int  # noqa: N815
    ofaCount: int  # noqa: N815
    memorySizeMB: int  # noqa: N815 in MiB, whatever the name says
    name: str


def bounded(text: str) -> str:
    """No more of a text than NVML's own buffers hold, and nothing in it but what can be printed."""
    return printable(text[:MAX_TEXT])


def bus_id_of(text: str) -> str:
    """A PCI bus id, the key of a GPU within its node. Raises DriverFault for what is none."""
    bus = bounded(text).upper()
    if not _BUS_ID.fullmatch(bus):
        raise DriverFault(f"the driver names a GPU by {bus!r}, which is no PCI bus id")
    return bus


def placement_of(profile_id: int, start: int) -> Placement:
    """Where an instance lies. Raises DriverFault for a place that no card has."""
    if not (0 <= profile_id <= MAX_PROFILE_ID and 0 <= start < MAX_SLOTS):
        raise DriverFault(f"the driver reports profile {profile_id} at slot {start}, which no card has")
    return Placement(profile_id, start)


def mode_of(current: int, pending: int) -> MigMode:
    """The two modes in one word; values NVML does not define count as no MIG."""
    return _MODES.get((current, pending), MigMode.UNSUPPORTED)


def profile_of(info: ProfileInfo, places: list[tuple[int, int]]) -> Profile | None:
    """A profile with its placements as (start, size); None without any, for it cannot be created, and for one that no
    card can have.

    The number of instances is cut to that of the placements: for A30 the driver reports too many
    (mig-parted, pkg/mig/discovery).
    """
    starts = {start for start, _ in places}
    if not starts or not (0 <= info.id <= MAX_PROFILE_ID and min(starts) >= 0 and max(starts) < MAX_SLOTS):
        return None
    name = bounded(info.name).removeprefix("MIG ").strip()[:MAX_NAME]
    return Profile(
        id=info.id,
        name=name,
        resource=resource_of_profile(name),
        compute_slices=info.sliceCount,
        size=places[0][1],
        starts=tuple(sorted(starts)),
        max_instances=min(info.instanceCount, len(starts)),
        memory_mib=min(info.memorySizeMB, MAX_MEMORY_MIB),
        engines=Engines(info.decoderCount, info.encoderCount, info.jpegCount, info.ofaCount),
    )


def blank_reading(pci_bus_id: str, uuid: str, remembered: GpuReading | None) -> GpuReading:
    """A reading to be filled in, with what this same GPU said before: what it does not say now stays as it was."""
    if remembered is not None and remembered.uuid == uuid:
        return replace(remembered, pci_bus_id=pci_bus_id, problem="", lost=False)
    model = GpuModel("unknown", 0, ())
    return GpuReading(pci_bus_id, uuid, -1, 0, False, MigMode.UNSUPPORTED, model)


def failed(reading: GpuReading, error: HardwareError) -> GpuReading:
    """The reading of a GPU that stopped answering: what is wrong, with what to do about it where a person must act.

    NVIDIA's kernel module never takes back that a GPU is lost or must be reset: it forgets it with the reset.
    """
    lost = isinstance(error, GpuLost | ResetNeeded)
    return replace(reading, problem=f"{error}; {error.hint}" if lost else str(error), lost=lost)
