"""What a run amounts to. docs/simulate.md defines every figure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from cdmo.model.names import MIG_RESOURCE_PREFIX
from cdmo.model.reasons import WaitingCode
from cdmo.simulation.run import Course, Outcome
from cdmo.simulation.timeline import Point
from cdmo.simulation.workload import Demand


@dataclass(frozen=True, slots=True)
class Waits:
    """Waiting times from arrival to start, of the pods that started; None when none did."""

    mean: float | None
    p95: float | None


@dataclass(frozen=True, slots=True)
class KindFigures:
    """Of the pods that ask for the same slices."""

    demand: str
    pods: int
    accepted: int
    waits: Waits


@dataclass(frozen=True, slots=True)
class Refusal:
    """Pods that never started for one reason; the sentence is the first one's."""

    code: WaitingCode
    pods: int
    example: str  # namespace/name
    reason: str


@dataclass(frozen=True, slots=True)
class Figures:
    """Of the counted arrivals; None where there is nothing to divide by."""

    arrivals: int  # all of them, warm-up included
    pods: int
    accepted: int
    slots: int  # memory slots that the pods asked for
    accepted_slots: int
    creates_per_accepted: float | None
    destroys_per_accepted: float | None
    waits: Waits
    still_waiting: int  # pods left in the queue for good when all others had ended
    mean: Point | None
    points: tuple[Point, ...]
    turned_away: tuple[tuple[float, float], ...]  # curve: time, share of the arrivals around it that never started
    longest_queue: int
    ended: float
    kinds: tuple[KindFigures, ...]  # most pods first
    refusals: tuple[Refusal, ...]  # most pods first

    @property
    def accepted_share(self) -> float:
        """Pods that started, of those that arrived."""
        return self.accepted / self.pods

    @property
    def slot_share(self) -> float | None:
        """The same, weighed by memory slots."""
        return self.accepted_slots / self.slots if self.slots else None


def figures(course: Course, size: Callable[[Demand], int]) -> Figures:
    """The figures of a run. `size`: memory slots that a demand takes."""
    outcomes = course.outcomes[course.counted :]
    accepted = [each for each in outcomes if each.started is not None]
    return Figures(
        arrivals=len(course.outcomes),
        pods=len(outcomes),
        accepted=len(accepted),
        slots=sum(size(each.job.demand) for each in outcomes),
        accepted_slots=sum(size(each.job.demand) for each in accepted),
        creates_per_accepted=course.created / course.started if course.started else None,
        destroys_per_accepted=course.destroyed / course.started if course.started else None,
        waits=_waits(accepted),
        still_waiting=sum(each.started is None and each.why is None for each in outcomes),
        mean=course.mean,
        points=course.points,
        turned_away=_turned_away(course.outcomes),
        longest_queue=course.longest_queue,
        ended=course.ended,
        kinds=_kinds(outcomes),
        refusals=_refusals(outcomes),
    )


def demand_label(demand: Demand) -> str:
    """A demand in a few words: `3g.40gb`, `2 x 1g.10gb + 3g.40gb`."""
    names = ((resource.removeprefix(MIG_RESOURCE_PREFIX), count) for resource, count in demand)
    return " + ".join(name if count == 1 else f"{count} x {name}" for name, count in names)


def _waits(outcomes: Iterable[Outcome]) -> Waits:
    waits = sorted(each.started - each.job.pod.created for each in outcomes if each.started is not None)
    if not waits:
        return Waits(None, None)
    rank = math.ceil(0.95 * len(waits))  # nearest rank: the shortest wait that 95 % did not exceed
    return Waits(math.fsum(waits) / len(waits), waits[rank - 1])


def _kinds(outcomes: Sequence[Outcome]) -> tuple[KindFigures, ...]:
    by_demand: dict[Demand, list[Outcome]] = {}
    for each in outcomes:
        by_demand.setdefault(each.job.demand, []).append(each)
    found = (
        KindFigures(demand_label(demand), len(group), sum(each.started is not None for each in group), _waits(group))
        for demand, group in by_demand.items()
    )
    return tuple(sorted(found, key=lambda each: (-each.pods, each.demand)))


def _refusals(outcomes: Iterable[Outcome]) -> tuple[Refusal, ...]:
    found: dict[WaitingCode, Refusal] = {}
    for each in outcomes:
        if each.why is not None:
            first = found.get(each.why.code) or Refusal(each.why.code, 0, str(each.why.pod), each.why.reason)
            found[each.why.code] = Refusal(first.code, first.pods + 1, first.example, first.reason)
    return tuple(sorted(found.values(), key=lambda each: (-each.pods, each.code)))


def _turned_away(outcomes: Sequence[Outcome], groups: int = 60) -> tuple[tuple[float, float], ...]:
    """Groups of equally many arrivals, each at the time of its middle one."""
    curve = []
    step = max(1, math.ceil(len(outcomes) / groups))
    for start in range(0, len(outcomes), step):
        group = outcomes[start : start + step]
        share = sum(each.started is None for each in group) / len(group)
        curve.append((group[len(group) // 2].job.pod.created, share))
    return tuple(curve)
