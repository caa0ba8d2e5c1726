"""Questions that change nothing, and what NVML answers to them about a healthy card whose MIG mode is off.

One contract for two libraries: `tests/sim` asks the simulated one, `tests/real_gpu` that of a real card. The answers
are those of an H200 with driver 580.159.04.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pynvml

Handle = Any

SUCCESS, NOT_FOUND = pynvml.NVML_SUCCESS, pynvml.NVML_ERROR_NOT_FOUND
INVALID_ARGUMENT, NOT_SUPPORTED = pynvml.NVML_ERROR_INVALID_ARGUMENT, pynvml.NVML_ERROR_NOT_SUPPORTED

_UNCORRECTED, _VOLATILE = pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, pynvml.NVML_VOLATILE_ECC
_SRAM = pynvml.NVML_MEMORY_LOCATION_SRAM
_WHOLE = 0  # the profile's number and id of the instance that takes the whole GPU
_NOTHING = 9999  # no index, id or field has this number
_NOBODY = "00000000-0000-4000-8000-000000000000"


@dataclass(frozen=True, slots=True)
class Question:
    """Something to ask about a GPU, and the answer: NVML's return code, and the value where it succeeds."""

    about: str
    ask: Callable[[Handle], object]
    code: int
    value: object = None


def answer(question: Question, gpu: Handle) -> tuple[int, object]:
    """The return code and the value."""
    try:
        return SUCCESS, question.ask(gpu)
    except pynvml.NVMLError as error:
        return int(error.value), None


def _instances(gpu: Handle) -> int:
    found, count = (pynvml.c_nvmlGpuInstance_t * 8)(), pynvml.c_uint()
    pynvml.nvmlDeviceGetGpuInstances(gpu, _WHOLE, found, pynvml.byref(count))
    return int(count.value)


def _field(number: int) -> Callable[[Handle], tuple[int, int]]:
    def ask(gpu: Handle) -> tuple[int, int]:
        (field,) = pynvml.nvmlDeviceGetFieldValues(gpu, [number])
        return int(field.nvmlReturn), int(field.value.uiVal)

    return ask


def _memory_errors(where: int) -> Callable[[Handle], object]:
    return lambda gpu: pynvml.nvmlDeviceGetMemoryErrorCounter(gpu, _UNCORRECTED, _VOLATILE, where)


QUESTIONS = (
    Question("its MIG mode", lambda gpu: list(pynvml.nvmlDeviceGetMigMode(gpu)), SUCCESS, [0, 0]),
    Question("how many MIG devices", pynvml.nvmlDeviceGetMaxMigDeviceCount, SUCCESS, 0),
    Question("its first MIG device", lambda gpu: pynvml.nvmlDeviceGetMigDeviceHandleByIndex(gpu, 0), NOT_FOUND),
    Question(
        "a MIG device beyond any",
        lambda gpu: pynvml.nvmlDeviceGetMigDeviceHandleByIndex(gpu, _NOTHING),
        NOT_FOUND,
    ),
    Question("a GPU instance", lambda gpu: pynvml.nvmlDeviceGetGpuInstanceById(gpu, 1), NOT_FOUND),
    Question("its GPU instances", _instances, SUCCESS, 0),
    Question("what has room", lambda gpu: pynvml.nvmlDeviceGetGpuInstanceRemainingCapacity(gpu, _WHOLE), SUCCESS, 1),
    Question(
        "whether nothing has room",
        lambda gpu: pynvml.nvmlDeviceGetGpuInstanceRemainingCapacity(gpu, _NOTHING),
        INVALID_ARGUMENT,
    ),
    Question(
        "a profile of no number",
        lambda gpu: pynvml.nvmlDeviceGetGpuInstanceProfileInfo(gpu, _NOTHING, version=2),
        INVALID_ARGUMENT,
    ),
    Question("whether it is a MIG device", lambda gpu: pynvml.nvmlDeviceIsMigDeviceHandle(gpu).value, SUCCESS, 0),
    Question("the attributes of a MIG device", pynvml.nvmlDeviceGetAttributes, NOT_SUPPORTED),
    Question("the GPU instance it is of", pynvml.nvmlDeviceGetGpuInstanceId, INVALID_ARGUMENT),
    Question("the compute instance it is", pynvml.nvmlDeviceGetComputeInstanceId, INVALID_ARGUMENT),
    Question("the GPU it is of", pynvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle, INVALID_ARGUMENT),
    Question("a GPU at no index", lambda _: pynvml.nvmlDeviceGetHandleByIndex(_NOTHING), INVALID_ARGUMENT),
    Question("a GPU at no bus", lambda _: pynvml.nvmlDeviceGetHandleByPciBusId("0000FFFF:FF:00.0"), NOT_FOUND),
    Question("a GPU at a bus that is none", lambda _: pynvml.nvmlDeviceGetHandleByPciBusId("?"), INVALID_ARGUMENT),
    Question("nobody's GPU", lambda _: pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{_NOBODY}"), NOT_FOUND),
    Question("nobody's MIG device", lambda _: pynvml.nvmlDeviceGetHandleByUUID(f"MIG-{_NOBODY}"), NOT_FOUND),
    Question("a UUID that is none", lambda _: pynvml.nvmlDeviceGetHandleByUUID("?"), NOT_FOUND),
    Question(
        "its ECC errors",
        lambda gpu: pynvml.nvmlDeviceGetTotalEccErrors(gpu, _UNCORRECTED, _VOLATILE),
        SUCCESS,
        0,
    ),
    Question("its ECC errors in the SRAM", _memory_errors(_SRAM), SUCCESS, 0),
    Question("its ECC errors nowhere", _memory_errors(_NOTHING), INVALID_ARGUMENT),
    Question("its remapped rows", lambda gpu: list(pynvml.nvmlDeviceGetRemappedRows(gpu))[2:], SUCCESS, [0, 0]),
    Question("what it needs", _field(pynvml.NVML_FI_DEV_GET_GPU_RECOVERY_ACTION), SUCCESS, (SUCCESS, 0)),
    Question("a field of no number", _field(_NOTHING), SUCCESS, (INVALID_ARGUMENT, 0)),
    Question(
        "whether it counts energy", lambda gpu: pynvml.nvmlDeviceGetTotalEnergyConsumption(gpu) > 0, SUCCESS, True
    ),
)
