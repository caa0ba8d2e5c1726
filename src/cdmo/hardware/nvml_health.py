"""What NVML says about a GPU's health, as far as it says anything.

With MIG on it says less (nvml.h): volatile ECC errors are told per MIG device only, and only uncorrectable ones
outside of the DRAM; remapped rows are not told while there are instances. The recovery action is told always (R570
and later). A question that is not answered is no failure, unless the GPU itself has failed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, ParamSpec, TypeVar

import pynvml

from cdmo.hardware.port import GpuHealth

Handle = Any  # NVML's opaque pointers
Arguments = ParamSpec("Arguments")
Answer = TypeVar("Answer")

MAX_DEVICES = 64  # MIG devices of one GPU; hardware has at most 15
# Codes that are about the GPU or the driver as a whole, not about the question.
_SERIOUS = frozenset(
    {
        pynvml.NVML_ERROR_DRIVER_NOT_LOADED,
        pynvml.NVML_ERROR_GPU_IS_LOST,
        pynvml.NVML_ERROR_RESET_REQUIRED,
        pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH,
    }
)


def health_of(gpu: Handle, *, cut: bool) -> GpuHealth:
    """The health of a GPU; `cut`: whether there are instances on it. Raises NVMLError when the GPU has failed."""
    remapped = _asked(pynvml.nvmlDeviceGetRemappedRows, gpu)
    return GpuHealth(
        ecc_uncorrectable=_ecc(gpu, cut=cut),
        remap_pending=bool(remapped[2]) if remapped else None,
        remap_failed=bool(remapped[3]) if remapped else None,
        recovery_action=_recovery_action(gpu),
        energy=_asked(pynvml.nvmlDeviceGetTotalEnergyConsumption, gpu),
    )


def _ecc(gpu: Handle, *, cut: bool) -> bool | None:
    """Slices without errors do not speak for the GPU: they may have been created after the error."""
    bad, since_reset = pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, pynvml.NVML_VOLATILE_ECC
    total = _asked(pynvml.nvmlDeviceGetTotalEccErrors, gpu, bad, since_reset)
    if total is not None:
        return bool(total > 0)
    sram = pynvml.NVML_MEMORY_LOCATION_SRAM
    ask = pynvml.nvmlDeviceGetMemoryErrorCounter
    return True if any(_asked(ask, each, bad, since_reset, sram) for each in _devices(gpu, cut=cut)) else None


def _devices(gpu: Handle, *, cut: bool) -> Iterator[Handle]:
    """The GPU's MIG devices."""
    most = (_asked(pynvml.nvmlDeviceGetMaxMigDeviceCount, gpu) or 0) if cut else 0
    for index in range(min(most, MAX_DEVICES)):
        device = _asked(pynvml.nvmlDeviceGetMigDeviceHandleByIndex, gpu, index)
        if device is not None:
            yield device


def _recovery_action(gpu: Handle) -> int | None:
    values = _asked(pynvml.nvmlDeviceGetFieldValues, gpu, [pynvml.NVML_FI_DEV_GET_GPU_RECOVERY_ACTION])
    if values is None or values[0].nvmlReturn != pynvml.NVML_SUCCESS:
        return None
    return int(values[0].value.uiVal)


def _asked(call: Callable[Arguments, Answer], *arguments: Arguments.args, **named: Arguments.kwargs) -> Answer | None:
    """The answer, or None when there is none to be had."""
    try:
        return call(*arguments, **named)
    except pynvml.NVMLError as error:
        if error.value in _SERIOUS:
            raise
        return None
