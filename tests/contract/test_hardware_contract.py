"""What every GpuReader and GpuWriter must do: the fake in memory, and NVML on the simulated driver."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from cdmo.errors import HardwareError, InUse, NoRoom, NotAllowed, NotSupported, NotThere
from cdmo.hardware.port import DriverReading, GpuHealth, GpuReading
from cdmo.model.gpu import MigMode, Placement
from tests.contract.hardware_hosts import A30, A100, H100, L40S, Host, MakeHost
from tests.fakes.cards import card, card_keys

THREE_LEFT, THREE_RIGHT = Placement(9, 0), Placement(9, 4)
ONE = Placement(19, 0)
ABSENT = "00000000:99:00.0"


@pytest.fixture
def host(make_host: MakeHost) -> Host:
    """One H100 with MIG mode on."""
    return make_host(H100)


def only(reading: DriverReading) -> GpuReading:
    """The one GPU of a host."""
    (gpu,) = reading.gpus
    return gpu


@pytest.mark.parametrize("key", card_keys())
def test_a_card_is_read_as_its_table_says_also_with_mig_off(make_host: MakeHost, key: str) -> None:
    gpu = only(make_host(key, mig=False).gpus.read())
    table = card(key)
    assert gpu.model == table.model
    assert (gpu.memory_mib, gpu.hopper_or_later) == (table.memory_mib, table.hopper_or_later)
    assert gpu.mig_mode is (MigMode.DISABLED if table.model.profiles else MigMode.UNSUPPORTED)
    assert gpu.problem == ""


def test_gpus_are_told_in_the_order_of_their_bus_ids(make_host: MakeHost) -> None:
    reading = make_host(H100, A30, L40S).gpus.read()
    assert [each.pci_bus_id for each in reading.gpus] == sorted(each.pci_bus_id for each in reading.gpus)
    assert [each.minor for each in reading.gpus] == [0, 1, 2]
    assert reading.driver_version == "580.159.04"


def test_what_was_created_is_what_is_read(host: Host) -> None:
    made = [host.gpus.create(host.bus(), each) for each in (THREE_RIGHT, ONE)]
    assert [(each.placement, each.size) for each in made] == [(THREE_RIGHT, 4), (ONE, 1)]
    assert all(each.device_uuid.startswith("MIG-") for each in made)
    assert only(host.gpus.read()).instances == (made[1], made[0])


def test_a_placement_that_is_taken_has_no_room(host: Host) -> None:
    host.gpus.create(host.bus(), THREE_LEFT)
    with pytest.raises(NoRoom):
        host.gpus.create(host.bus(), THREE_LEFT)
    with pytest.raises(NoRoom):
        host.gpus.create(host.bus(), Placement(19, 3))
    assert [each.placement for each in only(host.gpus.read()).instances] == [THREE_LEFT]


def test_the_last_media_extension_engine_can_be_taken_only_once(host: Host) -> None:
    host.gpus.create(host.bus(), Placement(20, 0))
    with pytest.raises(NoRoom):
        host.gpus.create(host.bus(), Placement(20, 1))


@pytest.mark.parametrize("placement", [Placement(9, 1), Placement(14, 6), Placement(77, 0)])
def test_a_placement_the_card_does_not_have_is_refused(host: Host, placement: Placement) -> None:
    with pytest.raises(NotThere):
        host.gpus.create(host.bus(), placement)
    assert only(host.gpus.read()).instances == ()


def test_nothing_is_created_while_mig_is_off(make_host: MakeHost) -> None:
    host = make_host(H100, L40S, mig=False)
    for number in (0, 1):
        with pytest.raises(NotSupported):
            host.gpus.create(host.bus(number), ONE)


def test_a_gpu_that_is_not_there_cannot_be_changed(host: Host) -> None:
    with pytest.raises(NotThere):
        host.gpus.create(ABSENT, ONE)
    with pytest.raises(NotThere):
        host.gpus.destroy(ABSENT, 1, ONE)
    with pytest.raises(NotThere):
        host.gpus.set_mig_mode(ABSENT, True)


def test_without_privilege_mig_can_be_read_but_not_changed(host: Host) -> None:
    made = host.gpus.create(host.bus(), ONE)
    host.set_privileged(False)
    with pytest.raises(NotAllowed):
        host.gpus.create(host.bus(), THREE_RIGHT)
    with pytest.raises(NotAllowed):
        host.gpus.destroy(host.bus(), made.id, ONE)
    with pytest.raises(NotAllowed):
        host.gpus.set_mig_mode(host.bus(), False)
    assert only(host.gpus.read()).instances == (made,)


def test_when_the_compute_instance_fails_the_gpu_instance_goes_again(host: Host) -> None:
    host.fail_compute_instance()
    with pytest.raises(NoRoom):
        host.gpus.create(host.bus(), THREE_LEFT)
    assert only(host.gpus.read()).instances == ()
    host.gpus.create(host.bus(), THREE_LEFT)


def test_a_destroyed_instance_leaves_its_place_free(host: Host) -> None:
    first = host.gpus.create(host.bus(), THREE_LEFT)
    other = host.gpus.create(host.bus(), THREE_RIGHT)
    host.gpus.destroy(host.bus(), first.id, THREE_LEFT)
    assert only(host.gpus.read()).instances == (other,)
    host.gpus.create(host.bus(), Placement(14, 0))


def test_a_busy_slice_is_never_destroyed(host: Host) -> None:
    busy = host.gpus.create(host.bus(), THREE_LEFT)
    host.add_process(busy.device_uuid, 4242)
    with pytest.raises(InUse):
        host.gpus.destroy(host.bus(), busy.id, THREE_LEFT)
    assert only(host.gpus.read()).instances == (replace(busy, processes=(4242,)),)
    host.remove_process(busy.device_uuid, 4242)
    host.gpus.destroy(host.bus(), busy.id, THREE_LEFT)
    assert only(host.gpus.read()).instances == ()


def test_an_id_that_now_lies_elsewhere_is_not_destroyed(host: Host) -> None:
    first = host.gpus.create(host.bus(), ONE)
    host.gpus.destroy(host.bus(), first.id, ONE)
    second = host.gpus.create(host.bus(), Placement(19, 5))
    assert second.id == first.id, "the driver gives ids again: that is the danger"
    with pytest.raises(NotThere):
        host.gpus.destroy(host.bus(), first.id, ONE)
    with pytest.raises(NotThere):
        host.gpus.destroy(host.bus(), 13, ONE)
    assert only(host.gpus.read()).instances == (second,)


def test_an_instance_without_a_compute_instance_is_seen_and_can_be_destroyed(host: Host) -> None:
    host.gpus.create(host.bus(), THREE_RIGHT)
    host.make_hollow(THREE_LEFT)
    hollow = only(host.gpus.read()).instances[0]
    assert (hollow.placement, hollow.compute_instances, hollow.device_uuid) == (THREE_LEFT, (), "")
    host.gpus.destroy(host.bus(), hollow.id, THREE_LEFT)
    assert [each.placement for each in only(host.gpus.read()).instances] == [THREE_RIGHT]


def test_hopper_switches_at_once(make_host: MakeHost) -> None:
    host = make_host(H100, mig=False)
    assert host.gpus.set_mig_mode(host.bus(), True) is MigMode.ENABLED
    assert host.gpus.set_mig_mode(host.bus(), True) is MigMode.ENABLED
    assert host.gpus.set_mig_mode(host.bus(), False) is MigMode.DISABLED


def test_hopper_does_not_switch_while_it_is_used(make_host: MakeHost) -> None:
    host = make_host(H100, mig=False)
    host.add_process(only(host.gpus.read()).uuid, 17)
    with pytest.raises(InUse):
        host.gpus.set_mig_mode(host.bus(), True)
    assert only(host.gpus.read()).mig_mode is MigMode.DISABLED
    assert only(host.gpus.read()).processes == (17,)


def test_instances_keep_mig_mode_on(host: Host) -> None:
    host.gpus.create(host.bus(), ONE)
    with pytest.raises(InUse):
        host.gpus.set_mig_mode(host.bus(), False)
    assert only(host.gpus.read()).mig_mode is MigMode.ENABLED


@pytest.mark.parametrize("key", [A100, A30])
def test_ampere_waits_for_a_reset(make_host: MakeHost, key: str) -> None:
    host = make_host(key, mig=False)
    assert host.gpus.set_mig_mode(host.bus(), True) is MigMode.ENABLE_PENDING
    assert only(host.gpus.read()).mig_mode is MigMode.ENABLE_PENDING
    host.reset()
    assert only(host.gpus.read()).mig_mode is MigMode.ENABLED
    assert host.gpus.set_mig_mode(host.bus(), False) is MigMode.DISABLE_PENDING
    assert host.gpus.set_mig_mode(host.bus(), True) is MigMode.ENABLED


def test_a_card_without_mig_cannot_be_switched(make_host: MakeHost) -> None:
    host = make_host(L40S)
    with pytest.raises(NotSupported):
        host.gpus.set_mig_mode(host.bus(), True)


def test_a_reboot_takes_instances_and_on_hopper_the_mode(make_host: MakeHost) -> None:
    host = make_host(H100, A100)
    for number in (0, 1):
        host.gpus.create(host.bus(number), ONE)
    host.reboot()
    hopper, ampere = host.gpus.read().gpus
    assert (hopper.mig_mode, hopper.instances) == (MigMode.DISABLED, ())
    assert (ampere.mig_mode, ampere.instances) == (MigMode.ENABLED, ())


def test_a_lost_gpu_has_a_problem_and_the_others_are_unharmed(make_host: MakeHost) -> None:
    host = make_host(H100, A30)
    kept = host.gpus.create(host.bus(1), Placement(14, 2))
    host.gpus.create(host.bus(0), ONE)
    known = host.gpus.read().gpus[0]
    host.lose()
    lost, well = host.gpus.read().gpus
    assert "lost" in lost.problem
    assert (lost.lost, well.lost) == (True, False)
    assert replace(lost, problem="", lost=False) == known, "what was last seen on it: pods hold it"
    assert (well.problem, well.instances) == ("", (kept,))
    with pytest.raises(HardwareError):
        host.gpus.create(host.bus(0), THREE_RIGHT)


def test_a_gpu_that_is_back_on_the_bus_is_read_as_before(make_host: MakeHost) -> None:
    host = make_host(H100)
    made = host.gpus.create(host.bus(), ONE)
    known = only(host.gpus.read())
    host.lose()
    assert only(host.gpus.read()).problem
    host.find_again()
    assert only(host.gpus.read()) == known
    host.gpus.destroy(host.bus(), made.id, ONE)


def test_a_gpu_without_faults_says_so_as_far_as_it_says_anything(make_host: MakeHost) -> None:
    host = make_host(H100, mig=False)
    assert only(host.gpus.read()).health == GpuHealth(False, False, False, 0)
    host.gpus.set_mig_mode(host.bus(), True)
    assert only(host.gpus.read()).health == GpuHealth(None, False, False, 0)
    host.gpus.create(host.bus(), ONE)
    assert only(host.gpus.read()).health == GpuHealth(None, None, None, 0)


def test_what_a_gpu_has_suffered_is_read_and_most_of_it_goes_with_a_reset(make_host: MakeHost) -> None:
    host = make_host(H100, mig=False)
    host.spoil(ecc=True, pending=True, action=4)
    assert only(host.gpus.read()).health == GpuHealth(True, True, False, 4)
    host.spoil(failed=True)
    host.reset()
    assert only(host.gpus.read()).health == GpuHealth(False, False, True, 0)


@pytest.mark.parametrize("key", [H100, A30, "RTX-PRO-6000-BSE", "B200-180GB"])
@pytest.mark.parametrize("seed", range(3))
def test_all_implementations_refuse_and_allow_the_same(make_both: MakeHost, key: str, seed: int) -> None:
    """A random walk of creations and destructions, step by step on the fake and on the simulated driver."""
    rng = random.Random(seed)
    fake, simulated = make_both(key), make_both(key)
    places = [Placement(each.id, start) for each in card(key).model.profiles for start in each.starts]
    for _ in range(40):
        placement = rng.choice(places)
        outcomes = [_toggle(each, placement) for each in (fake, simulated)]
        assert outcomes[0] == outcomes[1], placement


def _toggle(host: Host, placement: Placement) -> tuple[str, list[Placement]]:
    """Destroy what lies there, else create it: the kind of answer, and what is there afterwards."""
    there = [each for each in only(host.gpus.read()).instances if each.placement == placement]
    try:
        if there:
            host.gpus.destroy(host.bus(), there[0].id, placement)
        else:
            host.gpus.create(host.bus(), placement)
        outcome = "done"
    except HardwareError as error:
        outcome = type(error).__name__
    return outcome, [each.placement for each in only(host.gpus.read()).instances]
