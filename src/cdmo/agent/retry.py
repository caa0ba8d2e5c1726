"""When to try a change again that did not come about."""

from __future__ import annotations

from cdmo.runtime.clock import Clock


class Retry:
    """Pauses that double for one and the same purpose; a purpose that is new is tried at once. Seconds."""

    def __init__(self, clock: Clock, first: float, most: float) -> None:
        self._clock = clock
        self._first = first
        self._most = most
        self._pause = first
        self._not_before = 0.0
        self._tried_for: object = None

    def due(self, purpose: object) -> bool:
        """Whether this may be tried now."""
        if purpose != self._tried_for:
            self._tried_for = purpose
            self._pause = self._first
            return True
        return self._clock.monotonic() >= self._not_before

    def failed(self) -> None:
        """It was tried, and not again before the pause."""
        self._not_before = self._clock.monotonic() + self._pause
        self._pause = min(self._pause * 2, self._most)

    def succeeded(self) -> None:
        """It came about: whatever is wanted next is new."""
        self._tried_for = None

    def at_once(self) -> None:
        """What stood in the way is gone."""
        self._not_before = 0.0
