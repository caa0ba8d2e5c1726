"""Time, handed in by constructor so that tests own it.

`monotonic` also counts the time a machine was suspended (CLOCK_BOOTTIME where the system has it): a process
that wakes from a suspend must find its deadlines passed, not frozen.
"""

from __future__ import annotations

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """What CDMO asks of time."""

    def monotonic(self) -> float:
        """Seconds from an arbitrary start; never goes back."""
        ...

    def now(self) -> float:
        """Unix time in seconds; may jump. For what people and other programs read, never for deadlines."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait for this many seconds; zero or less only lets other tasks run."""
        ...


class SystemClock:
    """The machine's own time."""

    def monotonic(self) -> float:
        """Seconds since boot, suspended time included."""
        if hasattr(time, "CLOCK_BOOTTIME"):
            return time.clock_gettime(time.CLOCK_BOOTTIME)
        return time.monotonic()

    def now(self) -> float:
        """Unix time in seconds."""
        return time.time()

    async def sleep(self, seconds: float) -> None:
        """Wait on the event loop."""
        await asyncio.sleep(max(0.0, seconds))
