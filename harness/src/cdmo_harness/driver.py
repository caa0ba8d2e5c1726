"""A simulated NVIDIA driver: GPUs in a state file, answered for by the simulated libnvidia-ml.so.1.

Programs under test get `SimulatedDriver.environment()` and load the library as they would load NVIDIA's; the
test or demo holds the `SimulatedDriver` and does to the hardware what people, processes and time do to it.
Several drivers (nodes) can live in one process: every call names its own state.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from cdmo.errors import BadInput
from cdmo_harness import driver_abi as abi
from cdmo_harness.errors import HarnessError
from cdmo_harness.nvml_build import SimulatorNotBuilt, build_library

__all__ = [
    "DEFAULT_DRIVER_VERSION",
    "DriverCounters",
    "GpuSnapshot",
    "GpuSpec",
    "SimulatedDriver",
    "SimulatorNotBuilt",
    "SimulatorRefused",
    "SliceSnapshot",
    "build_library",
]

DEFAULT_DRIVER_VERSION = "580.159.04"  # of the hosts whose answers are recorded in tests/data/nvml
XID_EVENT = 8  # nvmlEventTypeXidCriticalError
_END_OF_LIST = 6  # NVML_ERROR_NOT_FOUND


class SimulatorRefused(HarnessError):
    """A knob of the simulated driver did not turn. `code` is NVML's return code."""

    def __init__(self, message: str, *, code: int, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.code = code


@dataclass(frozen=True, slots=True)
class GpuSpec:
    """A GPU to simulate. `card` is a key of sim/nvml/cards, for instance "H100-SXM5-80GB"."""

    card: str
    pci_bus_id: str  # "00000000:10:00.0": also decides the NVML index
    uuid: str  # "GPU-" and a UUID in lower case
    minor: int | None = None  # of /dev/nvidiaN; None: the place in the list of GPUs


@dataclass(frozen=True, slots=True)
class SliceSnapshot:
    """A GPU instance with one of its compute instances, or with none."""

    gpu_instance: int
    compute_instance: int | None
    profile_id: int
    profile: str  # "3g.40gb"
    start: int  # first memory slot
    size: int  # memory slots
    uuid: str  # "MIG-…", empty without a compute instance
    full_width: bool  # the compute instance has all of the GPU instance's compute slices
    processes: int


@dataclass(frozen=True, slots=True)
class GpuSnapshot:
    """One GPU at one moment."""

    index: int  # as NVML counts
    card: str
    uuid: str
    pci_bus_id: str
    minor: int
    mig_enabled: bool
    mig_pending: bool  # the mode after the next reset
    lost: bool
    processes: int  # on the whole GPU and on its slices
    slices: tuple[SliceSnapshot, ...]  # by GPU instance id


@dataclass(frozen=True, slots=True)
class DriverCounters:
    """What the library counted since the state was made, over all processes."""

    refusals: dict[int, int]  # by NVML return code (63: 63 and above), codes that never came left out
    gpu_instances_created: int
    gpu_instances_destroyed: int
    compute_instances_created: int
    compute_instances_destroyed: int
    destroyed_in_use_attempts: int  # destroys of an instance with a process on it; each was refused
    mode_changes: int


class SimulatedDriver:
    """The hardware behind one state file. Close it, or use it as a context manager, to give back the mapping."""

    def __init__(self, library: Path, state: Path, root: Path) -> None:
        """Open an existing state; `root` is the host root that holds the driver's /proc files.

        Raises SimulatorRefused where the state is missing, cut short or made by another build.
        """
        self.library = library
        self.state = state
        self.root = root
        self._functions = abi.load(library)
        self._handle = ctypes.c_void_p()
        self._check(
            self._functions.nvmlSimOpen(os.fsencode(state), ctypes.byref(self._handle)), f"opening {state.name}"
        )

    @classmethod
    def create(
        cls,
        library: Path,
        state: Path,
        root: Path,
        *,
        gpus: Sequence[GpuSpec],
        driver_version: str = DEFAULT_DRIVER_VERSION,
    ) -> Self:
        """Make a new state file with these GPUs, in place of an older one, and the /proc files below `root`."""
        functions = abi.load(library)
        state.parent.mkdir(parents=True, exist_ok=True)
        root.mkdir(parents=True, exist_ok=True)
        code = functions.nvmlSimCreate(os.fsencode(state), os.fsencode(root), driver_version.encode())
        if code != 0:
            raise SimulatorRefused(f"the state file {state.name} cannot be made", code=code)
        driver = cls(library, state, root)
        for place, gpu in enumerate(gpus):
            driver._add(gpu, place)
        return driver

    def _add(self, gpu: GpuSpec, place: int) -> None:
        if gpu.card not in self.cards():
            raise BadInput(f"no such card: {gpu.card}", hint="known cards: " + ", ".join(self.cards()))
        minor = place if gpu.minor is None else gpu.minor
        code = self._functions.nvmlSimAddGpu(
            self._handle, gpu.card.encode(), gpu.pci_bus_id.encode(), minor, gpu.uuid.encode()
        )
        self._check(code, f"adding GPU {gpu.uuid} at {gpu.pci_bus_id} with minor {minor}")

    def _check(self, code: int, doing: str) -> None:
        if code != 0:
            said = self._functions.nvmlErrorString(code).decode()
            raise SimulatorRefused(f"{doing}: {said}", code=code)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give back the mapping; the state stays."""
        if self._handle:
            self._functions.nvmlSimClose(self._handle)
            self._handle = ctypes.c_void_p()

    def cards(self) -> tuple[str, ...]:
        """The keys of all cards that can be simulated."""
        return tuple(key.decode() for key in iter_until_none(self._functions.nvmlSimCardKey))

    def environment(self) -> dict[str, str]:
        """What a child process needs to see these GPUs."""
        older = os.environ.get("LD_LIBRARY_PATH", "")
        search = f"{self.library.parent}:{older}" if older else str(self.library.parent)
        return {
            "NVMLSIM_STATE": str(self.state),
            "NVMLSIM_ROOT": str(self.root),
            "LD_LIBRARY_PATH": search,
        }

    # Faults of one entry point, named as exported ("nvmlDeviceCreateGpuInstanceWithPlacement").

    def set_latency(self, entry: str, seconds: float) -> None:
        """Every call of `entry` takes this much longer, in its caller's process; 0 takes it back."""
        code = self._functions.nvmlSimSetLatency(self._handle, entry.encode(), round(seconds * 1e6))
        self._check(code, f"setting the latency of {entry}")

    def fail_nth(self, entry: str, code: int, *, nth: int = 1) -> None:
        """The nth call of `entry` from now on answers `code` and does nothing; 1 is the next."""
        answer = self._functions.nvmlSimFailNth(self._handle, entry.encode(), nth, code)
        self._check(answer, f"making call {nth} of {entry} fail with {code}")

    def hang(self, entry: str) -> None:
        """Callers of `entry` block until `release`."""
        self._check(self._functions.nvmlSimSetHung(self._handle, entry.encode(), 1), f"hanging {entry}")

    def release(self, entry: str) -> None:
        """Let the callers that hang in `entry` go on."""
        self._check(self._functions.nvmlSimSetHung(self._handle, entry.encode(), 0), f"releasing {entry}")

    def hung_calls(self, entry: str) -> int:
        """How many calls came into `entry` since it was hung and have not gone on."""
        count = ctypes.c_uint()
        code = self._functions.nvmlSimHungCalls(self._handle, entry.encode(), ctypes.byref(count))
        self._check(code, f"counting the calls that hang in {entry}")
        return count.value

    # What happens to GPUs and slices, named by their UUIDs.

    def add_process(self, uuid: str, pid: int, *, memory_bytes: int = 0) -> None:
        """A compute process starts on a slice, or on a whole GPU whose MIG mode is off."""
        code = self._functions.nvmlSimAddProcess(self._handle, uuid.encode(), pid, memory_bytes)
        self._check(code, f"starting process {pid} on {uuid}")

    def remove_process(self, uuid: str, pid: int) -> None:
        """The process ends."""
        code = self._functions.nvmlSimRemoveProcess(self._handle, uuid.encode(), pid)
        self._check(code, f"ending process {pid} on {uuid}")

    def inject_xid(self, uuid: str, xid: int) -> None:
        """A slice or a GPU has an XID: every process that registered hears of it, the kernel's log shows it."""
        code = self._functions.nvmlSimInjectEvent(self._handle, uuid.encode(), XID_EVENT, xid)
        self._check(code, f"reporting XID {xid} of {uuid}")

    def set_lost(self, uuid: str, lost: bool) -> None:
        """The GPU falls off the bus, or is back as after a reset; a reboot or reset brings it back too."""
        self._check(self._functions.nvmlSimSetLost(self._handle, uuid.encode(), int(lost)), f"losing {uuid}")

    def set_ecc_errors(self, uuid: str, count: int) -> None:
        """Uncorrectable ECC errors since the last reset, in a slice's SRAM or in a GPU's memory."""
        code = self._functions.nvmlSimSetEccErrors(self._handle, uuid.encode(), count)
        self._check(code, f"setting the ECC errors of {uuid}")

    def set_remapping(self, uuid: str, *, pending: bool = False, failed: bool = False) -> None:
        """Whether rows of a GPU's memory wait for a reset to be remapped, and whether that has ever failed."""
        code = self._functions.nvmlSimSetRemapping(self._handle, uuid.encode(), int(pending), int(failed))
        self._check(code, f"setting the row remapping of {uuid}")

    def set_recovery_action(self, uuid: str, action: int) -> None:
        """What the driver wants done about a GPU (NVML_GPU_RECOVERY_ACTION_*); 0 is nothing."""
        code = self._functions.nvmlSimSetRecoveryAction(self._handle, uuid.encode(), action)
        self._check(code, f"setting the recovery action of {uuid}")

    def reset_gpu(self, uuid: str) -> None:
        """Reset one GPU: its instances go, its pending MIG mode becomes the current one."""
        self._check(self._functions.nvmlSimResetGpu(self._handle, uuid.encode()), f"resetting {uuid}")

    def reboot(self) -> None:
        """Reboot the host: processes and instances go, and MIG mode too on Hopper and later."""
        self._check(self._functions.nvmlSimReboot(self._handle), "rebooting")

    # The driver itself.

    def set_privileged(self, privileged: bool) -> None:
        """Whether callers may change MIG at all."""
        code = self._functions.nvmlSimSetPrivileged(self._handle, int(privileged))
        self._check(code, "setting the privilege")

    def set_driver_version(self, version: str) -> None:
        """Another driver was installed."""
        code = self._functions.nvmlSimSetDriverVersion(self._handle, version.encode())
        self._check(code, f"setting the driver version {version}")

    def set_capability_major(self, major: int) -> None:
        """The kernel module got another major number for nvidia-caps when it was loaded."""
        code = self._functions.nvmlSimSetCapabilityMajor(self._handle, major)
        self._check(code, f"setting the major number {major} of nvidia-caps")

    def counters(self) -> DriverCounters:
        """What the library counted so far."""
        raw = abi.Counters()
        self._check(self._functions.nvmlSimReadCounters(self._handle, ctypes.byref(raw)), "reading the counters")
        return DriverCounters(
            refusals={code: count for code, count in enumerate(raw.refusals) if count},
            gpu_instances_created=raw.gpu_instances_created,
            gpu_instances_destroyed=raw.gpu_instances_destroyed,
            compute_instances_created=raw.compute_instances_created,
            compute_instances_destroyed=raw.compute_instances_destroyed,
            destroyed_in_use_attempts=raw.destroyed_in_use_attempts,
            mode_changes=raw.mode_changes,
        )

    def snapshot(self) -> tuple[GpuSnapshot, ...]:
        """All GPUs with their slices, in NVML's order. Each GPU is read in one piece, not all of them."""
        raw = abi.Gpu()
        gpus: list[GpuSnapshot] = []
        while True:
            code = self._functions.nvmlSimReadGpu(self._handle, len(gpus), ctypes.byref(raw))
            if code == _END_OF_LIST:
                return tuple(gpus)
            self._check(code, f"reading GPU {len(gpus)}")
            gpus.append(_gpu_snapshot(raw))


def iter_until_none(key_at: ctypes._NamedFuncPointer) -> Iterable[bytes]:
    """The answers of `key_at` for 0, 1, 2 … up to its first None."""
    index = 0
    while (key := key_at(index)) is not None:
        yield key
        index += 1


def _gpu_snapshot(raw: abi.Gpu) -> GpuSnapshot:
    return GpuSnapshot(
        index=raw.index,
        card=raw.card.decode(),
        uuid=raw.uuid.decode(),
        pci_bus_id=raw.pci_bus_id.decode(),
        minor=raw.minor,
        mig_enabled=bool(raw.mig_current),
        mig_pending=bool(raw.mig_pending),
        lost=bool(raw.lost),
        processes=raw.processes,
        slices=tuple(_slice_snapshot(each) for each in raw.slices[: raw.slice_count]),
    )


def _slice_snapshot(raw: abi.Slice) -> SliceSnapshot:
    absent = raw.compute_instance == abi.NO_INSTANCE
    return SliceSnapshot(
        gpu_instance=raw.gpu_instance,
        compute_instance=None if absent else raw.compute_instance,
        profile_id=raw.profile_id,
        profile=raw.profile.decode(),
        start=raw.start,
        size=raw.size,
        uuid=raw.uuid.decode(),
        full_width=not absent and raw.compute_slices == raw.gpu_slices,
        processes=raw.processes,
    )
