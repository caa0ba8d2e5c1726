"""What an observation means together with earlier ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from cdmo.agent.journal import Entry, JournalStep
from cdmo.agent.lost_modes import LostModes
from cdmo.agent.modes import STAYS, ModeWish
from cdmo.agent.observe import Observation
from cdmo.agent.sight import Sight
from cdmo.agent.steps import Action, SeenGpu, SeenInstance
from cdmo.agent.wanted import Wanted
from cdmo.api.v1alpha1 import AgentInfo, MigNodeStatus, Mode, ObservedDevice, ObservedGpu
from cdmo.model.gpu import MigMode, PodKey
from cdmo.model.modes import ModePolicy
from tests.agent.nodes import BUS, THREE_HIGH, THREE_LOW
from tests.fakes.hardware import FakeGpus, fake_gpus

BEFORE, NOW = "boot-1", "boot-2"
POD = PodKey("ml", "train", "uid-train")


@pytest.fixture
def gpus() -> FakeGpus:
    return fake_gpus()


class Agent:
    """An agent's sight, and the looks that it takes."""

    def __init__(self, gpus: FakeGpus, folder: Path, status: MigNodeStatus | None = None) -> None:
        self.gpus = gpus
        self.sight = Sight(status or MigNodeStatus(), NOW, LostModes(folder / "state" / "lost-modes.json"))

    def look(
        self,
        interrupted: Entry | None = None,
        *,
        policy: ModePolicy = ModePolicy.MANUAL,
        holders: dict[str, PodKey] | None = None,
    ) -> tuple[SeenGpu, ...]:
        """Take in what is there now, and what the steps get of it."""
        observation = Observation(self.gpus.read(), holders or {})
        self.sight.see(observation)
        return self.sight.gpus(observation, Wanted(True, Mode.MANAGED, policy, 0), interrupted)

    def one(self, interrupted: Entry | None = None) -> SeenInstance:
        """The only instance there is."""
        ((instance,),) = (each.instances for each in self.look(interrupted))
        return instance


@pytest.fixture
def agent(gpus: FakeGpus, tmp_path: Path) -> Agent:
    return Agent(gpus, tmp_path)


def reported(mode: MigMode = MigMode.ENABLED, *devices: ObservedDevice, boot_id: str = NOW) -> MigNodeStatus:
    """What the last agent of this node reported."""
    gpu = ObservedGpu(pci_bus_id=BUS, uuid="GPU-1", model=0, mig_mode=mode, devices=devices)
    return MigNodeStatus(revision=7, agent=AgentInfo(version="1", heartbeat="", boot_id=boot_id), gpus=(gpu,))


def interrupted_while_making(*starts: int) -> Entry:
    return Entry(NOW, tuple(JournalStep(Action.CREATE, BUS, THREE_LOW.profile_id, start) for start in starts))


def hollow(gpus: FakeGpus, instance: int) -> None:
    """It lost its compute instance, or never had one."""
    gpus.gpus[BUS].hollow.add(instance)


def test_a_well_gpu_is_seen_as_it_is(agent: Agent, gpus: FakeGpus) -> None:
    gpus.create(BUS, THREE_LOW)
    (gpu,) = agent.look()
    assert gpu.instances == (SeenInstance(THREE_LOW, 1),)
    assert (gpu.pci_bus_id, gpu.mig_mode, gpu.problem, gpu.resetless) == (BUS, MigMode.ENABLED, "", True)
    assert gpu.model == gpus.read().gpus[0].model
    assert gpu.wish == STAYS


def test_what_the_last_agent_reported_keeps_its_revision_and_what_is_new_gets_the_next(
    gpus: FakeGpus, tmp_path: Path
) -> None:
    made = gpus.create(BUS, THREE_LOW)
    device = ObservedDevice(profile_id=THREE_LOW.profile_id, start=0, uuid=made.device_uuid, revision=5)
    agent = Agent(gpus, tmp_path, reported(MigMode.ENABLED, device))
    gpus.create(BUS, THREE_HIGH)
    (gpu,) = agent.look()
    assert [(each.placement, each.revision) for each in gpu.instances] == [(THREE_LOW, 5), (THREE_HIGH, 8)]


