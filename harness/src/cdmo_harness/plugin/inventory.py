"""What the plugin finds when it looks at the GPUs: resource names, devices, device nodes.

The order of calls and every rule (names, what is skipped, what ends the process) follow the real plugin v0.20 in
mixed strategy (internal/rm/device_map.go, internal/mig/mig.go) and the library it uses (go-nvlib's MIG profiles).
"""

from __future__ import annotations

import ctypes
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pynvml

LIBRARY = "usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1"
MIG_MINORS = "proc/driver/nvidia-caps/mig-minors"
WHOLE_GPU = "nvidia.com/gpu"

# Number of GPU slices of each GPU instance profile, and the attribute its name carries.
_GPU_INSTANCE_PROFILES = {
    pynvml.NVML_GPU_INSTANCE_PROFILE_1_SLICE: (1, ""),
    pynvml.NVML_GPU_INSTANCE_PROFILE_1_SLICE_REV1: (1, "+me"),
    pynvml.NVML_GPU_INSTANCE_PROFILE_1_SLICE_REV2: (1, ""),
    pynvml.NVML_GPU_INSTANCE_PROFILE_1_SLICE_GFX: (1, "+gfx"),
    pynvml.NVML_GPU_INSTANCE_PROFILE_1_SLICE_NO_ME: (1, "-me"),
    pynvml.NVML_GPU_INSTANCE_PROFILE_1_SLICE_ALL_ME: (1, "+me.all"),
    pynvml.NVML_GPU_INSTANCE_PROFILE_2_SLICE: (2, ""),
    pynvml.NVML_GPU_INSTANCE_PROFILE_2_SLICE_REV1: (2, "+me"),
    pynvml.NVML_GPU_INSTANCE_PROFILE_2_SLICE_GFX: (2, "+gfx"),
    pynvml.NVML_GPU_INSTANCE_PROFILE_2_SLICE_NO_ME: (2, "-me"),
    pynvml.NVML_GPU_INSTANCE_PROFILE_2_SLICE_ALL_ME: (2, "+me.all"),
    pynvml.NVML_GPU_INSTANCE_PROFILE_3_SLICE: (3, ""),
    pynvml.NVML_GPU_INSTANCE_PROFILE_4_SLICE: (4, ""),
    pynvml.NVML_GPU_INSTANCE_PROFILE_4_SLICE_GFX: (4, "+gfx"),
    pynvml.NVML_GPU_INSTANCE_PROFILE_6_SLICE: (6, ""),
    pynvml.NVML_GPU_INSTANCE_PROFILE_7_SLICE: (7, ""),
    pynvml.NVML_GPU_INSTANCE_PROFILE_8_SLICE: (8, ""),
}
_COMPUTE_SLICES = {
    pynvml.NVML_COMPUTE_INSTANCE_PROFILE_1_SLICE: 1,
    pynvml.NVML_COMPUTE_INSTANCE_PROFILE_1_SLICE_REV1: 1,
    pynvml.NVML_COMPUTE_INSTANCE_PROFILE_2_SLICE: 2,
    pynvml.NVML_COMPUTE_INSTANCE_PROFILE_3_SLICE: 3,
    pynvml.NVML_COMPUTE_INSTANCE_PROFILE_4_SLICE: 4,
    pynvml.NVML_COMPUTE_INSTANCE_PROFILE_6_SLICE: 6,
    pynvml.NVML_COMPUTE_INSTANCE_PROFILE_7_SLICE: 7,
    pynvml.NVML_COMPUTE_INSTANCE_PROFILE_8_SLICE: 8,
}
_ABSENT = (pynvml.NVML_ERROR_NOT_SUPPORTED, pynvml.NVML_ERROR_INVALID_ARGUMENT)
_GI_LINE = re.compile(r"gpu(\d+)/gi(\d+)/access (\d+)")
_CI_LINE = re.compile(r"gpu(\d+)/gi(\d+)/ci(\d+)/access (\d+)")
_CONTROL_LINE = re.compile(r"(config|monitor) (\d+)")


class EnumerationFailed(Exception):
    """Looking at the GPUs failed; the real plugin exits with status 1 then."""


@dataclass(frozen=True, slots=True)
class PluginDevice:
    """One schedulable device. `gpu_instance` and `compute_instance` are None for a whole GPU."""

    id: str
    gpu_uuid: str
    paths: tuple[str, ...]  # device nodes as the host sees them
    gpu_instance: int | None = None
    compute_instance: int | None = None


def load_library(root: Path) -> None:
    """Make pynvml use the library below the host root, before its first call."""
    pynvml.nvmlLib = ctypes.CDLL(str(root / LIBRARY), mode=ctypes.RTLD_GLOBAL)


def enumerate_devices(root: Path) -> dict[str, tuple[PluginDevice, ...]]:
    """Devices by resource name. NVML must be initialised. Raises EnumerationFailed."""
    try:
        return _enumerate(root)
    except pynvml.NVMLError as error:
        raise EnumerationFailed(f"error building device map: {error}") from error


def resource_of(profile: str) -> str:
    """The extended resource of a MIG profile's name: `+` is not allowed there, `-` is."""
    return f"nvidia.com/mig-{profile.replace('+', '.')}"


def profile_name(gpu_slices: int, attribute: str, slice_mebibytes: int, gpu_bytes: int) -> str:
    """The profile's name by go-nvlib's formula: memory in eighths of the card, rounded up, times whole GiB."""
    share = math.ceil(slice_mebibytes * 2**20 / gpu_bytes * 8) / 8
    total = (gpu_bytes + 2**30 - 1) // 2**30
    return f"{gpu_slices}g.{math.floor(share * total + 0.5)}gb{attribute}"


