"""The machine's own time."""

from __future__ import annotations

import asyncio
import time

import pytest

from cdmo.runtime import clock as clock_module
from cdmo.runtime.clock import SystemClock


def test_monotonic_time_counts_suspends_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock_module.time, "clock_gettime", lambda which: float(which))
    assert SystemClock().monotonic() == float(time.CLOCK_BOOTTIME)


def test_without_a_boot_clock_the_monotonic_one_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(clock_module.time, "CLOCK_BOOTTIME")
    monkeypatch.setattr(clock_module.time, "monotonic", lambda: 42.0)
    assert SystemClock().monotonic() == 42.0


def test_now_is_unix_time() -> None:
    assert abs(SystemClock().now() - time.time()) < 1.0


@pytest.mark.parametrize("seconds", [0.0, -5.0])
async def test_a_sleep_of_nothing_lets_other_tasks_run(seconds: float) -> None:
    ran = asyncio.Event()

    async def other() -> None:
        ran.set()

    task = asyncio.create_task(other())
    await SystemClock().sleep(seconds)
    assert ran.is_set()
    await task


async def test_a_sleep_takes_its_time() -> None:
    clock = SystemClock()
    began = clock.monotonic()
    await clock.sleep(0.02)
    assert clock.monotonic() - began >= 0.019
