"""NVML's answers as values of the model: pure, so that odd answers are easy to try."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

from cdmo.errors import GpuLost, HardwareError, ResetNeeded
from cdmo.hardware.port import GpuReading
from cdmo.model.gpu import MigMode
from cdmo.model.names import resource_of_profile
from cdmo.model.profile import Engines, GpuModel, Profile

MAX_TEXT = 96  # NVML_DEVICE_NAME_V2_BUFFER_SIZE

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
    """No more of a text than NVML's own buffers hold."""
    return text[:MAX_TEXT]


def mode_of(current: int, pending: int) -> MigMode:
    """The two modes in one word; values NVML does not define count as no MIG."""
    return _MODES.get((current, pending), MigMode.UNSUPPORTED)


def profile_of(info: ProfileInfo, places: list[tuple[int, int]]) -> Profile | None:
    """A profile with its placements as (start, size); None without any, for it cannot be created.

    The number of instances is cut to that of the placements: for A30 the driver reports too many
    (mig-parted, pkg/mig/discovery).
    """
    if not places:
        return None
    name = bounded(info.name).removeprefix("MIG ").strip()
    return Profile(
        id=info.id,
        name=name,
        resource=resource_of_profile(name),
        compute_slices=info.sliceCount,
        size=places[0][1],
        starts=tuple(sorted(start for start, _ in places)),
        max_instances=min(info.instanceCount, len(places)),
        memory_mib=info.memorySizeMB,
        engines=Engines(info.decoderCount, info.encoderCount, info.jpegCount, info.ofaCount),
    )


def blank_reading(pci_bus_id: str, uuid: str, remembered: GpuReading | None) -> GpuReading:
    """A reading to be filled in, with what is known of this same GPU from before."""
    if remembered is not None and remembered.uuid == uuid:
        return replace(remembered, pci_bus_id=pci_bus_id, instances=(), processes=(), problem="")
    model = GpuModel("unknown", 0, ())
    return GpuReading(pci_bus_id, uuid, -1, 0, False, MigMode.UNSUPPORTED, model)


def problem_of(error: HardwareError) -> str:
    """The sentence for a reading's `problem`, with what to do about it where a person must act."""
    return f"{error}; {error.hint}" if isinstance(error, GpuLost | ResetNeeded) else str(error)
