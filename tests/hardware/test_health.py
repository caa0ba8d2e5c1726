"""Which GPUs and slices are not to be used, and until when."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdmo.hardware.health import MOST_XIDS, Memory, judge
from cdmo.hardware.kernel_log import XidEvent
from cdmo.hardware.port import ComputeInstance, DriverReading, GpuHealth, GpuInstance, GpuReading
from cdmo.hardware.xids import TABLE, Reach
from cdmo.model.gpu import MigMode, Placement
from cdmo.model.profile import GpuModel

BUS = "00000000:10:00.0"
NOTHING = Memory("boot", -1)
ONE, OTHER = (
    GpuInstance(3, Placement(19, 0), 1, (ComputeInstance(0, "MIG-1"),)),
    GpuInstance(4, Placement(19, 1), 1, (ComputeInstance(0, "MIG-2"),)),
)
WELL = GpuReading(
    BUS, "GPU-1", 0, 81559, True, MigMode.ENABLED, GpuModel("H100", 8, ()), (ONE, OTHER), health=GpuHealth(energy=500)
)


def xid(number: int, instance: int | None = None, sequence: int = 0, gpu: str = BUS[:-2]) -> XidEvent:
    return XidEvent(sequence, gpu, number, instance)


def look(gpu: GpuReading, *events: XidEvent, memory: Memory = NOTHING) -> tuple[GpuReading, Memory]:
    """One look at a host with this GPU."""
    reading, after = judge(DriverReading("580", (gpu,)), events, memory)
    return reading.gpus[0], after


def faults(gpu: GpuReading) -> list[str]:
    """What is wrong with each slice."""
    return [each.fault for each in gpu.instances]


def test_a_gpu_that_is_well_has_no_faults() -> None:
    gpu, after = look(WELL)
    assert (gpu, gpu.trouble) == (WELL, "")
    assert after.standing() == look(WELL, memory=after)[1].standing()


def test_an_xid_of_a_slice_is_that_slices_alone() -> None:
    gpu, after = look(WELL, xid(94, instance=3))
    assert faults(gpu) == ["XID 94 (contained memory error)", ""]
    assert gpu.trouble == ""
    assert faults(look(WELL, memory=after)[0]) == faults(gpu), "it stands until the slice is gone"


@pytest.mark.parametrize("number", [number for each in TABLE for number in (each.first, each.last)])
def test_the_table_decides_who_is_hit(number: int) -> None:
    reach = next(each.reach for each in TABLE if each.first <= number <= each.last)
    gpu, _ = look(WELL, xid(number, instance=3))
    hit = Reach.GPU if gpu.faults else Reach.SLICE if any(faults(gpu)) else Reach.NOBODY
    assert hit is reach


def test_an_unknown_xid_is_taken_as_the_device_plugin_takes_it() -> None:
    assert faults(look(WELL, xid(900, instance=4))[0]) == ["", "XID 900 (unknown to CDMO)"]
    assert "XID 900" in look(WELL, xid(900))[0].trouble


def test_a_contained_error_without_a_slice_counts_for_the_gpu_only_where_there_are_slices() -> None:
    assert "XID 94" in look(WELL, xid(94))[0].trouble
    whole = replace(WELL, mig_mode=MigMode.DISABLED, instances=())
    assert look(whole, xid(94))[0].trouble == ""
    assert "XID 95" in look(whole, xid(95))[0].trouble


def test_an_xid_of_a_slice_that_is_gone_or_of_another_gpu_hits_nobody() -> None:
    gpu, _ = look(WELL, xid(94, instance=7), xid(95, gpu="00000000:20:00"), xid(95, gpu="00000000:1"))
    assert (gpu.trouble, faults(gpu)) == ("", ["", ""])


def test_what_was_taken_into_account_before_is_not_again() -> None:
    gpu, after = look(WELL, xid(94, instance=3, sequence=5), memory=Memory("boot", 5))
    assert (faults(gpu), after.sequence) == (["", ""], 5)
    assert look(WELL, xid(94, instance=3, sequence=6), memory=after)[1].sequence == 6


@pytest.mark.parametrize(
    "successor",
    [
        replace(ONE, id=9),
        replace(ONE, placement=Placement(20, 0)),
        replace(ONE, compute_instances=(ComputeInstance(0, "MIG-9"),)),
    ],
)
def test_a_slice_that_was_cut_anew_is_another(successor: GpuInstance) -> None:
    _, after = look(WELL, xid(94, instance=3))
    gpu, after = look(replace(WELL, instances=(successor, OTHER)), memory=after)
    assert faults(gpu) == ["", ""]
    assert faults(look(WELL, memory=after)[0]) == ["", ""], "and should the old one's ids come back, it is new"


def test_a_slice_known_to_be_destroyed_is_forgotten_though_the_next_one_has_its_ids() -> None:
    _, after = look(WELL, xid(94, instance=3), xid(94, instance=4))
    assert faults(look(WELL, memory=after.without(BUS, 3))[0]) == ["", "XID 94 (contained memory error)"]
    assert after.without("00000000:99:00.0", 3).standing() != after.standing()


def test_a_gpu_error_stands_until_the_gpu_was_reset() -> None:
    _, after = look(WELL, xid(95), xid(94, instance=3))
    later = replace(WELL, health=GpuHealth(energy=900))
    gpu, after = look(later, memory=after)
    assert "XID 95" in gpu.trouble
    gpu, after = look(replace(WELL, health=GpuHealth(energy=10)), memory=after)
    assert (gpu.trouble, faults(gpu)) == ("", ["", ""])
    assert look(later, memory=after)[0].trouble == ""


def test_a_gpu_that_was_lost_and_answers_was_reset_whatever_its_energy() -> None:
    _, after = look(WELL, xid(79), xid(94, instance=3))
    silent = replace(WELL, problem="it does not answer", instances=())
    gpu, after = look(silent, memory=after)
    assert "XID 79" in look(WELL, memory=after)[0].trouble, "one that only did not answer was not"
    gpu, after = look(replace(silent, problem="it is lost", lost=True), memory=after)
    gpu, after = look(silent, memory=after)
    gpu, after = look(replace(WELL, health=GpuHealth(energy=501)), memory=after)
    assert (gpu.trouble, faults(gpu)) == ("", ["", ""])
    assert "XID 95" in look(WELL, xid(95, sequence=9), memory=after)[0].trouble


def test_without_a_counter_of_energy_only_a_reboot_is_known_to_be_a_reset() -> None:
    silent = replace(WELL, health=GpuHealth())
    _, after = look(silent, xid(95))
    assert "XID 95" in look(silent, memory=after)[0].trouble


def test_an_xid_told_in_the_same_look_as_a_reset_stays() -> None:
    _, after = look(WELL)
    gpu, _ = look(replace(WELL, health=GpuHealth(energy=0)), xid(95), memory=after)
    assert "XID 95" in gpu.trouble, "nobody knows which of the two was first"


def test_ecc_errors_are_remembered_while_nvml_does_not_say() -> None:
    gpu, after = look(replace(WELL, health=GpuHealth(ecc_uncorrectable=True, energy=500)))
    assert "uncorrectable ECC" in gpu.trouble
    gpu, after = look(replace(WELL, health=GpuHealth(energy=600)), memory=after)
    assert "uncorrectable ECC" in gpu.trouble
    assert look(replace(WELL, health=GpuHealth(energy=3)), memory=after)[0].trouble == ""
    assert look(replace(WELL, health=GpuHealth(ecc_uncorrectable=False, energy=700)), memory=after)[0].trouble == ""


def test_a_pending_remap_ends_with_a_reset_and_a_failed_one_does_not() -> None:
    gpu, after = look(replace(WELL, health=GpuHealth(remap_pending=True, remap_failed=True, energy=500)))
    assert "wait to be remapped" in gpu.trouble
    assert "replace the card" in gpu.trouble
    gpu, after = look(replace(WELL, health=GpuHealth(energy=1)), memory=after)
    assert "wait to be remapped" not in gpu.trouble
    assert "replace the card" in gpu.trouble
    assert look(replace(WELL, health=GpuHealth(remap_failed=False)), memory=after)[0].trouble == ""


@pytest.mark.parametrize(("action", "words"), [(1, "reset"), (2, "reboot"), (4, "drained"), (99, "action 99")])
def test_what_the_driver_asks_for_is_told_as_long_as_it_asks(action: int, words: str) -> None:
    gpu, after = look(replace(WELL, health=GpuHealth(recovery_action=action)))
    assert words in gpu.trouble
    assert look(replace(WELL, health=GpuHealth(recovery_action=0)), memory=after)[0].trouble == ""


def test_of_a_gpu_that_does_not_answer_everything_is_remembered() -> None:
    _, after = look(WELL, xid(94, instance=3))
    gone = replace(WELL, problem="it is lost", instances=(), health=GpuHealth(recovery_action=2, energy=0))
    gpu, after = look(gone, xid(79, sequence=1), memory=after)
    assert gpu.trouble.startswith("it is lost; XID 79 (the GPU fell off the bus): reset it")
    gpu, _ = look(WELL, memory=after)
    assert faults(gpu) == ["XID 94 (contained memory error)", ""]
    assert "XID 79" in gpu.trouble
    assert look(replace(WELL, health=GpuHealth(energy=0)), memory=after)[0].trouble == "", "back after a reset"


def test_a_flood_of_xids_is_bounded_and_repeats_say_nothing_new() -> None:
    gpu, after = look(WELL, *(xid(900 + number % 50, sequence=number) for number in range(500)))
    assert len(gpu.faults) == MOST_XIDS
    assert len(msgspec.json.encode(after)) < 2000


@given(st.lists(st.tuples(st.integers(0, 999), st.one_of(st.none(), st.integers(0, 9))), max_size=30))
def test_whatever_comes_what_is_remembered_can_be_read_again(found: list[tuple[int, int | None]]) -> None:
    events = [xid(number, instance, sequence) for sequence, (number, instance) in enumerate(found)]
    gpu, after = look(WELL, *events)
    again = msgspec.json.decode(msgspec.json.encode(after), type=Memory)
    assert again == after
    assert look(WELL, memory=again)[0] == gpu
