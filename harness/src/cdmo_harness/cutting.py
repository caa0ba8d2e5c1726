"""Cutting slices on a simulated node before anything else looks at it: `python -m cdmo_harness.cutting …`.

A process of its own, because NVML and its simulated state belong to a process, and a test may hold several nodes.
Each argument is GPU:PROFILE:START, with the GPU's NVML index, the numeric profile id and the first memory slot;
`GPU` alone turns MIG on. A fourth number asks for a compute instance of that many slices instead of the full width,
0 for none. Prints one line a slice: GPU minor, GPU instance id, UUID ("none" without a compute instance).
"""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path
from typing import Any

import pynvml

_PROFILES = range(pynvml.NVML_GPU_INSTANCE_PROFILE_COUNT)
# Enumerators of compute instance profiles by their slices: 7 comes before 8 and 6.
_COMPUTE_PROFILES = {1: 0, 2: 1, 3: 2, 4: 3, 7: 4, 8: 5, 6: 6}
_ABSENT = (pynvml.NVML_ERROR_NOT_SUPPORTED, pynvml.NVML_ERROR_INVALID_ARGUMENT)


def main(arguments: list[str]) -> int:
    """Entry point: the library's path, then what to cut."""
    pynvml.nvmlLib = ctypes.CDLL(str(Path(arguments[0])), mode=ctypes.RTLD_GLOBAL)
    pynvml.nvmlInit()
    try:
        for wish in arguments[1:]:
            gpu, *place = (int(number) for number in wish.split(":"))
            handle = pynvml.nvmlDeviceGetHandleByIndex(gpu)
            if not pynvml.nvmlDeviceGetMigMode(handle)[0]:
                pynvml.nvmlDeviceSetMigMode(handle, pynvml.NVML_DEVICE_MIG_ENABLE)
            if place:
                sys.stdout.write(f"{pynvml.nvmlDeviceGetMinorNumber(handle)} {_cut(handle, *place)}\n")
    finally:
        pynvml.nvmlShutdown()
    return 0


def _cut(gpu: Any, profile_id: int, start: int, width: int | None = None) -> str:
    """One GPU instance with its compute instance; returns "id UUID"."""
    profile = next(found for found in map(_asking(gpu), _PROFILES) if found is not None and found.id == profile_id)
    placement = pynvml.c_nvmlGpuInstancePlacement_t()
    placement.start = start
    placement.size = _size(gpu, profile)
    instance = pynvml.nvmlDeviceCreateGpuInstanceWithPlacement(gpu, profile_id, ctypes.byref(placement))
    number = pynvml.nvmlGpuInstanceGetInfo(instance).id
    slices = profile.sliceCount if width is None else width
    if slices == 0:
        return f"{number} none"
    shared = pynvml.NVML_COMPUTE_INSTANCE_ENGINE_PROFILE_SHARED
    wanted = pynvml.nvmlGpuInstanceGetComputeInstanceProfileInfo(
        instance, _COMPUTE_PROFILES[slices], shared, version=1
    )
    compute = pynvml.nvmlGpuInstanceCreateComputeInstance(instance, wanted.id)
    device = pynvml.nvmlComputeInstanceGetInfo(compute).device
    return f"{number} {pynvml.nvmlDeviceGetUUID(device)}"


def _asking(gpu: Any) -> Any:
    def ask(profile: int) -> Any:
        try:
            return pynvml.nvmlDeviceGetGpuInstanceProfileInfo(gpu, profile, version=1)
        except pynvml.NVMLError as error:
            if error.value in _ABSENT:
                return None
            raise

    return ask


def _size(gpu: Any, profile: Any) -> int:
    count = ctypes.c_uint(0)
    function = pynvml._nvmlGetFunctionPointer("nvmlDeviceGetGpuInstancePossiblePlacements_v2")
    pynvml._nvmlCheckReturn(function(gpu, profile.id, None, ctypes.byref(count)))
    placements = (pynvml.c_nvmlGpuInstancePlacement_t * count.value)()
    pynvml._nvmlCheckReturn(function(gpu, profile.id, placements, ctypes.byref(count)))
    return int(placements[0].size)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
