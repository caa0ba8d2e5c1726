"""MIG through the real nvidia-ml-py, in the words of these tests."""

from __future__ import annotations

import ctypes
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pynvml
from cdmo_harness.driver import GpuSpec, SimulatedDriver
from cdmo_harness.nvml_build import SOURCES

SUCCESS, UNINITIALIZED, INVALID_ARGUMENT, NOT_SUPPORTED, NO_PERMISSION = range(5)
NOT_FOUND, INSUFFICIENT_SIZE, DRIVER_NOT_LOADED, TIMEOUT = 6, 7, 9, 10
GPU_IS_LOST, RESET_REQUIRED, VERSION_MISMATCH, IN_USE, NO_ROOM = 15, 16, 18, 19, 23
STRUCTURE_VERSION_MISMATCH = 25

H100, A100, A30, L40S = "H100-SXM5-80GB", "A100-SXM4-80GB", "A30-24GB", "L40S-48GB"

Handle = Any


@dataclass(frozen=True, slots=True)
class Made:
    """A GPU instance with its full-width compute instance."""

    gpu_instance: Handle
    compute_instance: Handle
    uuid: str


def spec(card: str = H100, number: int = 0) -> GpuSpec:
    """The nth GPU of a host."""
    return GpuSpec(card, f"00000000:{0x10 + number:02X}:00.0", f"GPU-51a70000-0000-4000-8000-{number:012x}")


def card_table(key: str) -> dict[str, Any]:
    """The card's table as it lies in the repository."""
    table: dict[str, Any] = json.loads((SOURCES / "cards" / f"{key.lower()}.json").read_text())
    return table


def use_library(library: ctypes.CDLL | None) -> None:
    """Have pynvml call this library; None: as if it had never loaded one."""
    pynvml._nvmlGetFunctionPointer_cache.clear()
    pynvml.nvmlLib = library


@contextmanager
def session(driver: SimulatedDriver) -> Iterator[None]:
    """An NVML session of this process on the driver's GPUs, with pynvml on the driver's library."""
    environment, library = dict(os.environ), pynvml.nvmlLib
    os.environ.update(driver.environment())
    use_library(ctypes.CDLL(str(driver.library)))
    try:
        pynvml.nvmlInit()
        try:
            yield
        finally:
            pynvml.nvmlShutdown()
    finally:
        use_library(library)
        os.environ.clear()
        os.environ.update(environment)


def code(call: Callable[..., object], *arguments: object) -> int:
    """The return code of a call: 0 when it succeeds."""
    try:
        call(*arguments)
    except pynvml.NVMLError as error:
        return int(error.value)
    return SUCCESS


def gpu(index: int = 0) -> Handle:
    """The handle of a GPU."""
    return pynvml.nvmlDeviceGetHandleByIndex(index)


def mig_gpu(index: int = 0) -> Handle:
    """The handle of a GPU whose MIG mode was just switched on; not for Ampere."""
    handle = gpu(index)
    assert pynvml.nvmlDeviceSetMigMode(handle, 1) == SUCCESS
    return handle


def placement(start: int, size: int) -> Any:
    """A placement to pass to NVML."""
    return ctypes.byref(pynvml.c_nvmlGpuInstancePlacement_t(start, size))


def create(handle: Handle, profile_id: int, start: int, size: int) -> Handle:
    """A GPU instance at this place."""
    return pynvml.nvmlDeviceCreateGpuInstanceWithPlacement(handle, profile_id, placement(start, size))


def make(handle: Handle, profile_id: int, start: int, size: int) -> Made:
    """A GPU instance with its full-width compute instance."""
    instance = create(handle, profile_id, start, size)
    compute = pynvml.nvmlGpuInstanceCreateComputeInstance(instance, full_width(instance))
    uuid = pynvml.nvmlDeviceGetUUID(pynvml.nvmlComputeInstanceGetInfo(compute).device)
    return Made(instance, compute, uuid)


def full_width(instance: Handle) -> int:
    """The id of the widest compute instance profile that a GPU instance offers."""
    offers = []
    for number in range(pynvml.NVML_COMPUTE_INSTANCE_PROFILE_COUNT):
        if code(pynvml.nvmlGpuInstanceGetComputeInstanceProfileInfo, instance, number, 0) == SUCCESS:
            info = pynvml.nvmlGpuInstanceGetComputeInstanceProfileInfo(instance, number, 0)
            offers.append((info.sliceCount, info.id))
    return int(max(offers)[1])


def unmake(made: Made) -> None:
    """Destroy both instances."""
    pynvml.nvmlComputeInstanceDestroy(made.compute_instance)
    pynvml.nvmlGpuInstanceDestroy(made.gpu_instance)


def instance_id(instance: Handle) -> int:
    """NVML's id of a GPU instance."""
    return int(pynvml.nvmlGpuInstanceGetInfo(instance).id)


def mig_ids(handle: Handle) -> list[int]:
    """GPU instance ids in the order of MIG device indices."""
    found = []
    for index in range(pynvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
        try:
            device = pynvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, index)
        except pynvml.NVMLError_NotFound:
            break
        found.append(pynvml.nvmlDeviceGetGpuInstanceId(device))
    return found


def tree(root: Path) -> set[str]:
    """All access files of GPUs below a host root, as "gpu0/mig/gi1/ci0"."""
    folder = root / "proc/driver/nvidia/capabilities"
    return {str(each.parent.relative_to(folder)) for each in folder.glob("gpu*/**/access")}
