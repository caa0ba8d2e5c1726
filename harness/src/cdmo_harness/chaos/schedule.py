"""Which faults come when. Drawn from a seed before anything runs, so that a seed names a schedule.

Real time makes what follows from a schedule differ from run to run; the schedule itself does not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from enum import StrEnum
from random import Random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cdmo_harness.chaos.stage import Stage

# Seconds between the beginnings of two faults, on average: closer together only where a run is too short to see every
# kind, and never so close that nothing goes on between them.
_MEAN_GAP = 6.0
_LEAST_GAP = 1.2
_FIRST = 2.0  # seconds without any fault
# Seconds that what a fault touched is left alone afterwards, so that it comes back before it is hit again.
_PAUSE = 1.5
# No fault lasts longer than this share of the run: a short one is to see many.
_LONGEST_SHARE = 0.25


class Where(StrEnum):
    """What a fault hits one of."""

    NODE = "node"
    CONTROLLER = "controller"
    CLUSTER = "cluster"


@dataclass(frozen=True, slots=True)
class Planned:
    """One fault to come. `begins` in seconds after the first pod, `lasts` in seconds."""

    begins: float
    lasts: float
    kind: str
    target: str  # a node, a controller, or "cluster"
    seed: int  # for what the fault itself has to choose

    @property
    def ends(self) -> float:
        """Seconds after the first pod."""
        return self.begins + self.lasts


Act = Callable[["Stage", Planned], AbstractAsyncContextManager[None]]


@dataclass(frozen=True, slots=True)
class FaultKind:
    """A kind of fault. `act` begins it on entry and ends it on exit, whatever happens in between."""

    name: str
    act: Act
    where: Where
    lasts: tuple[float, float]  # seconds, from and to
    # What no other fault may touch at the same time; "{}" stands for the target.
    claims: tuple[str, ...]
    weight: int = 1  # how often it comes, compared with others
    # Whether a node so treated loses pods bound to it at that time also without CDMO (see judge.py).
    loses_pods: bool = False

    def claimed(self, target: str) -> frozenset[str]:
        """What a fault of this kind touches at this target."""
        return frozenset(each.format(target) for each in self.claims)


def draw(
    seed: int, seconds: float, kinds: Sequence[FaultKind], targets: Mapping[Where, Sequence[str]]
) -> tuple[Planned, ...]:
    """The faults of a run, by their beginning. All have ended when it ends.

    Every kind comes once before any comes again, as far as the time suffices. Faults overlap, but never touch the
    same process.
    """
    random = Random(f"{seed}/faults")
    gap = max(_LEAST_GAP, min(_MEAN_GAP, (seconds - _FIRST) / (len(kinds) + 2)))
    planned: list[Planned] = []
    taken: dict[str, float] = {}  # claim -> when it is free again
    deck = random.sample(list(kinds), k=len(kinds))
    now = _FIRST
    while now < seconds:
        if not deck:
            weighted = [kind for kind in kinds for _ in range(kind.weight)]
            deck = random.sample(weighted, k=len(weighted))
        fault = _place(random, now, seconds, deck, targets, taken)
        if fault is not None:
            planned.append(fault)
        now += gap * random.uniform(0.4, 1.6)
    return tuple(planned)


def _place(
    random: Random,
    now: float,
    end: float,
    deck: list[FaultKind],
    targets: Mapping[Where, Sequence[str]],
    taken: dict[str, float],
) -> Planned | None:
    """The first of the deck that can begin now; it leaves the deck."""
    for kind in deck:
        names = targets[kind.where]
        for target in random.sample(list(names), k=len(names)):
            claimed = kind.claimed(target)
            if any(taken.get(each, 0.0) > now for each in claimed):
                continue
            deck.remove(kind)
            lasts = min(random.uniform(*kind.lasts), end * _LONGEST_SHARE, end - now)
            taken.update(dict.fromkeys(claimed, now + lasts + _PAUSE))
            return Planned(round(now, 3), round(lasts, 3), kind.name, target, random.getrandbits(32))
    return None
