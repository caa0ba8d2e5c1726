"""Whether a process' main task still gets on: it leaves marks, and a long time without one means that it is stuck."""

from __future__ import annotations

from cdmo.runtime.clock import Clock


class Pulse:
    """The marks of one task.

    limit: seconds without a mark after which it counts as stuck; longer than anything that it may wait for, for being
    called stuck ends the process.
    """

    def __init__(self, clock: Clock, limit: float) -> None:
        self._clock = clock
        self._limit = limit
        self._at = clock.monotonic()
        self._doing = "starting"

    def mark(self, doing: str = "") -> None:
        """It got on. `doing`: what it turns to now; empty: goes on with the same."""
        self._at = self._clock.monotonic()
        self._doing = doing or self._doing

    @property
    def age(self) -> float:
        """Seconds since the last mark."""
        return self._clock.monotonic() - self._at

    def stuck(self) -> str:
        """A sentence when it is stuck, else empty."""
        age = self.age
        return f"no progress for {age:.0f} s: {self._doing}" if age > self._limit else ""
