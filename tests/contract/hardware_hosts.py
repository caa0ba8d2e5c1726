"""Hosts for the hardware contract: the same knobs on the fake and on the simulated driver behind NvmlGpus."""

from __future__ import annotations

import time
from ctypes import byref
from pathlib import Path
from typing import Protocol

import pynvml
from cdmo_harness.driver import GpuSpec, SimulatedDriver

from cdmo.errors import NoRoom
from cdmo.hardware.nvml import NvmlGpus
from cdmo.hardware.port import GpuReader, GpuWriter
from cdmo.model.gpu import MigMode, Placement
from tests.fakes.cards import card
from tests.fakes.hardware import FakeGpus, fake_gpus

H100, A100, A30, L40S = "H100-SXM5-80GB", "A100-SXM4-80GB", "A30-24GB", "L40S-48GB"


class Gpus(GpuReader, GpuWriter, Protocol):
    """What is tested."""


class Host(Protocol):
    """A host with GPUs, numbered by bus id, and what a test can do to it."""

    @property
    def gpus(self) -> Gpus: ...
    def bus(self, number: int = 0) -> str: ...
    def add_process(self, device: str, pid: int) -> None: ...
    def remove_process(self, device: str, pid: int) -> None: ...
    def fail_compute_instance(self) -> None: ...
    def make_hollow(self, placement: Placement) -> None: ...
    def set_privileged(self, privileged: bool) -> None: ...
    def lose(self) -> None: ...
    def find_again(self) -> None: ...
    def spoil(self, *, ecc: bool = False, pending: bool = False, failed: bool = False, action: int = 0) -> None: ...
    def reset(self) -> None: ...
    def reboot(self) -> None: ...


class MakeHost(Protocol):
    """Makes a host with these cards, MIG mode on where they have it."""

    def __call__(self, *cards: str, mig: bool = True) -> Host: ...


class FakeHost:
    """The fake in memory."""

    def __init__(self, *cards: str, mig: bool) -> None:
        self.gpus: FakeGpus = fake_gpus(*cards, mig=mig)

    def bus(self, number: int = 0) -> str:
        return sorted(self.gpus.gpus)[number]

    def add_process(self, device: str, pid: int) -> None:
        self.gpus.add_process(device, pid)

    def remove_process(self, device: str, pid: int) -> None:
        self.gpus.remove_process(pid)

    def fail_compute_instance(self) -> None:
        self.gpus.fail("create compute instance", NoRoom("no compute instance", code=23))

    def make_hollow(self, placement: Placement) -> None:
        gpu = self.gpus.gpus[self.bus()]
        gpu.hollow.add(self.gpus.create(self.bus(), placement).id)

    def set_privileged(self, privileged: bool) -> None:
        self.gpus.privileged = privileged

    def lose(self) -> None:
        self.gpus.gpus[self.bus()].lost = True

    def find_again(self) -> None:
        self.gpus.gpus[self.bus()].lost = False

    def spoil(self, *, ecc: bool = False, pending: bool = False, failed: bool = False, action: int = 0) -> None:
        gpu = self.gpus.gpus[self.bus()]
        gpu.ecc, gpu.remap_pending, gpu.remap_failed, gpu.recovery_action = ecc, pending, failed, action

    def reset(self) -> None:
        self.gpus.gpus[self.bus()].reset()

    def reboot(self) -> None:
        self.gpus.reboot()


class SimulatedHost:
    """NvmlGpus with the real nvidia-ml-py on the simulated driver; its environment must be this process'."""

    def __init__(self, driver: SimulatedDriver, *cards: str, mig: bool) -> None:
        self.driver = driver
        self.gpus = NvmlGpus(lambda: driver.library, time.sleep)
        for number, key in enumerate(cards):
            if (
                mig
                and card(key).model.profiles
                and self.gpus.set_mig_mode(self.bus(number), True) is not MigMode.ENABLED
            ):
                driver.reset_gpu(driver.snapshot()[number].uuid)

    def bus(self, number: int = 0) -> str:
        return self.driver.snapshot()[number].pci_bus_id

    def add_process(self, device: str, pid: int) -> None:
        self.driver.add_process(device, pid)

    def remove_process(self, device: str, pid: int) -> None:
        self.driver.remove_process(device, pid)

    def fail_compute_instance(self) -> None:
        self.driver.fail_nth("nvmlGpuInstanceCreateComputeInstance", pynvml.NVML_ERROR_INSUFFICIENT_RESOURCES)

    def make_hollow(self, placement: Placement) -> None:
        """As another program would: a GPU instance made through NVML, and nothing in it."""
        profile = self.gpus.read().gpus[0].model.profile(placement.profile_id)
        assert profile is not None
        pynvml.nvmlInit()
        where = pynvml.c_nvmlGpuInstancePlacement_t(placement.start, profile.size)
        gpu = pynvml.nvmlDeviceGetHandleByIndex(0)
        pynvml.nvmlDeviceCreateGpuInstanceWithPlacement(gpu, placement.profile_id, byref(where))
        pynvml.nvmlShutdown()

    def set_privileged(self, privileged: bool) -> None:
        self.driver.set_privileged(privileged)

    def lose(self) -> None:
        self.driver.set_lost(self.driver.snapshot()[0].uuid, True)

    def find_again(self) -> None:
        self.driver.set_lost(self.driver.snapshot()[0].uuid, False)

    def spoil(self, *, ecc: bool = False, pending: bool = False, failed: bool = False, action: int = 0) -> None:
        uuid = self.driver.snapshot()[0].uuid
        self.driver.set_ecc_errors(uuid, int(ecc))
        self.driver.set_remapping(uuid, pending=pending, failed=failed)
        self.driver.set_recovery_action(uuid, action)

    def reset(self) -> None:
        self.driver.reset_gpu(self.driver.snapshot()[0].uuid)

    def reboot(self) -> None:
        self.driver.reboot()


def simulated_driver(library: Path, folder: Path, *cards: str) -> SimulatedDriver:
    """A driver with these cards, at the bus ids and with the UUIDs that the fake gives them."""
    gpus = [
        GpuSpec(key, f"00000000:{0x10 + 0x10 * number:02X}:00.0", f"GPU-51a70000-0000-4000-8000-{number:012x}")
        for number, key in enumerate(cards)
    ]
    return SimulatedDriver.create(library, folder / "state", folder / "root", gpus=gpus)
