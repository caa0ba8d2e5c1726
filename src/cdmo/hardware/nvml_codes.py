"""What each NVML return code means here.

Source: nvmlReturn_t in NVIDIA's nvml.h, and what the codes stand for in MIG calls (2 for a placement or profile
the card does not have, 23 for a placement that is taken).
"""

from __future__ import annotations

from cdmo import errors
from cdmo.errors import HardwareError

INVALID_ARGUMENT = 2
NOT_SUPPORTED = 3
NOT_FOUND = 6
FUNCTION_NOT_FOUND = 13
IN_USE = 19

_ROOT_HINT = "the agent must run privileged and as root; MIG is configured through /dev/nvidia-caps/nvidia-cap1"
_RESET_HINT = "reset the GPU with nothing on it (nvidia-smi --gpu-reset), or reboot the node"
_LOST_HINT = "look for XID errors in the kernel log and reboot the node; the card may be broken"
_OLD_HINT = "upgrade the NVIDIA driver on this node"

# code -> class, sentence, hint
_MEANINGS: dict[int, tuple[type[HardwareError], str, str]] = {
    1: (errors.DriverFault, "NVML was not initialised", ""),
    2: (errors.NotThere, "the driver knows no such profile, placement or handle", ""),
    3: (errors.NotSupported, "the GPU does not support this, or MIG is off on it", ""),
    4: (errors.NotAllowed, "this process may not do that to the GPU", _ROOT_HINT),
    5: (errors.DriverFault, "NVML was initialised already", ""),
    6: (errors.NotThere, "there is no such GPU or instance", ""),
    7: (errors.DriverFault, "the driver has more to say than there was room for", ""),
    8: (errors.DriverFault, "the GPU's external power is not connected", "check the power cables of the card"),
    9: (errors.DriverUnavailable, "the NVIDIA driver is not loaded", "wait for the driver, or load it"),
    10: (errors.DriverFault, "the driver did not answer in time", ""),
    11: (errors.DriverFault, "the kernel found an interrupt problem with the GPU", ""),
    12: (errors.DriverUnavailable, "the NVML library was not found", "install the NVIDIA driver"),
    13: (errors.NotSupported, "the driver's NVML library does not have this call", _OLD_HINT),
    14: (errors.DriverFault, "the GPU's infoROM is corrupted", _LOST_HINT),
    15: (errors.GpuLost, "the GPU is lost: it fell off the bus or does not answer", _LOST_HINT),
    16: (errors.ResetNeeded, "the GPU must be reset first", _RESET_HINT),
    17: (errors.NotAllowed, "the operating system blocked access to the GPU", _ROOT_HINT),
    18: (errors.LibraryMismatch, "the driver was replaced while this process had its library mapped", ""),
    19: (errors.InUse, "something is using it", ""),
    20: (errors.DriverFault, "the driver is out of memory", ""),
    21: (errors.DriverFault, "the driver has no data for this", ""),
    22: (errors.NotSupported, "a vGPU of this kind cannot be used with ECC memory", ""),
    23: (errors.NoRoom, "the placement, the profile's last instance or an engine is taken", ""),
    24: (errors.NotSupported, "the frequency is not supported", ""),
    25: (errors.NotSupported, "the driver does not know this version of the call", _OLD_HINT),
    26: (errors.NotSupported, "the driver has given up this call", ""),
    27: (errors.DriverUnavailable, "the driver is not ready yet", "wait for the GPUs to come up"),
    28: (errors.NotThere, "the driver found no GPU", ""),
    29: (errors.DriverFault, "the GPU is in a state in which this cannot be done", ""),
    30: (errors.NotSupported, "this kind of reset is not supported", ""),
    999: (errors.DriverFault, "the driver gave no reason", "look in the kernel log (dmesg)"),
}


def known_codes() -> frozenset[int]:
    """Every code that has a meaning of its own here."""
    return frozenset(_MEANINGS)


def failure(code: int, doing: str) -> HardwareError:
    """The failure for a return code; `doing` says what was tried on which GPU ("creating 9 at 4 on GPU …")."""
    unknown = (errors.DriverFault, f"the driver answered with the unknown code {code}", "")
    kind, sentence, hint = _MEANINGS.get(code, unknown)
    return kind(f"{doing}: {sentence} (NVML code {code})", hint=hint, code=code)
