"""Latency, failing and hanging calls, processes and events."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pynvml
import pytest
from cdmo_harness.driver import SimulatedDriver

from tests.sim import calls
from tests.sim.conftest import MakeDriver

WAIT_LIMIT = 5.0  # seconds

WATCHER = """
import pynvml
pynvml.nvmlInit()
events = pynvml.nvmlEventSetCreate()
pynvml.nvmlDeviceRegisterEvents(pynvml.nvmlDeviceGetHandleByIndex(0), pynvml.nvmlEventTypeXidCriticalError, events)
print("registered", flush=True)
event = pynvml.nvmlEventSetWait_v2(events, 10000)
uuid = pynvml.nvmlDeviceGetUUID(event.device)
print(uuid, event.eventType, event.eventData, event.gpuInstanceId, event.computeInstanceId, flush=True)
"""


@contextmanager
def watcher(driver: SimulatedDriver) -> Iterator[subprocess.Popen[str]]:
    """A process that waits for one XID of the first GPU and prints it."""
    with subprocess.Popen(
        [sys.executable, "-c", WATCHER], env=driver.environment(), stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "registered\n"
            yield process
        finally:
            process.kill()


def heard(process: subprocess.Popen[str]) -> str:
    """What the watcher prints."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_latency_is_paid_by_the_entry_point_it_was_set_for(nvml: SimulatedDriver) -> None:
    nvml.set_latency("nvmlDeviceGetMigMode", 0.05)
    handle = calls.gpu()
    before = time.monotonic()
    pynvml.nvmlDeviceGetMigMode(handle)
    assert time.monotonic() - before >= 0.05
    nvml.set_latency("nvmlDeviceGetMigMode", 0)
    before = time.monotonic()
    pynvml.nvmlDeviceGetMigMode(handle)
    assert time.monotonic() - before < 0.05


def test_a_slow_call_does_not_hold_up_others(nvml: SimulatedDriver) -> None:
    nvml.set_latency("nvmlDeviceGetCount_v2", 0.6)
    slow = threading.Thread(target=pynvml.nvmlDeviceGetCount)
    before = time.monotonic()
    slow.start()
    nvml.snapshot()
    pynvml.nvmlDeviceGetMigMode(calls.gpu())
    assert time.monotonic() - before < 0.5
    slow.join(WAIT_LIMIT)


def test_exactly_the_nth_call_fails_and_does_nothing(nvml: SimulatedDriver) -> None:
    handle = calls.mig_gpu()
    nvml.fail_nth("nvmlDeviceCreateGpuInstanceWithPlacement", calls.IN_USE, nth=2)
    codes = [calls.code(calls.create, handle, 19, start, 1) for start in range(3)]
    assert codes == [calls.SUCCESS, calls.IN_USE, calls.SUCCESS]
    assert [each.start for each in nvml.snapshot()[0].slices] == [0, 2]
    assert nvml.counters().refusals == {calls.IN_USE: 1}


def test_an_initialisation_that_fails_leaves_no_session(driver: SimulatedDriver) -> None:
    driver.fail_nth("nvmlInitWithFlags", 9, nth=2)
    with calls.session(driver):
        assert calls.code(pynvml.nvmlInit) == calls.DRIVER_NOT_LOADED
        assert pynvml.nvmlDeviceGetCount() == 1


def test_a_hung_call_returns_only_when_it_is_released(nvml: SimulatedDriver) -> None:
    entry = "nvmlDeviceGetMigMode"
    nvml.hang(entry)
    answers: list[list[int]] = []
    caller = threading.Thread(target=lambda: answers.append(pynvml.nvmlDeviceGetMigMode(calls.gpu())))
    caller.start()
    limit = time.monotonic() + WAIT_LIMIT
    while nvml.hung_calls(entry) == 0 and time.monotonic() < limit:
        caller.join(0.002)
    assert (nvml.hung_calls(entry), answers) == (1, [])
    nvml.release(entry)
    caller.join(WAIT_LIMIT)
    assert (nvml.hung_calls(entry), answers) == (0, [[0, 0]])