def test_an_instance_without_compute_instance_is_broken_and_somebody_elses(agent: Agent, gpus: FakeGpus) -> None:
    hollow(gpus, gpus.create(BUS, THREE_LOW).id)
    assert agent.one() == SeenInstance(THREE_LOW, 1, broken=True)


def test_one_that_an_interrupted_change_was_making_is_ours(agent: Agent, gpus: FakeGpus) -> None:
    hollow(gpus, gpus.create(BUS, THREE_LOW).id)
    assert agent.one(interrupted_while_making(0)).to_renew


def test_one_that_lies_elsewhere_than_the_change_was_making_it_is_not(agent: Agent, gpus: FakeGpus) -> None:
    hollow(gpus, gpus.create(BUS, THREE_LOW).id)
    assert not agent.one(interrupted_while_making(4)).ours
    assert not agent.one(Entry("")).ours, "of a lost journal nothing is known"


def test_a_half_made_one_is_remembered_when_the_change_that_found_it_is_over(agent: Agent, gpus: FakeGpus) -> None:
    hollow(gpus, gpus.create(BUS, THREE_LOW).id)
    agent.one(interrupted_while_making(0))
    assert agent.one().to_renew
    assert agent.one().to_renew


def test_it_is_forgotten_when_it_is_gone_so_that_a_strangers_in_its_place_is_not_ours(
    agent: Agent, gpus: FakeGpus
) -> None:
    made = gpus.create(BUS, THREE_LOW)
    hollow(gpus, made.id)
    agent.one(interrupted_while_making(0))
    gpus.destroy(BUS, made.id, THREE_LOW)
    assert agent.look()[0].instances == ()
    hollow(gpus, gpus.create(BUS, THREE_LOW).id)
    assert not agent.one().ours


def test_it_is_forgotten_when_it_is_whole(agent: Agent, gpus: FakeGpus) -> None:
    made = gpus.create(BUS, THREE_LOW)
    hollow(gpus, made.id)
    agent.one(interrupted_while_making(0))
    gpus.gpus[BUS].hollow.clear()
    assert not agent.one().broken
    hollow(gpus, made.id)
    assert not agent.one().ours


def test_an_idle_one_that_an_error_hit_is_unhealthy_and_one_in_use_is_not_to_be_renewed(
    agent: Agent, gpus: FakeGpus
) -> None:
    made = gpus.create(BUS, THREE_LOW)
    gpus.gpus[BUS].slice_faults[made.id] = "XID 94"
    assert agent.one().unhealthy
    ((held,),) = (each.instances for each in agent.look(holders={made.device_uuid: POD}))
    assert not held.to_renew


def test_what_is_wrong_with_a_gpu_is_seen(agent: Agent, gpus: FakeGpus) -> None:
    gpus.gpus[BUS].faults = ("XID 95",)
    gpus.gpus[BUS].lost = True
    assert agent.look()[0].problem == "the GPU is lost; XID 95"


@pytest.mark.parametrize(("card", "resetless"), [("H100-SXM5-80GB", True), ("A100-SXM4-80GB", False)])
def test_ampere_needs_a_reset_for_its_mode(card: str, resetless: bool, tmp_path: Path) -> None:
    (gpu,) = Agent(fake_gpus(card), tmp_path).look()
    assert gpu.resetless is resetless


def test_a_mode_that_a_reboot_took_is_wanted_back_though_nobody_may_switch_modes(tmp_path: Path) -> None:
    gpus = fake_gpus(mig=False)
    agent = Agent(gpus, tmp_path, reported(boot_id=BEFORE))
    assert agent.look()[0].wish == ModeWish(True)
    gpus.set_mig_mode(BUS, True)
    agent.look()
    gpus.set_mig_mode(BUS, False)
    assert agent.look()[0].wish == STAYS, "it was on again: whoever switched it off meant it"


def test_a_mode_that_was_switched_off_in_this_boot_stays_off(tmp_path: Path) -> None:
    assert Agent(fake_gpus(mig=False), tmp_path, reported()).look()[0].wish == STAYS


def test_the_wish_goes_by_the_policy(tmp_path: Path) -> None:
    agent = Agent(fake_gpus(mig=False), tmp_path)
    assert agent.look(policy=ModePolicy.WITH_RESET)[0].wish == ModeWish(True, may_reset=True)
