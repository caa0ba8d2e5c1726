"""Readings with their faults, on the simulated driver: what is remembered, and what survives the process."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from cdmo_harness.driver import SimulatedDriver

from cdmo.hardware.kernel_log import KernelLog
from cdmo.hardware.nvml import NvmlGpus
from cdmo.hardware.port import GpuReading
from cdmo.hardware.watched import WatchedGpus
from cdmo.model.gpu import MigMode, Placement
from tests.hardware.test_nvml import BUS, OTHER

ONE = Placement(19, 0)
NewAgent = Callable[[], WatchedGpus]


@pytest.fixture
def boot() -> list[str]:
    """The boot id; a test may change it."""
    return ["boot-1"]


@pytest.fixture
def new_agent(gpus: NvmlGpus, driver: SimulatedDriver, tmp_path: Path, boot: list[str]) -> NewAgent:
    """What a process that starts on this host makes."""

    def make() -> WatchedGpus:
        log = KernelLog(driver.root / "dev/kmsg")
        return WatchedGpus(gpus, log, tmp_path / "cdmo/health.json", lambda: boot[0])

    return make


@pytest.fixture
def watched(new_agent: NewAgent) -> WatchedGpus:
    """The host's first agent, with MIG on; it has looked once."""
    made = new_agent()
    assert made.set_mig_mode(BUS, True) is MigMode.ENABLED
    made.read()
    return made


def gpu_of(watched: WatchedGpus, bus: str = BUS) -> GpuReading:
    """One GPU as it is read now."""
    found = watched.read().gpu(bus)
    assert found is not None
    return found


def uuid_of(driver: SimulatedDriver) -> str:
    """The first GPU's."""
    return driver.snapshot()[0].uuid


def wait_for_energy(watched: WatchedGpus) -> None:
    """Until the counter of energy has moved on by 20 ms worth of it: it is 100 mJ a millisecond."""
    first, limit = gpu_of(watched).health.energy, time.monotonic() + 5.0
    while (gpu_of(watched).health.energy or 0) < (first or 0) + 2000:
        assert time.monotonic() < limit


def test_a_slice_is_out_of_use_from_its_xid_until_it_is_cut_anew(
    watched: WatchedGpus, driver: SimulatedDriver
) -> None:
    made = watched.create(BUS, ONE)
    driver.inject_xid(made.device_uuid, 94)
    (bad,) = gpu_of(watched).instances
    assert "XID 94" in bad.fault
    watched.destroy(BUS, made.id, ONE)
    again = watched.create(BUS, ONE)
    assert (again.id, again.device_uuid) == (made.id, made.device_uuid), "nothing tells it from the old one"
    assert [each.fault for each in gpu_of(watched).instances] == [""]


def test_faults_survive_the_process(watched: WatchedGpus, driver: SimulatedDriver, new_agent: NewAgent) -> None:
    made = watched.create(BUS, ONE)
    driver.inject_xid(made.device_uuid, 94)
    watched.read()
    driver.inject_xid(driver.snapshot()[1].uuid, 95)  # while no agent looks
    after = new_agent()
    assert "XID 94" in gpu_of(after).instances[0].fault
    assert "XID 95" in gpu_of(after, OTHER).trouble


def test_the_first_agent_of_a_host_begins_with_what_comes_then(new_agent: NewAgent, driver: SimulatedDriver) -> None:
    driver.inject_xid(uuid_of(driver), 95)
    first = new_agent()
    assert gpu_of(first).trouble == ""
    driver.inject_xid(uuid_of(driver), 120)
    assert "XID 120" in gpu_of(first).trouble


def test_a_reboot_forgives_everything_that_came_before(
    watched: WatchedGpus, driver: SimulatedDriver, boot: list[str], new_agent: NewAgent
) -> None:
    driver.inject_xid(uuid_of(driver), 79)
    assert gpu_of(watched).trouble
    driver.reboot()
    boot[0] = "boot-2"
    driver.inject_xid(driver.snapshot()[1].uuid, 95)  # before the agent is there
    after = new_agent()
    assert gpu_of(after).trouble == ""
    assert "XID 95" in gpu_of(after, OTHER).trouble


def test_a_reset_is_seen_by_the_energy_counted_anew(watched: WatchedGpus, driver: SimulatedDriver) -> None:
    driver.inject_xid(uuid_of(driver), 95)
    assert gpu_of(watched).trouble
    wait_for_energy(watched)
    assert gpu_of(watched).trouble
    driver.reset_gpu(uuid_of(driver))
    assert gpu_of(watched).trouble == ""


def test_a_gpu_that_was_reset_by_the_agent_itself_is_judged_by_its_next_reading(
    driver: SimulatedDriver, tmp_path: Path
) -> None:
    gpus = NvmlGpus(
        lambda: driver.library,
        lambda _: None,
        reset=lambda _, minor: driver.reset_gpu(driver.snapshot()[minor].uuid),
    )
    log = KernelLog(driver.root / "dev/kmsg")
    watched = WatchedGpus(gpus, log, tmp_path / "cdmo/health.json", lambda: "boot-1")
    watched.read()
    for each in driver.snapshot():
        driver.inject_xid(each.uuid, 95)
    wait_for_energy(watched)
    assert gpu_of(watched).trouble
    watched.reset(BUS)
    assert gpu_of(watched).trouble == ""
    assert "XID 95" in gpu_of(watched, OTHER).trouble


def test_a_gpu_that_fell_off_the_bus_keeps_what_was_on_it_and_is_well_when_it_is_back(
    watched: WatchedGpus, driver: SimulatedDriver
) -> None:
    made = watched.create(BUS, ONE)
    watched.read()
    driver.inject_xid(uuid_of(driver), 79)
    wait_for_energy(watched)
    driver.set_lost(uuid_of(driver), True)
    lost = gpu_of(watched)
    assert lost.problem
    assert "XID 79" in lost.trouble
    assert [each.device_uuid for each in lost.instances] == [made.device_uuid]
    assert gpu_of(watched, OTHER).trouble == ""
    driver.set_lost(uuid_of(driver), False)
    assert gpu_of(watched).trouble == ""


def test_a_file_that_cannot_be_read_or_written_stops_nobody(
    driver: SimulatedDriver, new_agent: NewAgent, tmp_path: Path
) -> None:
    (tmp_path / "cdmo").mkdir()
    (tmp_path / "cdmo/health.json").write_text('{"boot_id": 7}')
    agent = new_agent()
    agent.read()
    (tmp_path / "cdmo/health.json").unlink()
    (tmp_path / "cdmo").rmdir()
    (tmp_path / "cdmo").write_text("in the way")
    driver.inject_xid(uuid_of(driver), 95)
    assert "XID 95" in gpu_of(agent).trouble
    assert "XID 95" in gpu_of(agent).trouble
