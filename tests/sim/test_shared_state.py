"""One state, several processes; and state files that are not one."""

from __future__ import annotations

import fcntl
import os
import select
import subprocess
import sys
from itertools import combinations
from pathlib import Path

import pynvml
import pytest
from cdmo_harness.driver import GpuSpec, SimulatedDriver, SimulatorRefused, SliceSnapshot

from cdmo.errors import BadInput
from tests.sim import calls
from tests.sim.conftest import MakeDriver

CUTTER = """
import ctypes, random, sys
import pynvml
pick = random.Random(sys.argv[1])
pynvml.nvmlInit()
gpu = pynvml.nvmlDeviceGetHandleByIndex(0)
table = [(19, s, 1) for s in range(7)] + [(14, s, 2) for s in (0, 2, 4)] + [(9, s, 4) for s in (0, 4)]
mine = []
for _ in range(300):
    profile, start, size = pick.choice(table)
    place = pynvml.c_nvmlGpuInstancePlacement_t(start, size)
    try:
        mine.append(pynvml.nvmlDeviceCreateGpuInstanceWithPlacement(gpu, profile, ctypes.byref(place)))
    except pynvml.NVMLError_InsufficientResources:
        if mine:
            pynvml.nvmlGpuInstanceDestroy(mine.pop(pick.randrange(len(mine))))
for instance in mine:
    pynvml.nvmlGpuInstanceGetInfo(instance)
print(len(mine))
"""


def overlap(one: SliceSnapshot, other: SliceSnapshot) -> bool:
    """Whether two slices share a memory slot."""
    return one.start < other.start + other.size and other.start < one.start + one.size


def test_processes_that_cut_at_the_same_time_never_get_overlapping_placements(driver: SimulatedDriver) -> None:
    with calls.session(driver):
        calls.mig_gpu()
    command = [sys.executable, "-c", CUTTER]
    cutters = [
        subprocess.Popen([*command, str(seed)], env=driver.environment(), stdout=subprocess.PIPE, text=True)
        for seed in range(2)
    ]
    looks = 0
    try:
        while any(each.poll() is None for each in cutters):
            slices = driver.snapshot()[0].slices
            assert not [pair for pair in combinations(slices, 2) if overlap(*pair)]
            looks += 1
        kept = sum(int(each.communicate(timeout=10)[0]) for each in cutters)
    finally:
        for each in cutters:
            each.kill()
            each.wait()
    counters = driver.counters()
    assert [each.returncode for each in cutters] == [0, 0]
    assert looks > 10
    assert counters.gpu_instances_created > 50
    assert counters.gpu_instances_created - counters.gpu_instances_destroyed == kept
    assert len(driver.snapshot()[0].slices) == kept


def session_descriptor(state: Path) -> int:
    """The file descriptor by which this process' NVML session holds the state; nothing else may hold it."""
    links = {int(each.name): each for each in Path("/proc/self/fd").iterdir() if each.is_symlink()}
    (found,) = (number for number, link in links.items() if os.path.realpath(link) == str(state.resolve()))
    return found


def test_a_forked_child_takes_the_lock_for_itself(nvml: SimulatedDriver) -> None:
    nvml.close()
    descriptor = session_descriptor(nvml.state)
    answered, answer = os.pipe()
    fcntl.flock(descriptor, fcntl.LOCK_EX)  # as the session itself does for the time of a call
    child = os.fork()
    if child == 0:
        try:
            os.write(answer, bytes([pynvml.nvmlDeviceGetCount()]))
        finally:
            os._exit(0)
    waited = select.select([answered], [], [], 0.2)[0]
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    count = os.read(answered, 1)
    os.waitpid(child, 0)
    os.close(answered)
    os.close(answer)
    assert (waited, count) == ([], bytes([1]))


def test_a_process_holds_several_drivers_apart(make_driver: MakeDriver) -> None:
    one, other = make_driver(calls.spec()), make_driver(calls.spec(calls.A30), calls.spec(number=1))
    with calls.session(other):
        made = calls.make(calls.mig_gpu(1), 19, 0, 1)
        other.add_process(made.uuid, 5)
    with pytest.raises(SimulatorRefused) as refused:
        one.add_process(made.uuid, 5)
    assert refused.value.code == calls.NOT_FOUND
    assert one.snapshot()[0].slices == ()
    assert calls.tree(one.root) == set()
    assert [len(each.slices) for each in other.snapshot()] == [0, 1]


def test_the_knobs_of_one_driver_keep_to_its_own_root(make_driver: MakeDriver) -> None:
    one, other = make_driver(calls.spec()), make_driver(calls.spec())
    with calls.session(one):
        calls.make(calls.mig_gpu(), 9, 0, 4)
        other.reboot()
        assert calls.tree(one.root) == {"gpu0/mig/gi2", "gpu0/mig/gi2/ci0"}


@pytest.mark.parametrize("size", [0, 16, 4096])
def test_a_state_that_is_cut_short_means_no_driver(driver: SimulatedDriver, size: int) -> None:
    with calls.session(driver):
        whole = driver.state.read_bytes()
        os.truncate(driver.state, size)
        assert calls.code(pynvml.nvmlDeviceGetCount) == calls.DRIVER_NOT_LOADED
        assert calls.code(pynvml.nvmlInit) in (calls.SUCCESS, calls.DRIVER_NOT_LOADED)
        driver.state.write_bytes(whole)


def test_a_state_of_another_version_is_a_mismatch(driver: SimulatedDriver) -> None:
    with driver.state.open("r+b") as file:
        file.seek(4)  # behind the magic number
        file.write((99).to_bytes(4, sys.byteorder))
    with pytest.raises(SimulatorRefused) as refused:
        SimulatedDriver(driver.library, driver.state, driver.root)
    assert refused.value.code == calls.VERSION_MISMATCH
    with pytest.raises(pynvml.NVMLError) as raised, calls.session(driver):
        pass
    assert raised.value.value == calls.VERSION_MISMATCH


@pytest.mark.parametrize("content", [None, b"", b"something else" * 100_000])
def test_without_a_state_there_is_no_driver(library: Path, tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "state"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SimulatorRefused) as refused:
        SimulatedDriver(library, path, tmp_path)
    assert refused.value.code == calls.DRIVER_NOT_LOADED


def test_a_card_that_is_not_known_is_refused_with_those_that_are(make_driver: MakeDriver) -> None:
    with pytest.raises(BadInput) as refused:
        make_driver(GpuSpec("A1000", "00000000:10:00.0", calls.spec().uuid))
    assert "A100-SXM4-80GB" in refused.value.hint


@pytest.mark.parametrize(
    "second",
    [
        GpuSpec(calls.H100, calls.spec().pci_bus_id, calls.spec(number=1).uuid),
        GpuSpec(calls.H100, calls.spec(number=1).pci_bus_id, calls.spec().uuid),
        GpuSpec(calls.H100, calls.spec(number=1).pci_bus_id, calls.spec(number=1).uuid, minor=0),
        GpuSpec(calls.H100, "10:00", calls.spec(number=1).uuid),
        GpuSpec(calls.H100, calls.spec(number=1).pci_bus_id, "GPU-1"),
    ],
)
def test_gpus_that_cannot_be_told_apart_are_refused(make_driver: MakeDriver, second: GpuSpec) -> None:
    with pytest.raises(SimulatorRefused):
        make_driver(calls.spec(), second)
