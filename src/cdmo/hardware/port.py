"""GpuReader and GpuWriter: all that CDMO ever asks of a driver, in MIG's words.

A GPU can be unwell in two ways. One that does not answer as it should has a `problem`: nobody knows what is on it,
and what is told of it is what it last said. One that answers but has had an error has `faults`: it is to be left
alone until it was reset. An error that is one slice's own is that instance's `fault`.

Two protocols, so that what only looks (doctor, dry runs, discovery) cannot change a GPU even by mistake.
Calls block: the agent makes them in one worker thread. Every call is one short NVML session of its own
(init, act, verify, shutdown), so nothing is stale and a driver upgrade is never held up.

Failures are those of `cdmo.errors.HardwareError`: DriverUnavailable, LibraryMismatch, InUse, NoRoom, NotThere,
NotSupported, NotAllowed, ResetNeeded, GpuLost, DriverFault.
"""

from __future__ import annotations

from dataclasses import dataclass, field
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
    fault: str = ""  # what went wrong on it since it was created; it is not to be used again as it is

    @property
    def device_uuid(self) -> str:
        """The MIG device the plugin would serve: the one full-width compute instance's uuid, or empty."""
        match self.compute_instances:
            case (ComputeInstance(uuid=uuid, full_width=True),):
                return uuid
        return ""


@dataclass(frozen=True, slots=True)
class GpuHealth:
    """What a GPU's driver counts against it. None: it does not say, which for some of it is so while MIG is on."""

    ecc_uncorrectable: bool | None = None  # errors since the last reset, in the GPU's memory or in a slice's SRAM
    remap_pending: bool | None = None  # rows of its memory wait for a reset to be remapped
    remap_failed: bool | None = None  # a row could not be remapped, ever
    recovery_action: int | None = None  # nvmlDeviceGpuRecoveryAction_t, 0 is none; drivers from R570 on
    energy: int | None = field(default=None, compare=False)  # millijoules, counted anew after a reset


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
    lost: bool = False  # the problem is one that only a reset ends, so that a GPU without it was reset meanwhile
    health: GpuHealth = GpuHealth()
    faults: tuple[str, ...] = ()  # why it is out of use although it answers, and what to do about it

    @property
    def trouble(self) -> str:
        """All that is wrong with the GPU as a whole, in one line; empty when it is well."""
        return "; ".join((self.problem, *self.faults) if self.problem else self.faults)


@dataclass(frozen=True, slots=True)
class DriverReading:
    """All GPUs of this host, ascending by PCI bus id."""

    driver_version: str
    gpus: tuple[GpuReading, ...]
    silent: int = 0  # GPUs that the driver counts and that have not answered since this process began

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

    def reset(self, pci_bus_id: str) -> None:
        """Reset the GPU: its instances go, the mode that was pending holds. Raises InUse naming who has it open."""
        ...
