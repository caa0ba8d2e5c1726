"""What is NVML's alone: sessions, tries, GPUs that answer in part. The rest is in tests/contract."""

from __future__ import annotations

import threading
from pathlib import Path

import pynvml
import pytest
from cdmo_harness.driver import SimulatedDriver

from cdmo.errors import (
    DriverFault,
    DriverHung,
    DriverUnavailable,
    HardwareError,
    InUse,
    LibraryMismatch,
    NotSupported,
)
from cdmo.hardware.nvml import DESTROY_PAUSES, NvmlGpus
from cdmo.model.gpu import MigMode, Placement

BUS, OTHER = "00000000:10:00.0", "00000000:20:00.0"
ONE = Placement(19, 0)


def no_session_is_open() -> bool:
    """NVML counts its users: after the last one has left, calls answer "uninitialised"."""
    try:
        pynvml.nvmlDeviceGetCount()
    except pynvml.NVMLError_Uninitialized:
        return True
    return False


def test_every_call_closes_its_session(gpus: NvmlGpus) -> None:
    gpus.read()
    assert no_session_is_open()
    gpus.set_mig_mode(BUS, True)
    gpus.create(BUS, ONE)
    assert no_session_is_open()


def test_a_failed_call_closes_its_session(gpus: NvmlGpus) -> None:
    with pytest.raises(HardwareError):
        gpus.create(BUS, ONE)
    assert no_session_is_open()


def test_a_session_that_does_not_close_does_not_hide_the_answer(gpus: NvmlGpus, driver: SimulatedDriver) -> None:
    driver.fail_nth("nvmlShutdown", pynvml.NVML_ERROR_UNKNOWN)
    assert len(gpus.read().gpus) == 2
    pynvml.nvmlShutdown()


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (pynvml.NVML_ERROR_DRIVER_NOT_LOADED, DriverUnavailable),
        (pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH, LibraryMismatch),
    ],
)
def test_a_driver_that_does_not_start_is_named(
    gpus: NvmlGpus, driver: SimulatedDriver, code: int, kind: type[HardwareError]
) -> None:
    driver.fail_nth("nvmlInitWithFlags", code)
    with pytest.raises(kind):
        gpus.read()
    assert len(gpus.read().gpus) == 2


def test_a_driver_replaced_in_the_middle_of_a_reading_is_not_taken_for_a_broken_gpu(
    gpus: NvmlGpus, driver: SimulatedDriver
) -> None:
    driver.fail_nth("nvmlDeviceGetMigMode", pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH)
    with pytest.raises(LibraryMismatch):
        gpus.read()


def test_the_library_is_looked_for_until_it_is_there(driver: SimulatedDriver) -> None:
    looks: list[int] = []

    def find() -> Path:
        looks.append(1)
        if len(looks) < 3:
            raise DriverUnavailable("not there yet")
        return driver.library

    gpus = NvmlGpus(find, lambda _: None)
    for _ in range(2):
        with pytest.raises(DriverUnavailable):
            gpus.read()
    assert len(gpus.read().gpus) == 2
    gpus.read()
    assert len(looks) == 3


def test_a_gpu_instance_in_use_for_a_moment_after_its_compute_instance_went_is_tried_again(
    gpus: NvmlGpus, driver: SimulatedDriver, pauses: list[float]
) -> None:
    gpus.set_mig_mode(BUS, True)
    made = gpus.create(BUS, ONE)
    driver.fail_nth("nvmlGpuInstanceDestroy", pynvml.NVML_ERROR_IN_USE)
    gpus.destroy(BUS, made.id, ONE)
    assert pauses == [DESTROY_PAUSES[0]]
    assert gpus.read().gpus[0].instances == ()


def test_tries_to_destroy_end_within_a_second(driver: SimulatedDriver) -> None:
    pauses: list[float] = []

    def stay_in_use(seconds: float) -> None:
        pauses.append(seconds)
        driver.fail_nth("nvmlGpuInstanceDestroy", pynvml.NVML_ERROR_IN_USE)

    gpus = NvmlGpus(lambda: driver.library, stay_in_use)
    gpus.set_mig_mode(BUS, True)
    made = gpus.create(BUS, ONE)
    driver.fail_nth("nvmlGpuInstanceDestroy", pynvml.NVML_ERROR_IN_USE)
    with pytest.raises(InUse):
        gpus.destroy(BUS, made.id, ONE)
    assert pauses == list(DESTROY_PAUSES)
    assert sum(pauses) < 1
    (half_done,) = gpus.read().gpus[0].instances
    assert (half_done.placement, half_done.compute_instances) == (ONE, ())


