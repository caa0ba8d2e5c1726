"""What a GPU says about its health, the limits that NVML sets to it with MIG on, and the kernel's log.

The recorded answers of healthy cards (tests/data/nvml/health) are what nvidia-smi showed on the hosts of the other
recordings.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pynvml
import pytest
from cdmo_harness.driver import SimulatedDriver

from tests.sim import calls
from tests.sim.conftest import MakeDriver

UNCORRECTED, VOLATILE, AGGREGATE = 1, pynvml.NVML_VOLATILE_ECC, pynvml.NVML_AGGREGATE_ECC
DRAM, SRAM, REGISTERS = (
    pynvml.NVML_MEMORY_LOCATION_DRAM,
    pynvml.NVML_MEMORY_LOCATION_SRAM,
    pynvml.NVML_MEMORY_LOCATION_REGISTER_FILE,
)
ACTION = pynvml.NVML_FI_DEV_GET_GPU_RECOVERY_ACTION
RECORDED = Path(__file__).parents[1] / "data" / "nvml" / "health"


def recovery_action(handle: calls.Handle) -> int:
    """What the driver wants done."""
    (value,) = pynvml.nvmlDeviceGetFieldValues(handle, [ACTION])
    assert value.nvmlReturn == calls.SUCCESS
    return int(value.value.uiVal)


def log_of(driver: SimulatedDriver) -> list[str]:
    """The kernel's log."""
    path = driver.root / "dev/kmsg"
    return path.read_text().splitlines() if path.exists() else []


@pytest.mark.parametrize(("recording", "card"), [("h100-80gb-hbm3", calls.H100), ("h200", "H200-SXM5-141GB")])
def test_a_card_without_faults_answers_as_the_real_one_did(
    make_driver: MakeDriver, recording: str, card: str
) -> None:
    want = json.loads((RECORDED / f"{recording}.json").read_text())
    with calls.session(make_driver(calls.spec(card))):
        _, _, pending, failed = pynvml.nvmlDeviceGetRemappedRows(calls.gpu())
        got = {
            "recoveryAction": recovery_action(calls.gpu()),
            "volatileUncorrectedEcc": pynvml.nvmlDeviceGetTotalEccErrors(calls.gpu(), UNCORRECTED, VOLATILE),
            "aggregateUncorrectedEcc": pynvml.nvmlDeviceGetTotalEccErrors(calls.gpu(), UNCORRECTED, AGGREGATE),
            "remapPending": pending,
            "remapFailure": failed,
        }
    assert got == want


def test_with_mig_off_a_gpu_counts_its_ecc_errors_until_it_is_reset(nvml: SimulatedDriver) -> None:
    nvml.set_ecc_errors(calls.spec().uuid, 3)
    assert pynvml.nvmlDeviceGetTotalEccErrors(calls.gpu(), UNCORRECTED, VOLATILE) == 3
    assert pynvml.nvmlDeviceGetMemoryErrorCounter(calls.gpu(), UNCORRECTED, VOLATILE, DRAM) == 3
    nvml.reset_gpu(calls.spec().uuid)
    assert pynvml.nvmlDeviceGetTotalEccErrors(calls.gpu(), UNCORRECTED, VOLATILE) == 0


def test_with_mig_on_only_a_slice_counts_and_only_its_sram(nvml: SimulatedDriver) -> None:
    handle = calls.mig_gpu()
    made = calls.make(handle, 14, 0, 2)
    nvml.set_ecc_errors(made.uuid, 2)
    device = pynvml.nvmlDeviceGetHandleByUUID(made.uuid)
    assert pynvml.nvmlDeviceGetMemoryErrorCounter(device, UNCORRECTED, VOLATILE, SRAM) == 2
    ask = pynvml.nvmlDeviceGetMemoryErrorCounter
    assert calls.code(ask, device, UNCORRECTED, VOLATILE, DRAM) == calls.NOT_SUPPORTED
    assert calls.code(ask, device, UNCORRECTED, AGGREGATE, SRAM) == calls.NOT_SUPPORTED
    assert calls.code(ask, handle, UNCORRECTED, VOLATILE, SRAM) == calls.NOT_SUPPORTED
    assert calls.code(ask, handle, UNCORRECTED, AGGREGATE, REGISTERS) == calls.NOT_SUPPORTED
    assert calls.code(ask, handle, UNCORRECTED, VOLATILE, 8) == calls.INVALID_ARGUMENT
    total = pynvml.nvmlDeviceGetTotalEccErrors
    assert calls.code(total, handle, UNCORRECTED, VOLATILE) == calls.NOT_SUPPORTED
    assert calls.code(total, device, UNCORRECTED, VOLATILE) == calls.NOT_SUPPORTED


