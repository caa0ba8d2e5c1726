"""GpuReader and GpuWriter: all that CDMO ever asks of a driver, in MIG's words.

Two protocols, so that what only looks (doctor, dry runs, discovery) cannot change a GPU even by mistake.
Calls block: the agent makes them in one worker thread. Every call is one short NVML session of its own
(init, act, verify, shutdown), so nothing is stale and a driver upgrade is never held up.

Failures are those of `cdmo.errors.HardwareError`: DriverUnavailable, LibraryMismatch, InUse, NoRoom, NotThere,
NotSupported, NotAllowed, ResetNeeded, GpuLost, DriverFault.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from cdmo.model.gpu import MigMode, Placement
from cdmo.model.profile import GpuModel


@dataclass(frozen=True, slots=True)
class ComputeInstance:
    """A compute instance. The device plugin serves only those as wide as their GPU instance."""

    id: int
    uuid: str  # "MIG-…", the device id the plugin and the kubelet use
    full_width: bool = True


@dataclass(frozen=True, slots=True)
class GpuInstance:
    """A GPU instance that exists."""

    id: int  # NVML's GPU instance id: says nothing about where it lies
    placement: Placement
    size: int  # memory slots
    compute_instances: tuple[ComputeInstance, ...] = ()
    processes: tuple[int, ...] = ()  # process ids NVML reports on it, in this process' pid namespace

    @property
    def device_uuid(self) -> str:
        """The MIG device the plugin would serve: the one full-width compute instance's uuid, or empty."""
        match self.compute_instances:
            case (ComputeInstance(uuid=uuid, full_width=True),):
                return uuid
        return ""


@dataclass(frozen=True, slots=True)
class GpuReading:
    """One physical GPU as its driver reports it."""

    pci_bus_id: str  # "00000000:10:00.0", upper-case hexadecimal as NVML's busId
    uuid: str
    minor: int  # N of /dev/nvidiaN; names the GPU below /proc/driver/nvidia/capabilities
    memory_mib: int
    hopper_or_later: bool  # MIG mode switches without a reset, and is lost on reboot
    mig_mode: MigMode
    model: GpuModel  # no profiles: the card has no MIG
    instances: tuple[GpuInstance, ...] = ()  # ascending by start
    processes: tuple[int, ...] = ()  # on the whole GPU, while MIG is off
    problem: str = ""  # one sentence when the GPU answered only in part (lost, reset needed): leave it alone


@dataclass(frozen=True, slots=True)
class DriverReading:
    """All GPUs of this host, ascending by PCI bus id."""

    driver_version: str
    gpus: tuple[GpuReading, ...]

    def gpu(self, pci_bus_id: str) -> GpuReading | None:
        """The GPU with this PCI bus id, or None."""
        return next((each for each in self.gpus if each.pci_bus_id == pci_bus_id), None)


class GpuReader(Protocol):
    """Looks, never changes."""

    def read(self) -> DriverReading:
        """Everything about every GPU, from a fresh NVML session. Raises HardwareError."""
        ...


class GpuWriter(Protocol):
    """Changes one thing a call, and says what is there afterwards."""

    def create(self, pci_bus_id: str, placement: Placement) -> GpuInstance:
        """Create the GPU instance at exactly this placement, with one full-width compute instance.

        If the compute instance fails the GPU instance is destroyed again before the error is raised.
        """
        ...

    def destroy(self, pci_bus_id: str, instance_id: int, placement: Placement) -> None:
        """Destroy a GPU instance and the compute instances in it.

        Raises NotThere when the instance with that id no longer lies at `placement` (ids are reused), InUse
        while something holds it. Half done (compute instance gone, GPU instance still there) is possible.
        """
        ...

    def set_mig_mode(self, pci_bus_id: str, enabled: bool) -> MigMode:
        """Switch MIG mode and return what the driver says afterwards (read back: NVML does not raise).

        Raises InUse when clients hold the GPU, ResetNeeded is not raised: the mode is then Pending.
        """
        ...
