"""The status an agent writes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace as replaced
from pathlib import Path

import pytest
from msgspec.structs import replace

from cdmo.agent.change import Outcome, Result
from cdmo.agent.modes import ModeReport
from cdmo.agent.observe import Observation
from cdmo.agent.report import Health, Report, repartition_of, same_but_for_time, status_of, timestamp
from cdmo.agent.revisions import Revisions
from cdmo.api.v1alpha1 import Condition, MigNodeStatus, PodReference, Summary
from cdmo.model.gpu import MigMode, PodKey
from cdmo.model.reasons import ReadyReason
from tests.agent.nodes import BUS, THREE_HIGH, THREE_LOW, Rig

NOW = 1_767_225_600.0  # 2026-01-01 in UTC


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(tmp_path, THREE_LOW, THREE_HIGH)
    yield made
    made.worker.close()


def observation(rig: Rig) -> Observation:
    return Observation(rig.gpus.read(), {rig.uuids[THREE_LOW]: PodKey("ml", "train", "uid-train")})


def status(
    seen: Observation | None,
    previous: MigNodeStatus | None = None,
    *,
    health: Health | None = None,
    changing: bool = False,
    boot_id: str = "boot-1",
    now: float = NOW,
) -> MigNodeStatus:
    revisions = Revisions(previous or MigNodeStatus())
    if seen is not None:
        revisions.see(seen.driver)
    report = Report(seen, health or Health(), 3, boot_id, ModeReport(), changing)
    return status_of(report, revisions, previous or MigNodeStatus(), now)


def condition(written: MigNodeStatus, kind: str) -> Condition:
    """A condition of a status."""
    return next(each for each in written.conditions if each.type == kind)


def test_every_instance_is_reported_with_its_holder_and_revision(rig: Rig) -> None:
    written = status(observation(rig))
    (gpu,) = written.gpus
    assert (gpu.pci_bus_id, gpu.mig_mode, gpu.model) == (BUS, "Enabled", 0)
    assert [(each.start, each.state, each.revision) for each in gpu.devices] == [(0, "InUse", 1), (4, "Idle", 1)]
    assert [each.uuid for each in gpu.devices] == list(rig.uuids.values())
    assert gpu.devices[0].pod == PodReference(namespace="ml", name="train", uid="uid-train")
    assert gpu.devices[1].pod is None
    assert written.models[0].product == "NVIDIA H100 80GB HBM3"
    assert (written.observed_generation, written.revision) == (3, 1)


def test_the_summary_counts_gpus_slices_and_free_slots(rig: Rig) -> None:
    assert status(observation(rig)).summary == Summary(gpus=1, slices="1/2", free_slots=0, phase="Ready")
    rig.gpus.destroy(BUS, 2, THREE_HIGH)
    assert status(observation(rig)).summary == Summary(gpus=1, slices="1/1", free_slots=4, phase="Ready")
    rig.gpus.gpu(BUS).mig_mode = MigMode.DISABLED
    assert status(observation(rig)).summary == Summary(slices="0/0", phase="Ready")


def test_the_phase_says_what_is_going_on(rig: Rig) -> None:
    assert status(observation(rig), changing=True).summary.phase == "Repartitioning"
    unwell = Health(ReadyReason.DRIVER_UNAVAILABLE, "no driver")
    assert status(None, health=unwell).summary.phase == "DriverUnavailable"


def test_without_a_look_the_last_gpus_driver_and_boot_stay_reported(rig: Rig) -> None:
    before = status(observation(rig))
    after = status(None, before, health=Health(ReadyReason.DRIVER_UNAVAILABLE, "no driver"), boot_id="boot-2")
    assert (after.gpus, after.models, after.revision) == (before.gpus, before.models, before.revision)
    assert after.agent is not None
    assert (after.agent.driver, after.agent.boot_id) == ("580.159.04", "boot-1")
    ready = next(each for each in after.conditions if each.type == "Ready")
    assert (ready.status, ready.reason, ready.message) == ("False", "DriverUnavailable", "no driver")


def test_a_condition_keeps_its_transition_time_until_its_status_changes(rig: Rig) -> None:
    first = status(observation(rig))
    later = status(observation(rig), first, now=NOW + 60)
    assert later.conditions == first.conditions
    unwell = status(observation(rig), later, now=NOW + 90, health=Health(ReadyReason.CHANGE_FAILED, "one"))
    assert unwell.conditions[0].last_transition_time == "2026-01-01T00:01:30.000Z"
    other = status(observation(rig), unwell, now=NOW + 99, health=Health(ReadyReason.PLUGIN_STUCK, "two"))
    assert other.conditions[0].reason == "DevicePluginStuck"
    assert other.conditions[0].last_transition_time == "2026-01-01T00:01:30.000Z"


def test_the_last_change_stays_reported(rig: Rig) -> None:
    outcome = Outcome(Result.UNDONE, "no room", fenced_seconds=0.12345, gpu_seconds=0.1, reload_seconds=0.02)
    told = repartition_of(outcome, NOW, 5)
    assert (told.result, told.message, told.count) == ("Undone", "no room", 5)
    assert (told.started_at, told.fenced_seconds) == ("2026-01-01T00:00:00.000Z", 0.123)
    before = replace(status(observation(rig)), last_repartition=told)
    assert status(observation(rig), before).last_repartition == told


def test_two_statuses_that_differ_in_the_heartbeat_alone_are_the_same(rig: Rig) -> None:
    first = status(observation(rig))
    assert first.agent is not None
    assert same_but_for_time(first, status(observation(rig), first, now=NOW + 10))
    assert not same_but_for_time(first, status(observation(rig), first, changing=True))
    assert not same_but_for_time(first, replace(first, agent=replace(first.agent, driver="590")))
    assert not same_but_for_time(first, replace(first, agent=None))


def test_long_messages_are_cut_to_what_the_schema_allows(rig: Rig) -> None:
    written = status(observation(rig), health=Health(ReadyReason.CHANGE_FAILED, "x" * 5000))
    assert len(written.conditions[0].message) == 1024


def test_times_are_rfc_3339_in_utc() -> None:
    assert timestamp(NOW + 0.25) == "2026-01-01T00:00:00.250Z"


def test_what_is_wrong_with_gpus_and_slices_is_reported_and_has_a_condition(rig: Rig) -> None:
    well = status(observation(rig))
    assert condition(well, "GpusHealthy").status == "True"
    rig.gpus.gpu(BUS).faults = ("XID 95: reset it", "it had uncorrectable ECC errors")
    rig.gpus.gpu(BUS).slice_faults[2] = "XID 94"
    written = status(observation(rig), well)
    (gpu,) = written.gpus
    assert gpu.problem == "XID 95: reset it; it had uncorrectable ECC errors"
    assert [(each.state, each.problem) for each in gpu.devices] == [("InUse", ""), ("Unhealthy", "XID 94")]
    found = condition(written, "GpusHealthy")
    assert (found.status, found.reason) == ("False", "Unhealthy")
    assert found.message == f"GPU {BUS}: {gpu.problem}; slice at slot 4 of GPU {BUS}: XID 94"
    assert condition(written, "Ready").status == "True", "the rest of the node can be worked with"
    assert not same_but_for_time(well, written)


def test_free_slots_of_a_gpu_in_trouble_are_not_free(rig: Rig) -> None:
    rig.gpus.destroy(BUS, 2, THREE_HIGH)
    assert status(observation(rig)).summary.free_slots == 4
    rig.gpus.gpu(BUS).faults = ("XID 95",)
    assert status(observation(rig)).summary.free_slots == 0


@pytest.mark.parametrize(("boot_id", "kept"), [("boot-1", True), ("boot-2", False)])
def test_a_gpu_that_an_earlier_agent_of_this_boot_saw_stays_reported_while_it_is_silent(
    rig: Rig, boot_id: str, kept: bool
) -> None:
    before = status(observation(rig))
    driver = replaced(rig.gpus.read(), gpus=(), silent=1)
    written = status(Observation(driver, {}), before, boot_id=boot_id)
    assert [each.pci_bus_id for each in written.gpus] == ([BUS] if kept else [])
    for gpu in written.gpus:
        assert "does not answer" in gpu.problem
        assert gpu.devices == before.gpus[0].devices
        assert written.models == before.models
    assert status(Observation(replaced(driver, silent=0), {}), before).gpus == (), "it was taken out"
