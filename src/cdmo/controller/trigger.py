"""When to plan: at once when idle, and otherwise once for everything that came in meanwhile."""

from __future__ import annotations

import asyncio

from cdmo.runtime.clock import Clock


class Trigger:
    """Coalesces wake-ups. Idempotent: pulling it ten times before a round is one round.

    quiet_seconds: the least time between the starts of two rounds, so that a burst of pods is planned together
    while a single pod after a pause waits for nothing.
    """

    def __init__(self, clock: Clock, quiet_seconds: float) -> None:
        self._clock = clock
        self._quiet = quiet_seconds
        self._pulled = asyncio.Event()
        self._last = float("-inf")

    def pull(self) -> None:
        """Ask for a round."""
        self._pulled.set()

    async def wait(self, limit: float) -> None:
        """Return when a round is due: pulled, or `limit` seconds gone (then things may only have grown older)."""
        try:
            async with asyncio.timeout(limit):
                await self._pulled.wait()
        except TimeoutError:
            pass
        early = self._last + self._quiet - self._clock.monotonic()
        if early > 0:
            await self._clock.sleep(early)
        self._pulled.clear()
        self._last = self._clock.monotonic()
