"""What the controller has seen: revisions of instances."""

from __future__ import annotations

from cdmo.agent.revisions import InstanceKey, Revisions, key_of
from cdmo.api.v1alpha1 import MigNodeStatus, ObservedDevice, ObservedGpu
from cdmo.hardware.port import DriverReading
from cdmo.model.gpu import Placement
from tests.agent.nodes import BUS, THREE_HIGH, THREE_LOW
from tests.fakes.hardware import FakeGpus, fake_gpus


def revision_of(revisions: Revisions, gpus: FakeGpus, placement: Placement) -> int:
    (gpu,) = gpus.read().gpus
    return next(revisions.of(key_of(BUS, each)) for each in gpu.instances if each.placement == placement)


def test_a_new_instance_gets_the_next_revision_and_older_ones_keep_theirs() -> None:
    gpus, revisions = fake_gpus(), Revisions(MigNodeStatus(revision=4))
    gpus.create(BUS, THREE_LOW)
    revisions.see(gpus.read())
    gpus.create(BUS, THREE_HIGH)
    revisions.see(gpus.read())
    assert revisions.current == 6
    assert revision_of(revisions, gpus, THREE_LOW) == 5
    assert revision_of(revisions, gpus, THREE_HIGH) == 6


def test_looking_again_at_the_same_is_no_revision() -> None:
    gpus, revisions = fake_gpus(), Revisions(MigNodeStatus())
    gpus.create(BUS, THREE_LOW)
    for _ in range(3):
        revisions.see(gpus.read())
    assert revisions.current == 1


def test_a_disappearance_is_a_revision_too() -> None:
    gpus, revisions = fake_gpus(), Revisions(MigNodeStatus())
    made = gpus.create(BUS, THREE_LOW)
    revisions.see(gpus.read())
    gpus.destroy(BUS, made.id, THREE_LOW)
    revisions.see(gpus.read())
    assert revisions.current == 2


def test_an_instance_never_seen_has_the_revision_that_will_first_report_it() -> None:
    gpus, revisions = fake_gpus(), Revisions(MigNodeStatus(revision=4))
    gpus.create(BUS, THREE_LOW)
    before = revision_of(revisions, gpus, THREE_LOW)
    revisions.see(gpus.read())
    assert before == revision_of(revisions, gpus, THREE_LOW) == revisions.current


def test_an_agent_that_starts_takes_over_what_the_last_one_reported() -> None:
    gpus = fake_gpus()
    made = gpus.create(BUS, THREE_LOW)
    device = ObservedDevice(profile_id=9, start=0, uuid=made.device_uuid, revision=3)
    gpu = ObservedGpu(pci_bus_id=BUS, uuid="GPU-1", model=0, mig_mode="Enabled", devices=(device,))
    revisions = Revisions(MigNodeStatus(revision=8, gpus=(gpu,)))
    revisions.see(gpus.read())
    assert revisions.current == 8
    assert revision_of(revisions, gpus, THREE_LOW) == 3


def test_one_uuid_at_another_place_is_another_instance() -> None:
    """MIG UUIDs come back when the same ids are cut again."""
    gpus, revisions = fake_gpus(), Revisions(MigNodeStatus())
    first = gpus.create(BUS, THREE_LOW)
    revisions.see(gpus.read())
    gpus.destroy(BUS, first.id, THREE_LOW)
    second = gpus.create(BUS, THREE_HIGH)
    assert first.device_uuid == second.device_uuid
    assert revisions.of(InstanceKey(BUS, THREE_HIGH, second.device_uuid)) == 2
    revisions.see(gpus.read())
    assert revisions.current == 2


def test_a_host_without_gpus_has_no_revision() -> None:
    revisions = Revisions(MigNodeStatus())
    revisions.see(DriverReading("580", ()))
    assert revisions.current == 0
