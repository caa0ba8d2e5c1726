"""GpuReader and GpuWriter on NVIDIA's own NVML binding. Only this module and its parts (nvml_*) import pynvml.

Rules that NVML's behaviour makes necessary (nvml.h; NVIDIA's DRA driver and mig-parted met the same):
- Every call is one session, init to shutdown: handles of GPU and compute instances are reused for other
  instances, a mode change can give the GPU a new handle, and an open session holds up a driver upgrade.
- Instances are enumerated by profile, not by MIG device index: a GPU instance without a compute instance has no
  MIG device, and indices move when instances come and go.
- A GPU instance is always created at a placement: the driver's own choice depends on the order of creation.
- nvmlDeviceSetMigMode succeeds even when nothing was switched: what counts is the mode read afterwards.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ctypes import Array, byref, c_uint
from dataclasses import replace
from pathlib import Path
from typing import Any

import pynvml
import structlog

from cdmo import errors
from cdmo.errors import HardwareError
from cdmo.hardware import library, nvml_codes
from cdmo.hardware.nvml_health import health_of
from cdmo.hardware.nvml_values import blank_reading, bounded, bus_id_of, failed, mode_of, placement_of, profile_of
from cdmo.hardware.port import ComputeInstance, DriverReading, GpuInstance, GpuReading
from cdmo.model.gpu import MigMode, Placement
from cdmo.model.profile import GpuModel, Profile

MAX_GPUS = 32
MAX_PROFILES = 64
MAX_PLACEMENTS = 64
MAX_INSTANCES = 64  # of one profile on one GPU; hardware has at most 15 GPU instances in all
MAX_INSTANCES_IN_ALL = 32  # of one GPU, as many as a MigNode can report
# The kernel may still be scrubbing a GPU instance, or tearing an ended process down: seconds between tries.
DESTROY_PAUSES = (0.1, 0.3)

_ABSENT = (nvml_codes.NOT_SUPPORTED, nvml_codes.INVALID_ARGUMENT)

logger = structlog.get_logger(__name__)

Handle = Any  # NVML's opaque pointers


class NvmlGpus:
    """All GPUs of this host. `find_library` is asked until the library is mapped: a driver may arrive late."""

    def __init__(
        self,
        find_library: Callable[[], Path],
        sleep: Callable[[float], None],
        check_wanted: Callable[[], None] = lambda: None,
        reset: Callable[[str, int], None] | None = None,
    ) -> None:
        """check_wanted: asked before each call that changes something; raises HardwareError where nobody waits any
        more (runtime/worker.py). reset: of the GPU with this PCI bus id and minor number. A reader has neither."""
        self._find_library = find_library
        self._sleep = sleep
        self._check_wanted = check_wanted
        self._reset = reset
        self._lock = threading.Lock()
        self._mapped = False
        self._last: dict[int, GpuReading] = {}  # by NVML index: names a GPU that is lost and says nothing more

    def read(self) -> DriverReading:
        """Everything about every GPU. A GPU that fails is there with its `problem`; the others are unharmed."""
        with self._session("reading the GPUs"):
            driver = bounded(pynvml.nvmlSystemGetDriverVersion())
            found = [self._read_gpu(index) for index in range(min(pynvml.nvmlDeviceGetCount(), MAX_GPUS))]
        gpus = {each.pci_bus_id: each for each in found if each is not None}
        return DriverReading(driver, tuple(gpus[bus] for bus in sorted(gpus)), found.count(None))

    def create(self, pci_bus_id: str, placement: Placement) -> GpuInstance:
        """Create a GPU instance and its full-width compute instance, and say what is there afterwards."""
        doing = f"creating profile {placement.profile_id} at slot {placement.start} of GPU {pci_bus_id}"
        with self._session(doing):
            gpu = _handle(pci_bus_id)
            profile = _creatable(gpu, placement, doing)
            where = pynvml.c_nvmlGpuInstancePlacement_t(placement.start, profile.size)
            self._check_wanted()
            instance = pynvml.nvmlDeviceCreateGpuInstanceWithPlacement(gpu, profile.id, byref(where))
            try:
                self._check_wanted()
                _create_compute_instance(instance, profile)
                created = _read_instance(instance, profile)
                if created.placement != placement or not created.device_uuid:
                    raise errors.DriverFault(f"{doing}: the driver made something else: {created}")
            except (pynvml.NVMLError, HardwareError):
                self._remove_remains(instance, doing)
                raise
        return created

    def destroy(self, pci_bus_id: str, instance_id: int, placement: Placement) -> None:
        """Destroy the GPU instance with this id, if it still is the one at this placement."""
        doing = f"destroying GPU instance {instance_id} of GPU {pci_bus_id}"
        with self._session(doing):
            gpu = _handle(pci_bus_id)
            instance = pynvml.nvmlDeviceGetGpuInstanceById(gpu, instance_id)
            info = pynvml.nvmlGpuInstanceGetInfo(instance)
            there = Placement(info.profileId, info.placement.start)
            if there != placement:
                raise errors.NotThere(
                    f"{doing}: it now is profile {there.profile_id} at slot {there.start}, not profile "
                    f"{placement.profile_id} at slot {placement.start}"
                )
            for device in _compute_instances(instance):
                if users := _processes(pynvml.nvmlComputeInstanceGetInfo_v2(device).device):
                    listed = ", ".join(map(str, users[:10]))
                    raise errors.InUse(f"{doing}: processes run on it: {listed}", code=nvml_codes.IN_USE)
            self._remove(instance)
            if _still_there(gpu, instance_id, placement):
                raise errors.DriverFault(f"{doing}: the driver agreed, but the instance is still there")

    def set_mig_mode(self, pci_bus_id: str, enabled: bool) -> MigMode:
        """Switch MIG mode; returns the mode the driver has afterwards, which may be pending."""
        doing = f"switching MIG {'on' if enabled else 'off'} on GPU {pci_bus_id}"
        with self._session(doing):
            gpu = _handle(pci_bus_id)
            self._check_wanted()
            status = pynvml.nvmlDeviceSetMigMode(gpu, int(enabled))
            after = _mode(_handle(pci_bus_id))  # the switch may have given the GPU a new handle
            wanted = MigMode.ENABLED if enabled else MigMode.DISABLED
            if status == nvml_codes.IN_USE and after is not wanted:
                # Left pending, the refused switch would happen at a reset somebody does for another reason.
                pynvml.nvmlDeviceSetMigMode(_handle(pci_bus_id), int(not enabled))
                raise nvml_codes.failure(status, doing)
        return after

    def reset(self, pci_bus_id: str) -> None:
        """Reset the GPU, outside any session: one that is open would hold it."""
        if self._reset is None:
            raise errors.NotSupported(f"this process cannot reset GPU {pci_bus_id}")
        with self._session(f"resetting GPU {pci_bus_id}"):
            minor = pynvml.nvmlDeviceGetMinorNumber(_handle(pci_bus_id))
        self._check_wanted()
        self._reset(pci_bus_id, minor)

    @contextmanager
    def _session(self, doing: str) -> Iterator[None]:
        """NVML initialised, by one thread at a time; shut down whatever happens; failures translated."""
        with self._lock, _translated(doing):
            self._map_library()
            pynvml.nvmlInit()
            try:
                yield
            finally:
                try:
                    pynvml.nvmlShutdown()
                except pynvml.NVMLError as error:
                    logger.warning("NVML did not shut down", doing=doing, code=error.value)

    def _map_library(self) -> None:
        """Hand pynvml the library that was found: by itself it would only search the image's own places."""
        if not self._mapped:
            path = self._find_library()
            pynvml.nvmlLib = library.load(path)
            pynvml._nvmlGetFunctionPointer_cache.clear()
            self._mapped = True
            logger.info("NVML library loaded", path=str(path))

    def _remove(self, instance: Handle) -> None:
        """Compute instances first, then the GPU instance; half done when it raises InUse."""
        for device in _compute_instances(instance):
            self._patiently(pynvml.nvmlComputeInstanceDestroy, device)
        self._patiently(pynvml.nvmlGpuInstanceDestroy, instance)

    def _remove_remains(self, instance: Handle, doing: str) -> None:
        """After a failed creation, whose own failure is the one to raise."""
        try:
            self._remove(instance)
        except pynvml.NVMLError as error:
            logger.error("a half-made GPU instance could not be removed", doing=doing, code=error.value)

    def _patiently(self, destroy: Callable[[Handle], object], instance: Handle) -> None:
        for pause in DESTROY_PAUSES:
            self._check_wanted()
            try:
                destroy(instance)
                return
            except pynvml.NVMLError_InUse:
                self._sleep(pause)
        self._check_wanted()
        destroy(instance)

    def _read_gpu(self, index: int) -> GpuReading | None:
        """One GPU; what it does not answer any more is taken from its last reading. None: it never answered."""
        remembered = self._last.get(index)
        doing = f"reading GPU {remembered.pci_bus_id if remembered else f'with NVML index {index}'}"
        try:
            with _translated(doing):
                handle = pynvml.nvmlDeviceGetHandleByIndex(index)
                bus = bus_id_of(pynvml.nvmlDeviceGetPciInfo(handle).busId)
                reading = blank_reading(bus, bounded(pynvml.nvmlDeviceGetUUID(handle)), remembered)
        except (errors.LibraryMismatch, errors.DriverUnavailable):
            raise
        except HardwareError as error:
            if remembered is None:
                logger.error("a GPU does not answer and was never seen before", index=index, error=str(error))
                return None
            return failed(remembered, error)
        for stage in (_with_board, _with_model, _with_instances, _with_processes, _with_health):
            try:
                with _translated(f"reading GPU {bus}"):
                    reading = stage(handle, reading)
            except (errors.LibraryMismatch, errors.DriverUnavailable):
                raise
            except HardwareError as error:
                return failed(reading, error)
        self._last[index] = reading
        return reading