@pytest.mark.parametrize(
    ("entry", "code"),
    [
        ("nvmlDeviceGetMinorNumber", pynvml.NVML_ERROR_GPU_IS_LOST),
        ("nvmlDeviceGetMigMode", pynvml.NVML_ERROR_RESET_REQUIRED),
        ("nvmlDeviceGetGpuInstancePossiblePlacements_v2", pynvml.NVML_ERROR_UNKNOWN),
        ("nvmlDeviceGetComputeRunningProcesses_v3", pynvml.NVML_ERROR_NO_PERMISSION),
    ],
)
def test_a_gpu_that_answers_in_part_has_a_problem(
    gpus: NvmlGpus, driver: SimulatedDriver, entry: str, code: int
) -> None:
    driver.fail_nth(entry, code)
    first, second = gpus.read().gpus
    assert f"(NVML code {code})" in first.problem
    assert (first.pci_bus_id, first.uuid) == (BUS, driver.snapshot()[0].uuid)
    assert second.problem == ""


def test_processes_that_cannot_be_read_are_never_taken_for_none(gpus: NvmlGpus, driver: SimulatedDriver) -> None:
    gpus.set_mig_mode(BUS, True)
    made = gpus.create(BUS, ONE)
    driver.add_process(made.device_uuid, 4242)
    driver.fail_nth("nvmlDeviceGetComputeRunningProcesses_v3", pynvml.NVML_ERROR_UNKNOWN)
    assert gpus.read().gpus[0].problem
    driver.fail_nth("nvmlDeviceGetComputeRunningProcesses_v3", pynvml.NVML_ERROR_UNKNOWN)
    with pytest.raises(DriverFault):
        gpus.destroy(BUS, made.id, ONE)
    assert driver.counters().destroyed_in_use_attempts == 0


def test_a_gpu_that_was_never_seen_and_does_not_answer_is_counted_and_left_out(driver: SimulatedDriver) -> None:
    driver.set_lost(driver.snapshot()[0].uuid, True)
    gpus = NvmlGpus(lambda: driver.library, lambda _: None)
    reading = gpus.read()
    assert ([each.pci_bus_id for each in reading.gpus], reading.silent) == ([OTHER], 1)
    assert gpus.set_mig_mode(OTHER, True) is MigMode.ENABLED


def test_calls_from_several_threads_take_turns(gpus: NvmlGpus, driver: SimulatedDriver) -> None:
    gpus.set_mig_mode(BUS, True)
    readings: list[int] = []
    threads = [threading.Thread(target=lambda: readings.append(len(gpus.read().gpus))) for _ in range(4)]
    for each in threads:
        each.start()
    for start in range(4):
        gpus.create(BUS, Placement(19, start))
    for each in threads:
        each.join(5)
    assert readings == [2, 2, 2, 2]
    assert no_session_is_open()


def test_a_reset_is_made_outside_of_any_session_of_the_gpu_that_is_meant(driver: SimulatedDriver) -> None:
    made: list[tuple[str, int, bool]] = []

    def reset(bus: str, minor: int) -> None:
        made.append((bus, minor, no_session_is_open()))
        driver.reset_gpu(driver.snapshot()[minor].uuid)

    gpus = NvmlGpus(lambda: driver.library, lambda _: None, reset=reset)
    for bus in (BUS, OTHER):
        gpus.set_mig_mode(bus, True)
        gpus.create(bus, ONE)
    gpus.reset(OTHER)
    assert made == [(OTHER, 1, True)]
    assert [len(each.instances) for each in gpus.read().gpus] == [1, 0]


def test_a_reset_that_nobody_waits_for_any_more_is_not_made(driver: SimulatedDriver) -> None:
    made: list[str] = []

    def given_up() -> None:
        raise DriverHung("it was given up")

    gpus = NvmlGpus(lambda: driver.library, lambda _: None, given_up, lambda bus, _: made.append(bus))
    with pytest.raises(DriverHung):
        gpus.reset(BUS)
    assert made == []


def test_who_only_reads_cannot_reset(gpus: NvmlGpus) -> None:
    with pytest.raises(NotSupported, match=BUS):
        gpus.reset(BUS)
