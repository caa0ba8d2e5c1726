"""Where a change is and since when."""

from __future__ import annotations

import asyncio

from cdmo.agent.change import PHASE_LIMITS, Phase
from cdmo.agent.watch import ChangeWatch, Overdue
from tests.agent.nodes import Recorded
from tests.fakes.clock import VirtualClock

LONG = 60.0  # seconds


class Bench:
    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.told = Recorded()
        self.timed: list[tuple[Phase, float]] = []
        limits = dict.fromkeys(Phase, 10.0)
        self.watch = ChangeWatch(self.told, self.clock, limits, lambda *each: self.timed.append(each))


def test_every_phase_has_a_limit() -> None:
    assert PHASE_LIMITS.keys() == set(Phase)


def test_phases_are_passed_on_and_timed_until_the_next_or_the_end() -> None:
    bench = Bench()
    bench.watch.entered(Phase.FENCE)
    bench.clock.jump(2.0)
    bench.watch.entered(Phase.QUIET)
    bench.clock.jump(3.0)
    bench.watch.over()
    bench.clock.jump(4.0)
    bench.watch.over()
    assert bench.told.phases == [Phase.FENCE, Phase.QUIET]
    assert bench.timed == [(Phase.FENCE, 2.0), (Phase.QUIET, 3.0)]


async def test_a_change_is_waited_for_until_the_hardware_is_at_work_or_it_is_over() -> None:
    bench = Bench()
    bench.watch.entered(Phase.FENCE)
    assert await bench.watch.until_at_work(0.0), "it takes long"
    waiting = asyncio.create_task(bench.watch.until_at_work(LONG))
    bench.watch.entered(Phase.APPLY)
    assert await waiting
    bench.watch.over()
    assert not await bench.watch.until_at_work(LONG)

    bench.watch.entered(Phase.FENCE)
    waiting = asyncio.create_task(bench.watch.until_at_work(LONG))
    await asyncio.sleep(0)
    assert not waiting.done(), "another change"
    bench.watch.over()
    assert not await waiting


def test_a_phase_beyond_its_limit_is_overdue_until_it_is_left() -> None:
    bench = Bench()
    assert bench.watch.overdue() is None
    began = bench.clock.now()
    bench.watch.entered(Phase.APPLY)
    bench.clock.jump(10.0)
    assert bench.watch.overdue() is None
    bench.clock.jump(5.0)
    assert bench.watch.overdue() == Overdue(Phase.APPLY, began, 15.0, 10.0)
    bench.watch.entered(Phase.RELOAD)
    assert bench.watch.overdue() is None
