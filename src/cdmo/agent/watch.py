"""Where a change is and since when: a phase that takes longer than it ever should is told while it still lasts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from cdmo.agent.change import Phase, Progress
from cdmo.runtime.clock import Clock


@dataclass(frozen=True, slots=True)
class Overdue:
    """A phase beyond its limit."""

    phase: Phase
    since: float  # Unix time
    seconds: float
    limit: float


class ChangeWatch:
    """A Progress between the change and whoever else is told.

    timed: gets each phase's duration in seconds when it is over.
    """

    def __init__(
        self,
        progress: Progress,
        clock: Clock,
        limits: Mapping[Phase, float],
        timed: Callable[[Phase, float], None],
    ) -> None:
        self._progress = progress
        self._clock = clock
        self._limits = limits
        self._timed = timed
        self._phase: Phase | None = None
        self._entered = 0.0  # monotonic
        self._entered_at = 0.0  # Unix time
        self._news = asyncio.Event()  # the hardware is at work, or the change is over

    def entered(self, phase: Phase) -> None:
        """The change enters a phase."""
        self._left()
        if phase is Phase.FENCE:
            self._news.clear()
        self._phase = phase
        self._entered, self._entered_at = self._clock.monotonic(), self._clock.now()
        self._progress.entered(phase)
        if phase is Phase.APPLY:
            self._news.set()

    def over(self) -> None:
        """The change is over."""
        self._left()
        self._phase = None
        self._news.set()

    async def until_at_work(self, limit: float) -> bool:
        """Wait until the hardware is at work, `limit` seconds at most. Whether the change is still under way then."""
        with suppress(TimeoutError):
            async with asyncio.timeout(limit):
                await self._news.wait()
        return self._phase is not None

    def _left(self) -> None:
        if self._phase is not None:
            self._timed(self._phase, self._clock.monotonic() - self._entered)

    def overdue(self) -> Overdue | None:
        """The phase that has lasted for too long, if the present one has."""
        if self._phase is None:
            return None
        seconds, limit = self._clock.monotonic() - self._entered, self._limits[self._phase]
        return Overdue(self._phase, self._entered_at, seconds, limit) if seconds > limit else None
