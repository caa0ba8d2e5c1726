"""Where a change is and since when: a phase that takes longer than it ever should is told while it still lasts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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

    def entered(self, phase: Phase) -> None:
        """The change enters a phase."""
        self.left()
        self._phase = phase
        self._entered, self._entered_at = self._clock.monotonic(), self._clock.now()
        self._progress.entered(phase)

    def left(self) -> None:
        """The change is over, or goes on to the next phase."""
        if self._phase is not None:
            self._timed(self._phase, self._clock.monotonic() - self._entered)
        self._phase = None

    def overdue(self) -> Overdue | None:
        """The phase that has lasted for too long, if the present one has."""
        if self._phase is None:
            return None
        seconds, limit = self._clock.monotonic() - self._entered, self._limits[self._phase]
        return Overdue(self._phase, self._entered_at, seconds, limit) if seconds > limit else None