@contextmanager
def _translated(doing: str) -> Iterator[None]:
    try:
        yield
    except pynvml.NVMLError as error:
        raise nvml_codes.failure(error.value, doing) from error
    except pynvml.NVMLLibraryMismatchError as error:
        raise nvml_codes.failure(nvml_codes.FUNCTION_NOT_FOUND, doing) from error
    except UnicodeDecodeError as error:
        raise errors.DriverFault(f"{doing}: the driver answered with text that is not UTF-8") from error


def _handle(pci_bus_id: str) -> Handle:
    """The GPU's handle of this session."""
    for index in range(min(pynvml.nvmlDeviceGetCount(), MAX_GPUS)):
        try:
            handle = pynvml.nvmlDeviceGetHandleByIndex(index)
            if bounded(pynvml.nvmlDeviceGetPciInfo(handle).busId).upper() == pci_bus_id:
                return handle
        except pynvml.NVMLError_GpuIsLost:
            continue
    raise errors.NotThere(f"the driver reports no GPU {pci_bus_id}", hint="it may have fallen off the bus")


def _with_board(handle: Handle, reading: GpuReading) -> GpuReading:
    return replace(
        reading,
        minor=pynvml.nvmlDeviceGetMinorNumber(handle),
        memory_mib=pynvml.nvmlDeviceGetMemoryInfo(handle).total >> 20,
        hopper_or_later=pynvml.nvmlDeviceGetArchitecture(handle) >= pynvml.NVML_DEVICE_ARCH_HOPPER,
        mig_mode=_mode(handle),
    )


