"""When the controller plans."""

from __future__ import annotations

import asyncio

from cdmo.controller.trigger import Trigger
from tests.fakes.clock import VirtualClock


async def test_a_pull_after_a_quiet_time_is_answered_at_once() -> None:
    clock = VirtualClock()
    trigger = Trigger(clock, 0.05)
    trigger.pull()
    await trigger.wait(60.0)
    assert clock.monotonic() == 1000.0


async def test_pulls_within_the_quiet_time_become_one_round_at_its_end() -> None:
    clock = VirtualClock()
    trigger = Trigger(clock, 0.05)
    trigger.pull()
    await trigger.wait(60.0)
    for _ in range(10):
        trigger.pull()
    second = asyncio.create_task(trigger.wait(60.0))
    await clock.sleeping()
    assert not second.done()
    await clock.advance(0.05)
    await second
    third = asyncio.create_task(trigger.wait(60.0))
    await asyncio.sleep(0)
    assert not third.done()
    third.cancel()


async def test_a_pull_while_the_quiet_time_runs_is_part_of_the_coming_round() -> None:
    clock = VirtualClock()
    trigger = Trigger(clock, 0.05)
    trigger.pull()
    await trigger.wait(60.0)
    trigger.pull()
    waiting = asyncio.create_task(trigger.wait(60.0))
    await clock.sleeping()
    trigger.pull()
    await clock.advance(0.05)
    await waiting
    another = asyncio.create_task(trigger.wait(60.0))
    await asyncio.sleep(0)
    assert not another.done()
    another.cancel()


async def test_without_a_pull_the_limit_makes_a_round() -> None:
    await asyncio.wait_for(Trigger(VirtualClock(), 0.05).wait(0.001), timeout=1.0)


async def test_a_pull_during_a_round_is_not_lost() -> None:
    clock = VirtualClock()
    trigger = Trigger(clock, 0.0)
    trigger.pull()
    await trigger.wait(60.0)
    trigger.pull()  # the round is running
    await asyncio.wait_for(trigger.wait(60.0), timeout=1.0)
