"""Instances, their ids, their MIG devices, and compute instances of less than full width."""

from __future__ import annotations

from ctypes import byref, c_uint

import pynvml
from cdmo_harness.driver import SimulatedDriver

from tests.sim import calls
from tests.sim.conftest import MakeDriver


def ids_of(handle: calls.Handle, *wanted: tuple[int, int, int]) -> list[int]:
    """The GPU instance ids that these placements get, in this order."""
    return [calls.instance_id(calls.create(handle, *each)) for each in wanted]


def test_instance_ids_follow_the_size_and_not_the_start(nvml: object) -> None:
    handle = calls.mig_gpu()
    assert ids_of(handle, (9, 0, 4), (14, 4, 2), (19, 6, 1)) == [2, 3, 7]


def test_a30_gives_the_ids_that_a_real_one_gave(make_driver: MakeDriver) -> None:
    driver = make_driver(calls.spec(calls.A30))
    with calls.session(driver):
        handle = calls.gpu()
        pynvml.nvmlDeviceSetMigMode(handle, 1)
        driver.reset_gpu(calls.spec().uuid)
        assert ids_of(handle, (5, 0, 2), (14, 2, 1), (14, 3, 1)) == [2, 3, 4]


def test_mig_device_indices_shift_when_a_lower_id_appears(nvml: object) -> None:
    handle = calls.mig_gpu()
    calls.make(handle, 19, 6, 1)
    assert calls.mig_ids(handle) == [7]
    calls.make(handle, 9, 0, 4)
    assert calls.mig_ids(handle) == [2, 7]


def test_a_gpu_instance_without_compute_instance_has_no_mig_device(nvml: SimulatedDriver) -> None:
    handle = calls.mig_gpu()
    instance = calls.create(handle, 14, 0, 2)
    assert calls.mig_ids(handle) == []
    handles, count = (pynvml.c_nvmlGpuInstance_t * 3)(), c_uint()
    pynvml.nvmlDeviceGetGpuInstances(handle, 14, handles, byref(count))
    assert [calls.instance_id(each) for each in handles[: count.value]] == [calls.instance_id(instance)]
    (found,) = nvml.snapshot()[0].slices
    assert (found.compute_instance, found.uuid, found.full_width) == (None, "", False)


def test_a_mig_device_answers_for_its_slice(nvml: object) -> None:
    handle = calls.mig_gpu()
    made = calls.make(handle, 9, 4, 4)
    device = pynvml.nvmlDeviceGetHandleByUUID(made.uuid)
    assert pynvml.nvmlDeviceIsMigDeviceHandle(device).value == 1
    assert pynvml.nvmlDeviceIsMigDeviceHandle(handle).value == 0
    assert pynvml.nvmlDeviceGetUUID(device) == made.uuid
    assert pynvml.nvmlDeviceGetName(device) == "NVIDIA H100 80GB HBM3 MIG 3g.40gb"
    assert pynvml.nvmlDeviceGetMemoryInfo(device).total == 40448 << 20
    parent = pynvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(device)
    assert pynvml.nvmlDeviceGetIndex(parent) == 0
    attributes = pynvml.nvmlDeviceGetAttributes(device)
    assert (attributes.multiprocessorCount, attributes.memorySizeMB) == (60, 40448)
    assert (attributes.gpuInstanceSliceCount, attributes.computeInstanceSliceCount) == (3, 3)
    assert calls.code(pynvml.nvmlDeviceGetAttributes, handle) == calls.NOT_SUPPORTED


def test_compute_instances_can_share_a_gpu_instance(nvml: SimulatedDriver) -> None:
    handle = calls.mig_gpu()
    instance = calls.create(handle, 9, 0, 4)
    parts = [pynvml.nvmlGpuInstanceCreateComputeInstance(instance, 0) for _ in range(3)]
    assert calls.code(pynvml.nvmlGpuInstanceCreateComputeInstance, instance, 0) == calls.NO_ROOM
    infos = [pynvml.nvmlComputeInstanceGetInfo(each) for each in parts]
    assert [(each.id, each.profileId, each.placement.start) for each in infos] == [(0, 0, 0), (1, 0, 1), (2, 0, 2)]
    assert pynvml.nvmlDeviceGetName(infos[1].device) == "NVIDIA H100 80GB HBM3 MIG 1c.3g.40gb"
    assert len({each.uuid for each in nvml.snapshot()[0].slices}) == 3
    assert not any(each.full_width for each in nvml.snapshot()[0].slices)
    assert calls.mig_ids(handle) == [2, 2, 2]
    pynvml.nvmlComputeInstanceDestroy(parts[1])
    assert calls.code(pynvml.nvmlGpuInstanceCreateComputeInstance, instance, 2) == calls.NO_ROOM
    assert pynvml.nvmlGpuInstanceGetComputeInstanceRemainingCapacity(instance, 0) == 1


def test_a_gpu_instance_offers_no_wider_compute_instance_than_itself(nvml: object) -> None:
    instance = calls.create(calls.mig_gpu(), 14, 0, 2)
    assert calls.code(pynvml.nvmlGpuInstanceCreateComputeInstance, instance, 2) == calls.NOT_SUPPORTED
    assert calls.full_width(instance) == 1
    info = pynvml.nvmlGpuInstanceGetComputeInstanceProfileInfo(instance, 1, 0)
    assert (info.name, info.sliceCount, info.instanceCount, info.multiprocessorCount) == ("MIG 2g.20gb", 2, 1, 32)


def test_uuids_are_made_of_gpu_and_ids_alone(make_driver: MakeDriver) -> None:
    uuids = []
    for _ in range(2):
        with calls.session(make_driver(calls.spec(), calls.spec(number=1))):
            made = [calls.make(calls.mig_gpu(index), 19, start, 1) for index in (0, 1) for start in range(7)]
            uuids.append([each.uuid for each in made])
    assert uuids[0] == uuids[1]
    assert len(set(uuids[0])) == 14


def test_gpus_are_numbered_by_bus_id(make_driver: MakeDriver) -> None:
    with calls.session(make_driver(calls.spec(number=3), calls.spec(calls.A30, number=1))):
        names = [pynvml.nvmlDeviceGetName(calls.gpu(index)) for index in range(pynvml.nvmlDeviceGetCount())]
        assert names == ["NVIDIA A30", "NVIDIA H100 80GB HBM3"]
        assert [pynvml.nvmlDeviceGetMinorNumber(calls.gpu(index)) for index in (0, 1)] == [1, 0]
        assert pynvml.nvmlDeviceGetIndex(pynvml.nvmlDeviceGetHandleByPciBusId("0000:13:00.0")) == 1
