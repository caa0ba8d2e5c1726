"""Which MIG mode is wanted of a GPU, what is done for it, and what is told while it is not reached."""

from __future__ import annotations

import itertools

import pytest

from cdmo.agent.modes import PENDING, STAYS, GpuMode, ModeWish, mode_report, wish_for
from cdmo.api.v1alpha1 import Mode
from cdmo.model.gpu import MigMode
from cdmo.model.modes import ModePolicy
from cdmo.model.reasons import ModeReason
from tests.agent.cards import BUS, OTHER_BUS

ON, OFF = ModeWish(True), ModeWish(False)
ON_WITH_RESET, OFF_WITH_RESET = ModeWish(True, may_reset=True), ModeWish(False, may_reset=True)
HOPPER, AMPERE = True, False


def gpu(mode: MigMode, wish: ModeWish, resetless: bool = HOPPER, bus: str = BUS) -> GpuMode:
    return GpuMode(bus, mode, resetless, wish)


def after(gpu: GpuMode) -> MigMode:
    """The mode once what may be done is done, as the driver does it (sim/nvml/src/mode.c)."""
    mode, on = gpu.mode, (MigMode.ENABLED, MigMode.DISABLE_PENDING)
    if gpu.to_switch:
        wanted = MigMode.ENABLED if gpu.wish.on else MigMode.DISABLED
        is_on = mode in on
        if gpu.resetless or is_on is bool(gpu.wish.on):
            mode = wanted
        else:
            mode = MigMode.ENABLE_PENDING if gpu.wish.on else MigMode.DISABLE_PENDING
    if gpu.to_reset:
        mode = MigMode.ENABLED if mode in (MigMode.ENABLED, MigMode.ENABLE_PENDING) else MigMode.DISABLED
    return mode


@pytest.mark.parametrize(
    ("mode", "wish", "resetless"),
    [
        each
        for each in itertools.product(MigMode, (STAYS, ON, OFF, ON_WITH_RESET, OFF_WITH_RESET), (HOPPER, AMPERE))
        if each[0] is not MigMode.UNSUPPORTED
    ],
)
def test_whatever_may_be_done_leads_to_the_wish_or_is_told(mode: MigMode, wish: ModeWish, resetless: bool) -> None:
    now = gpu(mode, wish, resetless)
    then = gpu(after(now), wish, resetless)
    assert not (then.to_switch or then.to_reset), "what was done once is done again and again"
    told = mode_report((then,), ()).reason
    if then.reached:
        assert told is ModeReason.AS_WANTED
    else:
        assert told in (ModeReason.REBOOT_NEEDED, ModeReason.RESET_NEEDED)
        assert not wish.may_reset
        assert wish.on is None or not resetless or mode in PENDING


def test_hopper_is_switched_at_once() -> None:
    now = gpu(MigMode.DISABLED, ON)
    assert (now.to_switch, now.to_reset) == (True, False)


def test_ampere_is_not_touched_before_a_reset_is_allowed() -> None:
    now = gpu(MigMode.DISABLED, ON, AMPERE)
    assert (now.to_switch, now.to_reset) == (False, False)
    report = mode_report((now,), ())
    assert report.reason is ModeReason.RESET_NEEDED
    assert "`cdmo enable --reset`" in report.message


def test_ampere_is_switched_and_reset_where_that_is_allowed() -> None:
    now = gpu(MigMode.DISABLED, ON_WITH_RESET, AMPERE)
    assert (now.to_switch, now.to_reset) == (True, True)


def test_what_an_administrator_noted_by_hand_is_told_and_left_alone() -> None:
    """`nvidia-smi -mig 1` on Ampere, before the reboot that the page speaks of."""
    now = gpu(MigMode.ENABLE_PENDING, STAYS, AMPERE)
    report = mode_report((now,), ())
    assert (now.to_switch, now.to_reset) == (False, False)
    assert report.reason is ModeReason.REBOOT_NEEDED
    assert report.message == (
        f"GPU {BUS} is EnablePending: the mode comes about when the node is rebooted, or the GPU reset"
    )


def test_a_gpu_that_waits_for_its_user_says_for_whom() -> None:
    gpus = (gpu(MigMode.DISABLED, ON), gpu(MigMode.DISABLED, ON, bus=OTHER_BUS))
    report = mode_report(gpus, (f"GPU {BUS} is held as a whole by pod ml/train",))
    assert report.reason is ModeReason.WAITING
    assert report.message == (
        f"GPU {BUS} is held as a whole by pod ml/train; GPU {OTHER_BUS} is Disabled, to be switched on"
    )


def test_a_card_without_mig_is_as_wanted_whatever_is_wanted() -> None:
    assert (
        mode_report((gpu(MigMode.UNSUPPORTED, OFF), gpu(MigMode.UNSUPPORTED, ON)), ()).reason is ModeReason.AS_WANTED
    )


@pytest.mark.parametrize(
    ("mode", "policy", "lost", "wish"),
    [
        (Mode.MANAGED, ModePolicy.MANUAL, False, STAYS),
        (Mode.MANAGED, ModePolicy.MANUAL, True, ON),
        (Mode.MANAGED, ModePolicy.WHEN_IDLE, False, ON),
        (Mode.MANAGED, ModePolicy.WITH_RESET, False, ON_WITH_RESET),
        (Mode.DISABLED, ModePolicy.MANUAL, False, OFF),
        (Mode.DISABLED, ModePolicy.WHEN_IDLE, True, OFF),
        (Mode.DISABLED, ModePolicy.WITH_RESET, False, OFF_WITH_RESET),
    ],
)
def test_the_mode_that_is_wanted(mode: Mode, policy: ModePolicy, lost: bool, wish: ModeWish) -> None:
    assert wish_for(mode, policy, lost=lost, can_be_cut=True) == wish


def test_a_card_that_cannot_be_cut_is_never_switched_on() -> None:
    assert wish_for(Mode.MANAGED, ModePolicy.WITH_RESET, lost=False, can_be_cut=False) == STAYS
