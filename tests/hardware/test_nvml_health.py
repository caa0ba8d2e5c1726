"""What NVML does not answer about a GPU's health is no failure; what it cannot answer any more is one."""

from __future__ import annotations

import pynvml
import pytest
from cdmo_harness.driver import SimulatedDriver

from cdmo.errors import LibraryMismatch
from cdmo.hardware.nvml import NvmlGpus
from cdmo.hardware.port import GpuHealth
from cdmo.model.gpu import Placement
from tests.hardware.test_nvml import BUS

QUESTIONS = [
    "nvmlDeviceGetTotalEccErrors",
    "nvmlDeviceGetRemappedRows",
    "nvmlDeviceGetFieldValues",
    "nvmlDeviceGetTotalEnergyConsumption",
]


def health(gpus: NvmlGpus) -> GpuHealth:
    gpu = gpus.read().gpu(BUS)
    assert gpu is not None
    assert gpu.problem == ""
    return gpu.health


@pytest.mark.parametrize(
    "code",
    [pynvml.NVML_ERROR_NOT_SUPPORTED, pynvml.NVML_ERROR_FUNCTION_NOT_FOUND, pynvml.NVML_ERROR_UNKNOWN],
)
def test_a_question_that_is_not_answered_is_no_failure(gpus: NvmlGpus, driver: SimulatedDriver, code: int) -> None:
    for question in QUESTIONS:
        driver.fail_nth(question, code)
    assert health(gpus) == GpuHealth()
    assert health(gpus) == GpuHealth(False, False, False, 0)


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_gpu_that_is_lost_meanwhile_has_a_problem(gpus: NvmlGpus, driver: SimulatedDriver, question: str) -> None:
    driver.fail_nth(question, pynvml.NVML_ERROR_GPU_IS_LOST)
    assert [bool(each.problem) for each in gpus.read().gpus] == [True, False]


def test_a_driver_replaced_meanwhile_is_told(gpus: NvmlGpus, driver: SimulatedDriver) -> None:
    driver.fail_nth(QUESTIONS[0], pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH)
    with pytest.raises(LibraryMismatch):
        gpus.read()


def test_ecc_errors_in_a_slices_memory_are_the_gpus(gpus: NvmlGpus, driver: SimulatedDriver) -> None:
    gpus.set_mig_mode(BUS, True)
    first = gpus.create(BUS, Placement(14, 0))
    second = gpus.create(BUS, Placement(14, 2))
    assert health(gpus).ecc_uncorrectable is None, "slices without errors do not speak for the GPU"
    driver.set_ecc_errors(second.device_uuid, 1)
    assert health(gpus).ecc_uncorrectable is True
    gpus.destroy(BUS, second.id, Placement(14, 2))
    assert health(gpus).ecc_uncorrectable is None
    assert first.device_uuid
