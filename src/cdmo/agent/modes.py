"""PURE: the MIG mode that is wanted of each GPU, the steps to it, and what is told while it is not reached.

On Hopper and later the mode switches at once, if nothing uses the GPU. Before that it is only noted by the driver and
comes about in a reset of the GPU, which every program that has the GPU open prevents (monitoring, the device plugin):
so it is done only where an administrator allowed it. A reboot does the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from cdmo.api.v1alpha1 import Mode
from cdmo.model.gpu import MigMode
from cdmo.model.modes import ModePolicy
from cdmo.model.reasons import ModeReason

PENDING = (MigMode.ENABLE_PENDING, MigMode.DISABLE_PENDING)


@dataclass(frozen=True, slots=True)
class ModeWish:
    """What is wanted of a GPU's MIG mode."""

    on: bool | None = None  # None: it stays as it is
    may_reset: bool = False


STAYS = ModeWish()


@dataclass(frozen=True, slots=True)
class GpuMode:
    """A GPU as far as its mode goes."""

    pci_bus_id: str
    mode: MigMode
    resetless: bool  # the mode switches without a reset: Hopper and later
    wish: ModeWish = STAYS

    @property
    def reached(self) -> bool:
        """Whether the GPU is in the mode that is wanted."""
        if self.wish.on is None or self.mode is MigMode.UNSUPPORTED:
            return self.mode not in PENDING
        return self.mode is (MigMode.ENABLED if self.wish.on else MigMode.DISABLED)

    @property
    def to_switch(self) -> bool:
        """Whether the driver is to be told of another mode than it has, or has noted, now."""
        if self.wish.on is None or self.reached or self.mode is MigMode.UNSUPPORTED:
            return False
        noted = self.mode is (MigMode.ENABLE_PENDING if self.wish.on else MigMode.DISABLE_PENDING)
        # Taking a note back needs no reset, nor does noting that slices that are gone are not to come back.
        return not noted and (self.resetless or self.wish.may_reset or self.mode is not MigMode.DISABLED)

    @property
    def to_reset(self) -> bool:
        """Whether the GPU has to be reset, and may be, for the mode to come about."""
        if self.wish.on is None or self.reached or not self.wish.may_reset:
            return False
        back = self.mode is (MigMode.DISABLE_PENDING if self.wish.on else MigMode.ENABLE_PENDING)
        return not back and not (self.resetless and self.mode not in PENDING)


@dataclass(frozen=True, slots=True)
class ModeReport:
    """The condition MigModeSettled."""

    reason: ModeReason = ModeReason.AS_WANTED
    message: str = ""


def wish_for(mode: Mode, policy: ModePolicy, *, lost: bool, can_be_cut: bool) -> ModeWish:
    """What is wanted of a GPU. `lost`: a reboot took its mode, which nobody wanted."""
    may_reset = policy is ModePolicy.WITH_RESET
    if mode is Mode.DISABLED:
        return ModeWish(False, may_reset)
    if lost or (can_be_cut and policy is not ModePolicy.MANUAL):
        return ModeWish(True, may_reset)
    return STAYS


def mode_report(gpus: Iterable[GpuMode], held_back: Iterable[str]) -> ModeReport:
    """What keeps GPUs from the mode that is wanted; `held_back` are sentences about GPUs that are left alone now."""
    reboot, forbidden, waiting = [], [], []
    held = tuple(held_back)
    for gpu in (each for each in gpus if not each.reached):
        name = f"GPU {gpu.pci_bus_id}"
        own = [each for each in held if gpu.pci_bus_id in each][:1]
        if gpu.mode in PENDING and not gpu.to_switch:
            reboot.append(f"{name} is {gpu.mode}")
            waiting += own
        elif not (gpu.to_switch or gpu.to_reset):
            forbidden.append(name)
        else:
            waiting += own or [f"{name} is {gpu.mode}, to be switched {'on' if gpu.wish.on else 'off'}"]
    sentences = []
    if reboot:
        sentences.append(f"{', '.join(reboot)}: the mode comes about when the node is rebooted, or the GPU reset")
    if forbidden:
        sentences.append(
            f"{', '.join(forbidden)}: MIG mode needs a reset of the GPU, which nobody allowed: "
            "`cdmo enable --reset`, or `nvidia-smi -mig 1` and a reboot"
        )
    reason = ModeReason.REBOOT_NEEDED if reboot else ModeReason.RESET_NEEDED if forbidden else ModeReason.WAITING
    if not (sentences or waiting):
        return ModeReport()
    return ModeReport(reason, "; ".join((*sentences, *waiting)))
