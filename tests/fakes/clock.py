"""Clocks for tests: time passes when the test says so, never by itself."""

from __future__ import annotations

import asyncio
import heapq
import itertools


class VirtualClock:
    """A clock that stands still until `advance`. Sleepers wake in the order of their times."""

    def __init__(self, *, monotonic: float = 1000.0, now: float = 1_750_000_000.0) -> None:
        self._monotonic = monotonic
        self._ahead = now - monotonic
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._order = itertools.count()
        self._slept = asyncio.Condition()

    def monotonic(self) -> float:
        """Seconds from an arbitrary start."""
        return self._monotonic

    def now(self) -> float:
        """Unix time in seconds."""
        return self._monotonic + self._ahead

    async def sleep(self, seconds: float) -> None:
        """Wait until `advance` has passed this many seconds."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._monotonic + seconds, next(self._order), future))
        async with self._slept:
            self._slept.notify_all()
        await future

    async def sleeping(self, count: int = 1) -> None:
        """Return once at least `count` tasks sleep on this clock: then they have done what they do between."""
        async with self._slept:
            await self._slept.wait_for(lambda: self._awake_later() >= count)

    async def advance(self, seconds: float) -> None:
        """Let time pass; every sleeper whose time comes is woken at its time and gets to run."""
        end = self._monotonic + seconds
        while self._sleepers and self._sleepers[0][0] <= end:
            when, _, future = heapq.heappop(self._sleepers)
            self._monotonic = max(self._monotonic, when)
            if not future.done():
                future.set_result(None)
                await asyncio.sleep(0)
        self._monotonic = end

    def jump(self, seconds: float) -> None:
        """Let time pass without anybody running, as while a process is paused. Sleepers wake at the next advance."""
        self._monotonic += seconds

    def _awake_later(self) -> int:
        return sum(not future.done() for _, _, future in self._sleepers)


class HastyClock(VirtualClock):
    """A clock on which every sleep ends at once, having moved the time. `slept` tells how long each was."""

    def __init__(self) -> None:
        super().__init__()
        self.slept: list[float] = []

    async def sleep(self, seconds: float) -> None:
        """Move the time and let others run."""
        self.slept.append(seconds)
        self.jump(max(0.0, seconds))
        await asyncio.sleep(0)
