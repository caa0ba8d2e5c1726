"""The structures and functions of sim/nvml/include/nvmlsim.h for ctypes."""

from __future__ import annotations

import ctypes
from ctypes import POINTER, c_char, c_char_p, c_int, c_uint, c_uint32, c_uint64, c_void_p
from pathlib import Path

CODES = 64
SLICES = 64
NO_INSTANCE = 0xFFFFFFFF


class Counters(ctypes.Structure):
    """nvmlSimCounters."""

    _fields_ = (
        ("refusals", c_uint64 * CODES),
        ("gpu_instances_created", c_uint64),
        ("gpu_instances_destroyed", c_uint64),
        ("compute_instances_created", c_uint64),
        ("compute_instances_destroyed", c_uint64),
        ("destroyed_in_use_attempts", c_uint64),
        ("mode_changes", c_uint64),
    )


class Slice(ctypes.Structure):
    """nvmlSimSlice."""

    _fields_ = (
        *((name, c_uint32) for name in ("gpu_instance", "compute_instance", "profile_id", "start", "size")),
        *((name, c_uint32) for name in ("compute_slices", "gpu_slices", "processes")),
        ("profile", c_char * 32),
        ("uuid", c_char * 48),
    )


class Gpu(ctypes.Structure):
    """nvmlSimGpu."""

    _fields_ = (
        *((name, c_uint32) for name in ("index", "minor", "mig_current", "mig_pending")),
        *((name, c_uint32) for name in ("lost", "processes", "slice_count")),
        ("card", c_char * 40),
        ("uuid", c_char * 48),
        ("pci_bus_id", c_char * 32),
        ("slices", Slice * SLICES),
    )


_SIGNATURES = {
    "nvmlSimCreate": (c_char_p, c_char_p, c_char_p),
    "nvmlSimOpen": (c_char_p, POINTER(c_void_p)),
    "nvmlSimAddGpu": (c_void_p, c_char_p, c_char_p, c_uint, c_char_p),
    "nvmlSimSetLatency": (c_void_p, c_char_p, c_uint),
    "nvmlSimFailNth": (c_void_p, c_char_p, c_uint, c_int),
    "nvmlSimSetHung": (c_void_p, c_char_p, c_uint),
    "nvmlSimHungCalls": (c_void_p, c_char_p, POINTER(c_uint)),
    "nvmlSimAddProcess": (c_void_p, c_char_p, c_uint, c_uint64),
    "nvmlSimRemoveProcess": (c_void_p, c_char_p, c_uint),
    "nvmlSimInjectEvent": (c_void_p, c_char_p, c_uint64, c_uint64),
    "nvmlSimReboot": (c_void_p,),
    "nvmlSimResetGpu": (c_void_p, c_char_p),
    "nvmlSimSetPrivileged": (c_void_p, c_uint),
    "nvmlSimSetLost": (c_void_p, c_char_p, c_uint),
    "nvmlSimSetEccErrors": (c_void_p, c_char_p, c_uint),
    "nvmlSimSetRemapping": (c_void_p, c_char_p, c_uint, c_uint),
    "nvmlSimSetRecoveryAction": (c_void_p, c_char_p, c_uint),
    "nvmlSimSetDriverVersion": (c_void_p, c_char_p),
    "nvmlSimSetCapabilityMajor": (c_void_p, c_uint),
    "nvmlSimReadCounters": (c_void_p, POINTER(Counters)),
    "nvmlSimReadGpu": (c_void_p, c_uint, POINTER(Gpu)),
}


def load(library: Path) -> ctypes.CDLL:
    """The library with the argument types of its knobs declared. Raises OSError if it cannot be loaded."""
    loaded = ctypes.CDLL(str(library), mode=ctypes.RTLD_LOCAL)
    for name, arguments in _SIGNATURES.items():
        function = getattr(loaded, name)
        function.argtypes = arguments
        function.restype = c_int
    loaded.nvmlSimClose.argtypes = (c_void_p,)
    loaded.nvmlSimClose.restype = None
    loaded.nvmlSimCardKey.argtypes = (c_uint,)
    loaded.nvmlSimCardKey.restype = c_char_p
    loaded.nvmlErrorString.argtypes = (c_int,)
    loaded.nvmlErrorString.restype = c_char_p
    return loaded