def test_a_caller_killed_in_a_hung_call_is_not_in_the_count_of_the_next_time(driver: SimulatedDriver) -> None:
    entry = "nvmlInitWithFlags"
    driver.hang(entry)
    command = [sys.executable, "-m", "cdmo_harness.cutting", str(driver.library), "0"]
    with subprocess.Popen(command, env={**os.environ, **driver.environment()}) as caller:
        limit = time.monotonic() + WAIT_LIMIT
        while driver.hung_calls(entry) == 0 and time.monotonic() < limit:
            with suppress(subprocess.TimeoutExpired):
                caller.wait(0.01)
        caller.kill()
    assert driver.hung_calls(entry) == 1, "the count says who came, not who lives"
    driver.release(entry)
    driver.hang(entry)
    assert driver.hung_calls(entry) == 0


def test_processes_are_listed_on_their_slice_and_on_its_gpu(nvml: SimulatedDriver) -> None:
    handle = calls.mig_gpu()
    first, second = calls.make(handle, 9, 0, 4), calls.make(handle, 9, 4, 4)
    nvml.add_process(first.uuid, 11, memory_bytes=5 << 20)
    nvml.add_process(second.uuid, 12)
    device = pynvml.nvmlDeviceGetHandleByUUID(first.uuid)
    (process,) = pynvml.nvmlDeviceGetComputeRunningProcesses(device)
    assert (process.pid, process.usedGpuMemory, process.gpuInstanceId, process.computeInstanceId) == (
        11,
        5 << 20,
        2,
        0,
    )
    assert [each.pid for each in pynvml.nvmlDeviceGetComputeRunningProcesses(handle)] == [11, 12]
    assert pynvml.nvmlDeviceGetMemoryInfo(device).used == 5 << 20


def test_an_xid_reaches_every_process_that_registered(make_driver: MakeDriver) -> None:
    driver = make_driver(calls.spec(), calls.spec(number=1))
    uuid = calls.spec().uuid
    with watcher(driver) as one, watcher(driver) as other:
        driver.inject_xid(calls.spec(number=1).uuid, 63)  # of a GPU nobody registered for
        driver.inject_xid(uuid, 79)
        want = f"{uuid} 8 79 {0xFFFFFFFF} {0xFFFFFFFF}"
        assert [heard(one), heard(other)] == [want, want]


def test_an_xid_of_a_slice_names_its_instances(nvml: SimulatedDriver) -> None:
    made = calls.make(calls.mig_gpu(), 14, 0, 2)
    events = pynvml.nvmlEventSetCreate()
    pynvml.nvmlDeviceRegisterEvents(calls.gpu(), pynvml.nvmlEventTypeXidCriticalError, events)
    nvml.inject_xid(made.uuid, 94)
    event = pynvml.nvmlEventSetWait_v2(events, 1000)
    assert (event.eventData, event.gpuInstanceId, event.computeInstanceId) == (94, 3, 0)
    assert calls.code(pynvml.nvmlEventSetWait_v2, events, 1) == calls.TIMEOUT
    pynvml.nvmlEventSetFree(events)
    assert calls.code(pynvml.nvmlEventSetWait_v2, events, 1) == calls.INVALID_ARGUMENT


def test_events_of_a_mig_device_cannot_be_registered(nvml: object) -> None:
    made = calls.make(calls.mig_gpu(), 14, 0, 2)
    device, events = pynvml.nvmlDeviceGetHandleByUUID(made.uuid), pynvml.nvmlEventSetCreate()
    assert calls.code(pynvml.nvmlDeviceRegisterEvents, device, 8, events) == calls.NOT_SUPPORTED


@pytest.mark.parametrize(("version", "cuda"), [("535.183.01", 12020), ("580.159.04", 13000), ("595.45.04", 13020)])
def test_the_driver_version_is_what_it_was_set_to(nvml: SimulatedDriver, version: str, cuda: int) -> None:
    nvml.set_driver_version(version)
    assert pynvml.nvmlSystemGetDriverVersion() == version
    assert pynvml.nvmlSystemGetCudaDriverVersion_v2() == cuda
