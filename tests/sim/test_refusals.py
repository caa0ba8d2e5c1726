"""It refuses as the device does."""

from __future__ import annotations

from ctypes import byref, c_uint, create_string_buffer

import pynvml
import pytest
from cdmo_harness.driver import SimulatedDriver

from tests.sim import calls
from tests.sim.conftest import MakeDriver


def test_an_occupied_placement_is_refused(nvml: object) -> None:
    handle = calls.mig_gpu()
    calls.create(handle, 14, 2, 2)
    assert calls.code(calls.create, handle, 19, 3, 1) == calls.NO_ROOM
    assert calls.code(calls.create, handle, 9, 0, 4) == calls.NO_ROOM


@pytest.mark.parametrize(("profile_id", "start", "size"), [(9, 2, 4), (19, 7, 1), (14, 2, 1), (15, 1, 2), (99, 0, 1)])
def test_a_placement_that_the_card_does_not_know_is_a_bad_argument(
    nvml: object, profile_id: int, start: int, size: int
) -> None:
    assert calls.code(calls.create, calls.mig_gpu(), profile_id, start, size) == calls.INVALID_ARGUMENT


def test_no_more_instances_than_the_profile_allows(nvml: object) -> None:
    handle = calls.mig_gpu()
    calls.create(handle, 20, 0, 1)
    assert calls.code(calls.create, handle, 20, 1, 1) == calls.NO_ROOM


def test_a_media_engine_is_given_out_once(make_driver: MakeDriver) -> None:
    driver = make_driver(calls.spec("RTX-PRO-6000-BSE"))
    with calls.session(driver):
        handle = calls.mig_gpu()
        calls.create(handle, 65, 0, 3)  # 1g.24gb+me.all: every media engine of the card
        assert calls.code(calls.create, handle, 14, 3, 3) == calls.NO_ROOM
        assert calls.code(calls.create, handle, 67, 3, 3) == calls.SUCCESS  # 1g.24gb-me


def test_a_gpu_instance_with_a_compute_instance_in_it_is_in_use(nvml: SimulatedDriver) -> None:
    made = calls.make(calls.mig_gpu(), 9, 0, 4)
    assert calls.code(pynvml.nvmlGpuInstanceDestroy, made.gpu_instance) == calls.IN_USE
    assert nvml.counters().destroyed_in_use_attempts == 0
    calls.unmake(made)
    assert nvml.snapshot()[0].slices == ()


def test_an_instance_with_a_process_on_it_is_in_use_until_the_process_ends(nvml: SimulatedDriver) -> None:
    made = calls.make(calls.mig_gpu(), 19, 6, 1)
    nvml.add_process(made.uuid, 4711, memory_bytes=1 << 30)
    assert calls.code(pynvml.nvmlComputeInstanceDestroy, made.compute_instance) == calls.IN_USE
    assert calls.code(pynvml.nvmlGpuInstanceDestroy, made.gpu_instance) == calls.IN_USE
    assert nvml.counters().destroyed_in_use_attempts == 2
    nvml.remove_process(made.uuid, 4711)
    calls.unmake(made)
    assert nvml.counters().refusals[calls.IN_USE] == 2
    assert nvml.snapshot()[0].slices == ()


def test_without_mig_mode_no_instance_can_be_made(nvml: object) -> None:
    assert calls.code(calls.create, calls.gpu(), 19, 0, 1) == calls.NOT_SUPPORTED
    assert calls.code(pynvml.nvmlDeviceCreateGpuInstance, calls.gpu(), 19) == calls.NOT_SUPPORTED


def test_a_card_without_mig_supports_none_of_it(make_driver: MakeDriver) -> None:
    with calls.session(make_driver(calls.spec(calls.L40S))):
        handle, count = calls.gpu(), c_uint()
        assert pynvml.nvmlDeviceGetName(handle) == "NVIDIA L40S"
        assert calls.code(pynvml.nvmlDeviceGetMigMode, handle) == calls.NOT_SUPPORTED
        assert calls.code(pynvml.nvmlDeviceSetMigMode, handle, 1) == calls.NOT_SUPPORTED
        assert calls.code(pynvml.nvmlDeviceGetGpuInstanceProfileInfo, handle, 0) == calls.NOT_SUPPORTED
        places = (handle, 19, None, byref(count))
        assert calls.code(pynvml.nvmlDeviceGetGpuInstancePossiblePlacements, *places) == calls.NOT_SUPPORTED
        assert calls.code(calls.create, handle, 19, 0, 1) == calls.NOT_SUPPORTED
        assert pynvml.nvmlDeviceGetMaxMigDeviceCount(handle) == 0


def test_without_the_privilege_nothing_is_changed_but_everything_is_read(nvml: SimulatedDriver) -> None:
    handle = calls.mig_gpu()
    made = calls.make(handle, 9, 4, 4)
    other = calls.create(handle, 14, 0, 2)
    nvml.set_privileged(False)
    changes = (
        (pynvml.nvmlDeviceSetMigMode, handle, 0),
        (calls.create, handle, 19, 2, 1),
        (pynvml.nvmlDeviceCreateGpuInstance, handle, 19),
        (pynvml.nvmlGpuInstanceDestroy, other),
        (pynvml.nvmlGpuInstanceCreateComputeInstance, other, 1),
        (pynvml.nvmlComputeInstanceDestroy, made.compute_instance),
    )
    assert [calls.code(*each) for each in changes] == [calls.NO_PERMISSION] * len(changes)
    assert calls.mig_ids(handle) == [calls.instance_id(made.gpu_instance)]
    nvml.set_privileged(True)
    calls.unmake(made)


