"""What was planned for which pod, until it runs or goes; and where a pod was tried in vain.

The scheduler, not CDMO, binds the pod. If it does not within `patience` seconds although its slices were planned,
something CDMO does not see stands in the way: the pod is planned elsewhere and that node left alone for it, for
`first_pause` seconds and twice as long each time, so that no loop cuts slice after slice for nobody.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from cdmo.model.cluster import PodInfo
from cdmo.model.gpu import PodKey
from cdmo.model.snapshot import Assignment


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds."""

    patience: float = 30.0
    first_pause: float = 30.0
    longest_pause: float = 600.0


@dataclass(frozen=True, slots=True)
class _Promise:
    assignment: Assignment
    since: float


@dataclass(frozen=True, slots=True)
class _Pause:
    until: float
    length: float


class Promises:
    """The controller's memory between rounds. A new leader starts without one and finds the slices idle."""

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._promises: dict[PodKey, _Promise] = {}
        self._pauses: dict[tuple[PodKey, str], _Pause] = {}
        self._now = 0.0

    def __len__(self) -> int:
        """How many promises stand."""
        return len(self._promises)

    def assignments(self) -> tuple[Assignment, ...]:
        """Every promise that stands, in a stable order."""
        return tuple(self._promises[key].assignment for key in sorted(self._promises))

    def avoid(self) -> frozenset[tuple[PodKey, str]]:
        """Where not to try which pod just now."""
        return frozenset(key for key, pause in self._pauses.items() if pause.until > self._now)

    def review(self, pending: Iterable[PodInfo], now: float) -> tuple[Assignment, ...]:
        """Drop promises to pods that no longer wait; give up, and return, those that were waited for in vain."""
        self._now = now
        waiting = {each.key for each in pending}
        self._promises = {key: each for key, each in self._promises.items() if key in waiting}
        self._pauses = {key: each for key, each in self._pauses.items() if key[0] in waiting}
        in_vain = [each for each in self._promises.values() if now - each.since >= self._patience.patience]
        for each in in_vain:
            self._give_up(each.assignment)
        return tuple(each.assignment for each in in_vain)

    def keep(self, placements: Iterable[Assignment], now: float) -> tuple[Assignment, ...]:
        """Remember a plan's placements; returns those that are new."""
        fresh = []
        for each in placements:
            old = self._promises.get(each.pod)
            if old is None or old.assignment != each:
                self._promises[each.pod] = _Promise(each, now)
                fresh.append(each)
        planned = {each.pod for each in placements}
        self._promises = {key: each for key, each in self._promises.items() if key in planned}
        return tuple(fresh)

    def next_due(self, now: float) -> float:
        """Seconds until a promise or a pause runs out; infinity when there is none."""
        ends = [each.since + self._patience.patience for each in self._promises.values()]
        ends += [each.until for each in self._pauses.values() if each.until > now]
        return max(0.0, min(ends) - now) if ends else float("inf")

    def _give_up(self, assignment: Assignment) -> None:
        key = (assignment.pod, assignment.node)
        before = self._pauses.get(key)
        length = min(before.length * 2, self._patience.longest_pause) if before else self._patience.first_pause
        self._pauses[key] = _Pause(self._now + length, length)
        del self._promises[assignment.pod]
