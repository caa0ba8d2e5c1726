"""Running steps on the hardware, and taking them back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from cdmo.agent.apply import Applier
from cdmo.agent.steps import Action, Step
from cdmo.errors import DriverFault, GpuLost, InUse, NoRoom, NotThere
from cdmo.hardware.port import DriverReading
from cdmo.model.gpu import MigMode, Placement
from cdmo.runtime.clock import SystemClock
from cdmo.runtime.worker import Worker
from tests.agent.nodes import BUS, SEVEN, THREE_HIGH, THREE_LOW, NoDeviceNodes
from tests.fakes.hardware import FakeGpus, fake_gpus


@dataclass
class Bench:
    worker: Worker
    gpus: FakeGpus = field(default_factory=fake_gpus)
    nodes: NoDeviceNodes = field(default_factory=NoDeviceNodes)

    @property
    def applier(self) -> Applier:
        return Applier(self.gpus, self.gpus, self.nodes, self.worker, 5.0)

    @property
    def seen(self) -> DriverReading:
        return self.gpus.read()

    def layout(self) -> set[Placement]:
        return {each.placement for gpu in self.gpus.read().gpus for each in gpu.instances}


@pytest.fixture
def bench() -> Iterator[Bench]:
    worker = Worker("nvml", SystemClock(), 5.0, lambda _: None)
    yield Bench(worker)
    worker.close()


def create(placement: Placement) -> Step:
    return Step(Action.CREATE, BUS, placement)


def destroy(placement: Placement) -> Step:
    return Step(Action.DESTROY, BUS, placement)


async def test_steps_run_in_order_and_new_instances_get_device_nodes(bench: Bench) -> None:
    bench.gpus.create(BUS, SEVEN)
    await bench.applier.apply((destroy(SEVEN), create(THREE_LOW), create(THREE_HIGH)), bench.seen, take_back=True)
    assert bench.layout() == {THREE_LOW, THREE_HIGH}
    assert bench.nodes.made == [(0, 1), (0, 2)]


async def test_no_steps_touch_nothing(bench: Bench) -> None:
    seen = bench.seen
    bench.gpus.calls.clear()
    await bench.applier.apply((), seen, take_back=True)
    assert bench.gpus.calls == []


async def test_what_was_seen_before_the_change_is_not_read_again(bench: Bench) -> None:
    bench.gpus.create(BUS, SEVEN)
    seen = bench.seen
    bench.gpus.calls.clear()
    await bench.applier.apply((destroy(SEVEN), create(THREE_LOW)), seen, take_back=True)
    assert [each.split()[0] for each in bench.gpus.calls] == ["destroy", "create"]


async def test_an_instance_that_was_made_anew_since_it_was_seen_is_found(bench: Bench) -> None:
    first = bench.gpus.create(BUS, THREE_LOW)
    seen = bench.seen
    bench.gpus.destroy(BUS, first.id, THREE_LOW)
    taken = bench.gpus.create(BUS, THREE_HIGH)
    bench.gpus.create(BUS, THREE_LOW)
    assert taken.id == first.id
    await bench.applier.apply((destroy(THREE_LOW),), seen, take_back=True)
    assert bench.layout() == {THREE_HIGH}


async def test_a_failure_takes_back_what_was_done_newest_first(bench: Bench) -> None:
    bench.gpus.create(BUS, SEVEN)
    bench.gpus.calls.clear()
    bench.gpus.fail("create", NoRoom("taken"), nth=2)
    with pytest.raises(NoRoom):
        await bench.applier.apply((destroy(SEVEN), create(THREE_LOW), create(THREE_HIGH)), bench.seen, take_back=True)
    assert bench.layout() == {SEVEN}
    changes = [each.split()[0] for each in bench.gpus.calls if not each.startswith("read")]
    assert changes == ["destroy", "create", "create", "destroy", "create"]


async def test_an_undo_that_fails_does_not_keep_the_others_from_being_undone(bench: Bench) -> None:
    one = Placement(19, 6)
    bench.gpus.create(BUS, one)
    bench.gpus.create(BUS, THREE_LOW)
    bench.gpus.fail("create", NoRoom("taken"))  # the step
    bench.gpus.fail("create", DriverFault("unknown"))  # the first undo
    with pytest.raises(NoRoom):
        await bench.applier.apply((destroy(THREE_LOW), destroy(one), create(THREE_HIGH)), bench.seen, take_back=True)
    assert bench.layout() == {THREE_LOW}


async def test_an_instance_that_went_by_itself_is_as_good_as_destroyed(bench: Bench) -> None:
    await bench.applier.apply((destroy(SEVEN), create(THREE_LOW)), bench.seen, take_back=True)
    assert bench.layout() == {THREE_LOW}


async def test_an_instance_with_a_process_is_not_destroyed(bench: Bench) -> None:
    made = bench.gpus.create(BUS, SEVEN)
    bench.gpus.add_process(made.device_uuid, 4711)
    with pytest.raises(InUse):
        await bench.applier.apply((destroy(SEVEN),), bench.seen, take_back=True)
    assert bench.layout() == {SEVEN}


async def test_a_gpu_that_is_gone_is_said_to_be_gone(bench: Bench) -> None:
    seen = bench.seen
    bench.gpus.gpus.clear()
    with pytest.raises(NotThere, match=f"GPU {BUS} is no longer there"):
        await bench.applier.apply((destroy(SEVEN),), seen, take_back=True)


async def test_a_lost_gpu_fails_the_step(bench: Bench) -> None:
    seen = bench.seen
    bench.gpus.gpu(BUS).lost = True
    with pytest.raises(GpuLost):
        await bench.applier.apply((create(THREE_LOW),), seen, take_back=True)


async def test_mig_mode_is_switched_on_and_not_taken_back(bench: Bench) -> None:
    bench.gpus.gpu(BUS).mig_mode = MigMode.DISABLED
    bench.gpus.fail("create", NoRoom("taken"))
    with pytest.raises(NoRoom):
        await bench.applier.apply((Step(Action.ENABLE_MIG, BUS), create(THREE_LOW)), bench.seen, take_back=True)
    assert bench.gpus.gpu(BUS).mig_mode is MigMode.ENABLED


async def test_device_nodes_of_everything_there_are_made_again(bench: Bench) -> None:
    for each in (THREE_LOW, THREE_HIGH):
        bench.gpus.create(BUS, each)
    await bench.applier.ensure_device_nodes(bench.gpus.read())
    assert sorted(bench.nodes.made) == [(0, 1), (0, 2)]
