"""What is measured over time: one mean over a window, and a curve of at most a few hundred points.

Between two instants nothing changes, so a value held for a while weighs as much as that while.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

POINTS = 400  # of a curve, at least, once that much time has gone by; at most twice as many
_LEAST_WIDTH = 1e-12  # so that doubling it always ends


@dataclass(frozen=True, slots=True)
class State:
    """What holds between two instants."""

    busy: int = 0  # memory slots in use
    free: int = 0  # memory slots not in use
    stranded: float = 0.0  # of the free ones, those that the next pod could not use
    queue: int = 0  # pods that wait


@dataclass(frozen=True, slots=True)
class Point:
    """Means over one stretch of virtual time."""

    start: float
    end: float
    utilisation: float  # share of the memory slots that is in use
    fragmentation: float  # share of the free memory slots that the next pod could not use
    queue: float  # pods that wait


class Sum:
    """Integrals over time."""

    __slots__ = ("busy", "free", "queue", "stranded", "time")

    def __init__(self) -> None:
        self.time = self.busy = self.free = self.stranded = self.queue = 0.0

    def add(self, state: State, duration: float) -> None:
        """A state that held for a while."""
        self.time += duration
        self.busy += state.busy * duration
        self.free += state.free * duration
        self.stranded += state.stranded * duration
        self.queue += state.queue * duration

    def merge(self, other: Sum) -> None:
        """The integrals over another stretch as well."""
        self.time += other.time
        self.busy += other.busy
        self.free += other.free
        self.stranded += other.stranded
        self.queue += other.queue

    def means(self, start: float, end: float) -> Point | None:
        """The means, or None when no time has gone by. Without a free slot nothing is fragmented."""
        if self.time <= 0.0:
            return None
        slots = self.busy + self.free
        return Point(
            start,
            end,
            utilisation=self.busy / slots if slots else 0.0,
            fragmentation=max(0.0, self.stranded / self.free) if self.free else 0.0,
            queue=self.queue / self.time,
        )


class Timeline:
    """Collects states in the order of time."""

    def __init__(self, start: float, first: float, last: float | None) -> None:
        """start: when it begins. first, last: the window of `mean`; without a last it never closes."""
        self._now = self._start = start
        self._first = first
        self._last = last
        self._window = Sum()
        self._width = max((last if last is not None else first) - start, 0.0) / POINTS
        self._buckets: list[Sum] = []
        self.longest_queue = 0  # within the window

    def hold(self, state: State, until: float) -> None:
        """The state held from where the last one ended until then."""
        if until <= self._now:
            return
        start, end = max(self._now, self._first), until if self._last is None else min(until, self._last)
        if end > start:
            self._window.add(state, end - start)
            self.longest_queue = max(self.longest_queue, state.queue)
        shown = until if self._last is None else min(until, self._last)
        if shown > self._now:
            self._spread(state, self._now, shown)
        self._now = until

    def mean(self) -> Point | None:
        """The means over the window, or None when none of it has gone by."""
        return self._window.means(self._first, self._now if self._last is None else self._last)

    def points(self) -> tuple[Point, ...]:
        """The curve, from the start to where the window closes."""
        end = self._now if self._last is None else self._last
        bounds = [min(self._start + index * self._width, end) for index in range(len(self._buckets) + 1)]
        found = (
            bucket.means(start, end) for bucket, (start, end) in zip(self._buckets, pairwise(bounds), strict=True)
        )
        return tuple(each for each in found if each is not None)

    def _spread(self, state: State, start: float, end: float) -> None:
        if self._width <= 0.0:
            self._width = max((end - self._start) / POINTS, _LEAST_WIDTH)
        while end - self._start > 2 * POINTS * self._width:
            self._coarsen()
        position = int((start - self._start) / self._width)
        while start < end:
            bound = self._start + (position + 1) * self._width
            while len(self._buckets) <= position:
                self._buckets.append(Sum())
            stop = min(end, bound) if position < 2 * POINTS - 1 else end  # rounding never makes one bucket more
            if stop > start:
                self._buckets[position].add(state, stop - start)
                start = stop
            position += 1

    def _coarsen(self) -> None:
        """Two buckets become one."""
        halves = self._buckets
        self._buckets = halves[::2]
        for bucket, second in zip(self._buckets, halves[1::2], strict=False):
            bucket.merge(second)
        self._width *= 2
