"""MIG modes that a reboot took, and agents that are killed before they are on again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from cdmo.agent.lost_modes import LostModes
from cdmo.api.v1alpha1 import AgentInfo, MigNodeStatus, ObservedGpu
from cdmo.hardware.port import DriverReading, GpuReading
from cdmo.model.gpu import MigMode
from tests.agent.nodes import BUS
from tests.fakes.hardware import fake_gpus

BEFORE, AFTER = "boot-1", "boot-2"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "lost-modes.json"


def status(mode: MigMode = MigMode.ENABLED, boot_id: str = BEFORE) -> MigNodeStatus:
    gpu = ObservedGpu(pci_bus_id=BUS, uuid="GPU-1", model=0, mig_mode=mode)
    return MigNodeStatus(agent=AgentInfo(version="1", heartbeat="", boot_id=boot_id), gpus=(gpu,))


def seen(mode: MigMode, *, hopper: bool = True) -> GpuReading:
    gpu = fake_gpus("H100-SXM5-80GB").read().gpus[0]
    return replace(gpu, mig_mode=mode, hopper_or_later=hopper)


def driver(gpu: GpuReading) -> DriverReading:
    return DriverReading("580", (gpu,))


def agent(path: Path, before: MigNodeStatus, boot_id: str = AFTER) -> LostModes:
    """An agent that begins."""
    made = LostModes(path)
    made.begin(before, boot_id)
    return made


def test_a_mode_that_was_on_before_the_boot_is_lost(path: Path) -> None:
    assert agent(path, status()).lost(seen(MigMode.DISABLED))


@pytest.mark.parametrize("before", [status(MigMode.DISABLED), status(boot_id=AFTER), MigNodeStatus()])
def test_what_was_off_or_switched_off_in_this_boot_is_not(before: MigNodeStatus, path: Path) -> None:
    assert not agent(path, before).lost(seen(MigMode.DISABLED))
    assert not path.exists()


def test_on_a_card_that_keeps_its_mode_somebody_meant_it(path: Path) -> None:
    assert not agent(path, status()).lost(seen(MigMode.DISABLED, hopper=False))


def test_an_agent_that_is_killed_before_the_mode_is_on_again_leaves_it_to_the_next(path: Path) -> None:
    agent(path, status())
    # It had reported by then: the status is of this boot, with the mode off.
    assert agent(path, status(MigMode.DISABLED, AFTER)).lost(seen(MigMode.DISABLED))


def test_a_second_reboot_changes_nothing_about_that(path: Path) -> None:
    agent(path, status())
    assert agent(path, status(MigMode.DISABLED, AFTER), "boot-3").lost(seen(MigMode.DISABLED))


def test_once_it_was_on_again_whoever_switches_it_off_means_it(path: Path) -> None:
    first = agent(path, status())
    assert path.exists()
    first.see(driver(seen(MigMode.ENABLED)))
    assert not first.lost(seen(MigMode.DISABLED))
    assert not path.exists()
    assert not agent(path, status(boot_id=AFTER)).lost(seen(MigMode.DISABLED))


def test_a_folder_that_cannot_be_written_is_told_and_this_agent_still_knows(path: Path) -> None:
    path.parent.parent.joinpath("state").write_text("a file in the folder's place")
    with capture_logs() as logs:
        made = agent(path, status())
    assert made.lost(seen(MigMode.DISABLED))
    assert any("could not be written" in each["event"] for each in logs)


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b"\xff", b"[" * 5000, b'["' + b"x" * 9000 + b'"]'])
def test_a_file_that_is_no_list_of_gpus_is_told_and_forgotten(content: bytes, path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    with capture_logs() as logs:
        made = agent(path, status(MigMode.DISABLED, AFTER))
    assert not made.lost(seen(MigMode.DISABLED))
    assert any("could not be read" in each["event"] for each in logs)