def test_every_call_needs_a_session(driver: SimulatedDriver) -> None:
    with calls.session(driver):
        handle = calls.gpu()
        pynvml.nvmlShutdown()
        try:
            assert calls.code(pynvml.nvmlDeviceGetCount) == calls.UNINITIALIZED
            assert calls.code(pynvml.nvmlDeviceGetMigMode, handle) == calls.UNINITIALIZED
            assert calls.code(pynvml.nvmlShutdown) == calls.UNINITIALIZED
        finally:
            pynvml.nvmlInit()


def test_a_buffer_that_is_too_small_is_said_to_be(nvml: SimulatedDriver) -> None:
    handle, buffer = calls.gpu(), create_string_buffer(96)
    library = pynvml.nvmlLib
    assert library.nvmlDeviceGetUUID(handle, buffer, 40) == calls.INSUFFICIENT_SIZE
    assert library.nvmlDeviceGetUUID(handle, buffer, 41) == calls.SUCCESS
    assert library.nvmlDeviceGetName(handle, buffer, 8) == calls.INSUFFICIENT_SIZE
    assert library.nvmlSystemGetDriverVersion(buffer, 3) == calls.INSUFFICIENT_SIZE
    nvml.add_process(pynvml.nvmlDeviceGetUUID(handle), 1)
    count = c_uint(0)
    assert library.nvmlDeviceGetComputeRunningProcesses_v3(handle, byref(count), None) == calls.INSUFFICIENT_SIZE
    assert count.value == 1


def test_a_structure_of_an_unknown_version_is_refused(nvml: object) -> None:
    info = pynvml.c_nvmlGpuInstanceProfileInfo_v2_t()
    info.version = 0x04000098
    answer = pynvml.nvmlLib.nvmlDeviceGetGpuInstanceProfileInfoV(calls.gpu(), 0, byref(info))
    assert answer == calls.STRUCTURE_VERSION_MISMATCH


def test_handles_of_what_is_gone_are_bad_arguments(nvml: object) -> None:
    handle = calls.mig_gpu()
    made = calls.make(handle, 9, 0, 4)
    device = pynvml.nvmlComputeInstanceGetInfo(made.compute_instance).device
    calls.unmake(made)
    assert calls.code(pynvml.nvmlGpuInstanceGetInfo, made.gpu_instance) == calls.INVALID_ARGUMENT
    assert calls.code(pynvml.nvmlGpuInstanceDestroy, made.gpu_instance) == calls.INVALID_ARGUMENT
    assert calls.code(pynvml.nvmlComputeInstanceGetInfo, made.compute_instance) == calls.INVALID_ARGUMENT
    assert calls.code(pynvml.nvmlDeviceGetUUID, device) == calls.INVALID_ARGUMENT
    assert calls.code(pynvml.nvmlDeviceGetHandleByUUID, made.uuid) == calls.NOT_FOUND


def test_a_handle_may_come_back_for_another_instance(nvml: object) -> None:
    handle = calls.mig_gpu()
    old = calls.make(handle, 9, 0, 4)
    calls.unmake(old)
    new = calls.make(handle, 5, 0, 4)
    assert new.uuid == old.uuid
    assert pynvml.nvmlGpuInstanceGetInfo(old.gpu_instance).profileId == 5


def test_what_is_not_there_is_not_found(nvml: object) -> None:
    handle = calls.mig_gpu()
    made = calls.make(handle, 9, 0, 4)
    assert calls.code(pynvml.nvmlDeviceGetGpuInstanceById, handle, 14) == calls.NOT_FOUND
    assert calls.code(pynvml.nvmlGpuInstanceGetComputeInstanceById, made.gpu_instance, 1) == calls.NOT_FOUND
    assert calls.code(pynvml.nvmlDeviceGetMigDeviceHandleByIndex, handle, 1) == calls.NOT_FOUND
    assert calls.code(pynvml.nvmlDeviceGetMigDeviceHandleByIndex, handle, 7) == calls.INVALID_ARGUMENT
    assert calls.code(pynvml.nvmlDeviceGetHandleByPciBusId, "00000000:7F:00.0") == calls.NOT_FOUND
    assert calls.code(pynvml.nvmlDeviceGetHandleByIndex, 1) == calls.INVALID_ARGUMENT


def test_a_gpu_off_the_bus_answers_nothing_more(make_driver: MakeDriver) -> None:
    driver = make_driver(calls.spec(), calls.spec(number=1))
    with calls.session(driver):
        handle, uuid = calls.mig_gpu(), calls.spec().uuid
        driver.set_lost(uuid, True)
        assert calls.code(pynvml.nvmlDeviceGetMigMode, handle) == calls.GPU_IS_LOST
        assert calls.code(pynvml.nvmlDeviceGetHandleByIndex, 0) == calls.GPU_IS_LOST
        assert calls.code(pynvml.nvmlDeviceGetHandleByIndex, 1) == calls.SUCCESS
        driver.set_lost(uuid, False)
        assert pynvml.nvmlDeviceGetMigMode(handle) == [1, 1]