def _with_model(handle: Handle, reading: GpuReading) -> GpuReading:
    product = bounded(pynvml.nvmlDeviceGetName(handle))
    if reading.mig_mode is MigMode.UNSUPPORTED:
        return replace(reading, model=GpuModel(product, 0, ()))
    profiles = _profiles(handle)
    slots = max((each.starts[-1] + each.size for each in profiles), default=0)
    return replace(reading, model=GpuModel(product, slots, profiles))


def _with_instances(handle: Handle, reading: GpuReading) -> GpuReading:
    if reading.mig_mode not in (MigMode.ENABLED, MigMode.DISABLE_PENDING):
        return replace(reading, instances=())
    found = []
    for profile in reading.model.profiles:
        handles, count = (pynvml.c_nvmlGpuInstance_t * MAX_INSTANCES)(), c_uint(MAX_INSTANCES)
        pynvml.nvmlDeviceGetGpuInstances(handle, profile.id, handles, byref(count))
        found += [_read_instance(each, profile) for each in _listed(handles, count)]
    if len(found) > MAX_INSTANCES_IN_ALL:
        raise errors.DriverFault(f"the driver reports {len(found)} GPU instances on one GPU, which no card has")
    return replace(reading, instances=tuple(sorted(found, key=lambda each: each.placement.start)))


def _with_processes(handle: Handle, reading: GpuReading) -> GpuReading:
    if reading.mig_mode in (MigMode.ENABLED, MigMode.DISABLE_PENDING):
        return replace(reading, processes=())
    return replace(reading, processes=_processes(handle))


def _with_health(handle: Handle, reading: GpuReading) -> GpuReading:
    return replace(reading, health=health_of(handle, cut=bool(reading.instances)))


def _mode(handle: Handle) -> MigMode:
    try:
        current, pending = pynvml.nvmlDeviceGetMigMode(handle)
    except pynvml.NVMLError_NotSupported:
        return MigMode.UNSUPPORTED
    return mode_of(current, pending)


def _profiles(handle: Handle) -> tuple[Profile, ...]:
    """The card's profiles, also with MIG off. Profiles with no placement cannot be created and are left out."""
    found: dict[int, Profile] = {}
    for number in range(MAX_PROFILES):
        try:
            info = pynvml.nvmlDeviceGetGpuInstanceProfileInfo(handle, number, version=2)
        except pynvml.NVMLError_NotSupported:
            continue
        except pynvml.NVMLError_InvalidArgument:
            if number >= pynvml.NVML_GPU_INSTANCE_PROFILE_COUNT:
                break  # beyond what this driver knows
            continue
        places, count = (pynvml.c_nvmlGpuInstancePlacement_t * MAX_PLACEMENTS)(), c_uint(MAX_PLACEMENTS)
        pynvml.nvmlDeviceGetGpuInstancePossiblePlacements(handle, info.id, places, byref(count))
        if profile := profile_of(info, [(each.start, each.size) for each in _listed(places, count)]):
            found[profile.id] = profile
    return tuple(found[each] for each in sorted(found))


