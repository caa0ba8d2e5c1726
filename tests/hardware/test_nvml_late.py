"""A call that hung and was given up goes no further than the entry point it hung in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from cdmo_harness.driver import SimulatedDriver

from cdmo.errors import DriverHung
from cdmo.hardware.nvml import NvmlGpus
from cdmo.model.gpu import Placement
from cdmo.runtime.clock import SystemClock
from cdmo.runtime.worker import Worker

BUS = "00000000:10:00.0"
ONE = Placement(19, 0)
LIMIT = 10.0  # seconds, for whatever must come at all
SHORT = 0.3  # seconds, after which a call is given up


class Late:
    """The adapter in a worker that gives up early; `back` is set when a call comes back too late."""

    def __init__(self, driver: SimulatedDriver) -> None:
        self.driver = driver
        self.back = asyncio.Event()
        self.worker = Worker("nvml", SystemClock(), LIMIT, self._returned)
        self.gpus = NvmlGpus(lambda: driver.library, lambda _: None, self.worker.check_wanted)

    def _returned(self, late: bool) -> None:
        if late:
            self.back.set()

    async def hang(self, entry: str, create: bool = True) -> None:
        """A step that hangs in `entry` is given up; then the driver answers again."""
        instance = 0 if create else self.gpus.read().gpus[0].instances[0].id
        self.driver.hang(entry)
        step = (self.gpus.create, BUS, ONE) if create else (self.gpus.destroy, BUS, instance, ONE)
        with pytest.raises(DriverHung):
            await self.worker.run_within(SHORT, *step)  # type: ignore[arg-type]
        self.driver.release(entry)
        await asyncio.wait_for(self.back.wait(), LIMIT)

    async def instances(self) -> list[tuple[Placement, int]]:
        """Placement and number of compute instances of what is there."""
        found = (await self.worker.run(self.gpus.read)).gpus[0].instances
        return [(each.placement, len(each.compute_instances)) for each in found]


@pytest.fixture
async def late(driver: SimulatedDriver) -> AsyncIterator[Late]:
    made = Late(driver)
    made.gpus.set_mig_mode(BUS, True)
    yield made
    made.worker.close()


async def test_one_that_hung_before_it_changed_anything_changes_nothing(late: Late) -> None:
    await late.hang("nvmlInitWithFlags")
    assert await late.instances() == []
    assert late.driver.counters().gpu_instances_created == 0


async def test_one_that_hung_in_the_middle_leaves_what_a_kill_there_would_leave(late: Late) -> None:
    await late.hang("nvmlDeviceCreateGpuInstanceWithPlacement")
    assert await late.instances() == [(ONE, 0)]
    assert late.driver.counters().gpu_instances_destroyed == 0


@pytest.mark.parametrize(
    ("entry", "left"),
    [("nvmlDeviceGetGpuInstanceById", [(ONE, 1)]), ("nvmlComputeInstanceDestroy", [(ONE, 0)]),
     ("nvmlGpuInstanceDestroy", [])],
)  # fmt: skip
async def test_a_destroy_goes_no_further_either(entry: str, left: list[tuple[Placement, int]], late: Late) -> None:
    late.gpus.create(BUS, ONE)
    await late.hang(entry, create=False)
    assert await late.instances() == left


async def test_in_time_all_is_done(late: Late) -> None:
    assert (await late.worker.run(late.gpus.create, BUS, ONE)).device_uuid
    assert await late.instances() == [(ONE, 1)]
