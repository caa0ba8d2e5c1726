"""MIG mode, reset and reboot."""

from __future__ import annotations

import pynvml
import pytest
from cdmo_harness.driver import SimulatedDriver, SimulatorRefused

from tests.sim import calls
from tests.sim.conftest import MakeDriver

MODERN = ("H100-SXM5-80GB", "H200-SXM5-141GB", "B200-180GB", "RTX-PRO-6000-BSE")


@pytest.mark.parametrize("card", MODERN)
def test_from_hopper_on_the_mode_changes_at_once(make_driver: MakeDriver, card: str) -> None:
    with calls.session(make_driver(calls.spec(card))):
        handle = calls.gpu()
        assert pynvml.nvmlDeviceSetMigMode(handle, 1) == calls.SUCCESS
        assert pynvml.nvmlDeviceGetMigMode(handle) == [1, 1]
        assert pynvml.nvmlDeviceSetMigMode(handle, 0) == calls.SUCCESS
        assert pynvml.nvmlDeviceGetMigMode(handle) == [0, 0]


@pytest.mark.parametrize("card", [calls.A100, calls.A30])
def test_on_ampere_the_mode_is_pending_until_a_reset(make_driver: MakeDriver, card: str) -> None:
    driver = make_driver(calls.spec(card))
    with calls.session(driver):
        handle = calls.gpu()
        assert pynvml.nvmlDeviceSetMigMode(handle, 1) == calls.RESET_REQUIRED
        assert pynvml.nvmlDeviceGetMigMode(handle) == [0, 1]
        assert calls.code(pynvml.nvmlDeviceCreateGpuInstance, handle, 0) == calls.NOT_SUPPORTED
        driver.reset_gpu(calls.spec().uuid)
        assert pynvml.nvmlDeviceGetMigMode(handle) == [1, 1]
        assert calls.code(pynvml.nvmlDeviceCreateGpuInstance, handle, 0) == calls.SUCCESS


def test_a_pending_mode_can_be_taken_back(make_driver: MakeDriver) -> None:
    with calls.session(make_driver(calls.spec(calls.A100))):
        handle = calls.gpu()
        pynvml.nvmlDeviceSetMigMode(handle, 1)
        assert pynvml.nvmlDeviceSetMigMode(handle, 0) == calls.SUCCESS
        assert pynvml.nvmlDeviceGetMigMode(handle) == [0, 0]


def test_the_mode_stays_while_instances_exist(nvml: object) -> None:
    handle = calls.mig_gpu()
    instance = calls.create(handle, 19, 0, 1)
    assert pynvml.nvmlDeviceSetMigMode(handle, 0) == calls.IN_USE
    assert pynvml.nvmlDeviceGetMigMode(handle)[0] == 1
    pynvml.nvmlGpuInstanceDestroy(instance)
    assert pynvml.nvmlDeviceSetMigMode(handle, 0) == calls.SUCCESS


def test_the_mode_stays_while_a_process_runs_on_the_gpu(nvml: SimulatedDriver) -> None:
    handle, uuid = calls.gpu(), calls.spec().uuid
    nvml.add_process(uuid, 99)
    assert pynvml.nvmlDeviceSetMigMode(handle, 1) == calls.IN_USE
    assert pynvml.nvmlDeviceGetMigMode(handle)[0] == 0
    nvml.remove_process(uuid, 99)
    assert pynvml.nvmlDeviceSetMigMode(handle, 1) == calls.SUCCESS


def test_a_reboot_takes_the_instances_everywhere_and_the_mode_from_hopper_on(make_driver: MakeDriver) -> None:
    driver = make_driver(calls.spec(), calls.spec(calls.A100, number=1))
    with calls.session(driver):
        pynvml.nvmlDeviceSetMigMode(calls.gpu(1), 1)
        driver.reset_gpu(calls.spec(number=1).uuid)
        for handle in (calls.mig_gpu(0), calls.gpu(1)):
            made = calls.make(handle, 9, 0, 4)
            driver.add_process(made.uuid, 7)
        assert calls.tree(driver.root) != set()
        driver.reboot()
        hopper, ampere = driver.snapshot()
        assert (hopper.mig_enabled, hopper.slices, hopper.processes) == (False, (), 0)
        assert (ampere.mig_enabled, ampere.slices, ampere.processes) == (True, (), 0)
        assert calls.tree(driver.root) == set()


def test_on_ampere_a_pending_mode_is_the_mode_after_a_reboot(make_driver: MakeDriver) -> None:
    driver = make_driver(calls.spec(calls.A100))
    with calls.session(driver):
        pynvml.nvmlDeviceSetMigMode(calls.gpu(), 1)
        driver.reboot()
        assert pynvml.nvmlDeviceGetMigMode(calls.gpu()) == [1, 1]


def test_a_gpu_with_a_process_on_it_cannot_be_reset(nvml: SimulatedDriver) -> None:
    uuid = calls.spec().uuid
    nvml.add_process(uuid, 3)
    with pytest.raises(SimulatorRefused) as refused:
        nvml.reset_gpu(uuid)
    assert refused.value.code == calls.IN_USE