@lru_cache(maxsize=1)  # thousands of lines that change only with the driver: parsed again they cost 10 ms a look
def capability_minors(text: str) -> Mapping[str, int]:
    """The file mig-minors: capability path below /proc/driver/nvidia/capabilities -> minor number."""
    minors: dict[str, int] = {}
    for line in text.splitlines():
        if found := _CI_LINE.fullmatch(line):
            gpu, gi, ci, minor = found.groups()
            minors[f"gpu{gpu}/mig/gi{gi}/ci{ci}/access"] = int(minor)
        elif found := _GI_LINE.fullmatch(line):
            gpu, gi, minor = found.groups()
            minors[f"gpu{gpu}/mig/gi{gi}/access"] = int(minor)
        elif not _CONTROL_LINE.fullmatch(line):
            raise EnumerationFailed(f"error getting MIG capability device paths: unparsable line: {line}")
    return MappingProxyType(minors)


def _enumerate(root: Path) -> dict[str, tuple[PluginDevice, ...]]:
    found: dict[str, list[PluginDevice]] = {}
    capabilities = _capability_paths(root)
    for index in range(pynvml.nvmlDeviceGetCount()):
        gpu = pynvml.nvmlDeviceGetHandleByIndex(index)
        if not _mig_enabled(gpu):
            path = f"/dev/nvidia{pynvml.nvmlDeviceGetMinorNumber(gpu)}"
            uuid = pynvml.nvmlDeviceGetUUID(gpu)
            found.setdefault(WHOLE_GPU, []).append(PluginDevice(uuid, uuid, (path,)))
            continue
        for slot in range(pynvml.nvmlDeviceGetMaxMigDeviceCount(gpu)):
            try:
                device = pynvml.nvmlDeviceGetMigDeviceHandleByIndex(gpu, slot)
            except (pynvml.NVMLError_NotFound, pynvml.NVMLError_InvalidArgument):
                continue  # a GPU instance without a compute instance has no MIG device and is not seen
            resource, described = _mig_device(capabilities, gpu, device)
            found.setdefault(resource, []).append(described)
    return {resource: tuple(devices) for resource, devices in sorted(found.items())}


def _mig_enabled(gpu: Any) -> bool:
    try:
        current, _ = pynvml.nvmlDeviceGetMigMode(gpu)
    except pynvml.NVMLError_NotSupported:
        return False
    return bool(current == pynvml.NVML_DEVICE_MIG_ENABLE)


def _mig_device(capabilities: Mapping[str, int], gpu: Any, device: Any) -> tuple[str, PluginDevice]:
    gi, ci = pynvml.nvmlDeviceGetGpuInstanceId(device), pynvml.nvmlDeviceGetComputeInstanceId(device)
    gpu_slices, attribute, compute_slices = _widths(gpu, gi, ci)
    memory = pynvml.nvmlDeviceGetAttributes(device).memorySizeMB
    name = profile_name(gpu_slices, attribute, memory, pynvml.nvmlDeviceGetMemoryInfo(gpu).total)
    if compute_slices != gpu_slices:
        raise EnumerationFailed(f"MIG profile '{compute_slices}c.{name}' does not match any resource patterns")
    minor = pynvml.nvmlDeviceGetMinorNumber(gpu)
    paths = [f"/dev/nvidia{minor}"]
    for kind, access in (
        ("GPU", f"gpu{minor}/mig/gi{gi}/access"),
        ("compute", f"gpu{minor}/mig/gi{gi}/ci{ci}/access"),
    ):
        if access not in capabilities:
            raise EnumerationFailed(f"missing MIG {kind} instance capability path: {access}")
        paths.append(f"/dev/nvidia-caps/nvidia-cap{capabilities[access]}")
    uuid, gpu_uuid = pynvml.nvmlDeviceGetUUID(device), pynvml.nvmlDeviceGetUUID(gpu)
    return resource_of(name), PluginDevice(uuid, gpu_uuid, tuple(paths), gi, ci)


def _capability_paths(root: Path) -> Mapping[str, int]:
    try:
        return capability_minors((root / MIG_MINORS).read_text())
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise EnumerationFailed(f"error opening MIG minors file: {error}") from error


def _widths(gpu: Any, gi: int, ci: int) -> tuple[int, str, int]:
    """GPU slices and name attribute of the GPU instance, compute slices of the compute instance."""
    instance = pynvml.nvmlDeviceGetGpuInstanceById(gpu, gi)
    gi_profile = pynvml.nvmlGpuInstanceGetInfo(instance).profileId
    ci_profile = pynvml.nvmlComputeInstanceGetInfo(
        pynvml.nvmlGpuInstanceGetComputeInstanceById(instance, ci)
    ).profileId
    for profile, (gpu_slices, attribute) in _GPU_INSTANCE_PROFILES.items():
        if _profile_id(pynvml.nvmlDeviceGetGpuInstanceProfileInfo, gpu, profile) != gi_profile:
            continue
        for kind, compute_slices in _COMPUTE_SLICES.items():
            shared = pynvml.NVML_COMPUTE_INSTANCE_ENGINE_PROFILE_SHARED
            if _profile_id(pynvml.nvmlGpuInstanceGetComputeInstanceProfileInfo, instance, kind, shared) == ci_profile:
                return gpu_slices, attribute, compute_slices
    raise EnumerationFailed("error getting MIG profile: no matching profile IDs found")


def _profile_id(ask: Any, *arguments: Any) -> int | None:
    """The id of a profile the card has, else None. Version 1 of the call is the one the real plugin uses."""
    try:
        return int(ask(*arguments, version=1).id)
    except pynvml.NVMLError as error:
        if error.value in _ABSENT:
            return None
        raise