def test_remapped_rows_are_told_only_while_there_are_no_instances(nvml: SimulatedDriver) -> None:
    handle = calls.mig_gpu()
    nvml.set_remapping(calls.spec().uuid, pending=True, failed=True)
    assert pynvml.nvmlDeviceGetRemappedRows(handle) == (0, 2, 1, 1)
    made = calls.make(handle, 14, 0, 2)
    assert calls.code(pynvml.nvmlDeviceGetRemappedRows, handle) == calls.NOT_SUPPORTED
    calls.unmake(made)
    nvml.reset_gpu(calls.spec().uuid)
    assert pynvml.nvmlDeviceGetRemappedRows(calls.gpu())[2:] == (0, 1), "a reset remaps; a failure stays"


def test_the_recovery_action_is_a_field_that_a_reset_clears(nvml: SimulatedDriver) -> None:
    nvml.set_recovery_action(calls.spec().uuid, pynvml.NVML_GPU_RECOVERY_ACTION_GPU_RESET)
    assert recovery_action(calls.gpu()) == 1
    nvml.reset_gpu(calls.spec().uuid)
    assert recovery_action(calls.gpu()) == 0
    (other,) = pynvml.nvmlDeviceGetFieldValues(calls.gpu(), [pynvml.NVML_FI_DEV_REMAPPED_PENDING])
    assert other.nvmlReturn == calls.NOT_SUPPORTED


@pytest.mark.parametrize("way", ["reset", "back on the bus", "reboot"])
def test_energy_is_counted_anew_after_a_reset(nvml: SimulatedDriver, way: str) -> None:
    uuid = calls.spec().uuid
    while (before := pynvml.nvmlDeviceGetTotalEnergyConsumption(calls.gpu())) < 5000:
        pass  # 100 W: 50 ms
    match way:
        case "reset":
            nvml.reset_gpu(uuid)
        case "reboot":
            nvml.reboot()
        case _:
            nvml.set_lost(uuid, True)
            nvml.set_lost(uuid, False)
    assert pynvml.nvmlDeviceGetTotalEnergyConsumption(calls.gpu()) < before


def test_a_lost_gpu_says_nothing_about_its_health(nvml: SimulatedDriver) -> None:
    handle = calls.gpu()
    nvml.set_lost(calls.spec().uuid, True)
    for code in (
        calls.code(pynvml.nvmlDeviceGetTotalEccErrors, handle, UNCORRECTED, VOLATILE),
        calls.code(pynvml.nvmlDeviceGetRemappedRows, handle),
        calls.code(pynvml.nvmlDeviceGetFieldValues, handle, [ACTION]),
        calls.code(pynvml.nvmlDeviceGetTotalEnergyConsumption, handle),
    ):
        assert code == pynvml.NVML_ERROR_GPU_IS_LOST


def test_xids_are_in_the_kernels_log_until_the_next_boot(nvml: SimulatedDriver) -> None:
    made = calls.make(calls.mig_gpu(), 14, 0, 2)
    nvml.inject_xid(made.uuid, 94)
    nvml.inject_xid(calls.spec().uuid, 79)
    first, second = log_of(nvml)
    assert re.fullmatch(r"4,0,\d+,-;NVRM: Xid \(PCI:0000:10:00 GPU-I:03 GPU-CI:00\): 94, pid=.*", first)
    assert re.fullmatch(r"4,1,\d+,-;NVRM: Xid \(PCI:0000:10:00\): 79, pid=.*", second)
    nvml.reboot()
    assert log_of(nvml) == []
    nvml.inject_xid(calls.spec().uuid, 79)
    assert log_of(nvml)[0].startswith("4,0,")