def _creatable(gpu: Handle, placement: Placement, doing: str) -> Profile:
    """The profile of a placement that the card allows. Raises NotThere, or NotSupported while MIG is off."""
    if _mode(gpu) not in (MigMode.ENABLED, MigMode.DISABLE_PENDING):
        raise errors.NotSupported(f"{doing}: MIG is off on it", hint="switch MIG mode on first")
    profile = next((each for each in _profiles(gpu) if each.id == placement.profile_id), None)
    if profile is None:
        raise errors.NotThere(f"{doing}: the card has no such profile")
    if placement.start not in profile.starts:
        raise errors.NotThere(f"{doing}: {profile.name} can only start at {', '.join(map(str, profile.starts))}")
    return profile


def _read_instance(instance: Handle, profile: Profile) -> GpuInstance:
    info = pynvml.nvmlGpuInstanceGetInfo(instance)
    devices: list[ComputeInstance] = []
    processes: set[int] = set()
    for width in _compute_profiles(instance):
        for each in _of_profile(instance, width):
            inner = pynvml.nvmlComputeInstanceGetInfo_v2(each)
            uuid = bounded(pynvml.nvmlDeviceGetUUID(inner.device))
            devices.append(ComputeInstance(inner.id, uuid, width.sliceCount == profile.compute_slices))
            processes.update(_processes(inner.device))
    return GpuInstance(
        id=info.id,
        placement=placement_of(info.profileId, info.placement.start),
        size=info.placement.size,
        compute_instances=tuple(sorted(devices, key=lambda each: each.id)),
        processes=tuple(sorted(processes)),
    )


def _compute_profiles(instance: Handle) -> Iterator[Any]:
    """The compute instance profiles a GPU instance offers."""
    shared = pynvml.NVML_COMPUTE_INSTANCE_ENGINE_PROFILE_SHARED
    for number in range(pynvml.NVML_COMPUTE_INSTANCE_PROFILE_COUNT):
        try:
            yield pynvml.nvmlGpuInstanceGetComputeInstanceProfileInfo(instance, number, shared, version=2)
        except pynvml.NVMLError as error:
            if error.value not in _ABSENT:
                raise


def _of_profile(instance: Handle, profile: Any) -> list[Handle]:
    handles, count = (pynvml.c_nvmlComputeInstance_t * MAX_INSTANCES)(), c_uint(MAX_INSTANCES)
    pynvml.nvmlGpuInstanceGetComputeInstances(instance, profile.id, handles, byref(count))
    return _listed(handles, count)


def _compute_instances(instance: Handle) -> list[Handle]:
    return [each for profile in _compute_profiles(instance) for each in _of_profile(instance, profile)]


def _create_compute_instance(instance: Handle, profile: Profile) -> None:
    """Full width. Two profiles can be as wide (one with media extensions): the first that is accepted."""
    wide = [each for each in _compute_profiles(instance) if each.sliceCount == profile.compute_slices]
    if not wide:
        raise errors.DriverFault(f"the driver offers no compute instance as wide as {profile.name}")
    for index, each in enumerate(wide):
        try:
            pynvml.nvmlGpuInstanceCreateComputeInstance(instance, each.id)
            return
        except pynvml.NVMLError as error:
            if error.value not in _ABSENT or index == len(wide) - 1:
                raise


def _processes(handle: Handle) -> tuple[int, ...]:
    """Process ids on a GPU or MIG device. Graphics and MPS lists are asked too, where the driver has them."""
    found = {each.pid for each in pynvml.nvmlDeviceGetComputeRunningProcesses_v3(handle)}
    for more in (
        pynvml.nvmlDeviceGetGraphicsRunningProcesses_v3,
        pynvml.nvmlDeviceGetMPSComputeRunningProcesses_v3,
    ):
        try:
            found |= {each.pid for each in more(handle)}
        except (pynvml.NVMLError_NotSupported, pynvml.NVMLError_FunctionNotFound):
            continue
    return tuple(sorted(found))


def _still_there(gpu: Handle, instance_id: int, placement: Placement) -> bool:
    try:
        info = pynvml.nvmlGpuInstanceGetInfo(pynvml.nvmlDeviceGetGpuInstanceById(gpu, instance_id))
    except pynvml.NVMLError as error:
        return error.value not in (nvml_codes.NOT_FOUND, nvml_codes.INVALID_ARGUMENT)
    return Placement(info.profileId, info.placement.start) == placement


def _listed(array: Array[Any], count: c_uint) -> list[Any]:
    """What NVML put into an array; it says how many, which is not believed beyond the array's end."""
    return list(array)[: min(count.value, len(array))]
