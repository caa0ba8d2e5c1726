"""Which pods of a queue fit together: the longest head of it, then those behind of whom some still fit.

The order says who is accepted: a pod is, if it fits together with all that were accepted ahead of it. The question is
asked with many at once. A head of the queue is placed the largest first; if that fails, a shorter one is tried, by as
many pods as had no place, then by halves. Who is refused so speaks for all behind who ask for the same: these are
tried one by one in the end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from cdmo.planner.attempt import Attempt
from cdmo.planner.placement import CardTable
from cdmo.planner.shape import Mode

if TYPE_CHECKING:
    from cdmo.planner.batch import Batch

TRIES = 8  # ways to place one refused pod with those ahead of it


class Packing:
    """Adds to an attempt, by way of a batch, the pods that fit."""

    def __init__(self, batch: Batch, attempt: Attempt) -> None:
        self._batch = batch
        self._attempt = attempt

    def pack(self, pods: Sequence[int]) -> None:
        """Of these pods, in their order, accept who fits with all accepted ahead. Cards are packed one by one."""
        by_cards: dict[frozenset[CardTable], list[int]] = {}
        for pod in pods:
            by_cards.setdefault(self._batch.cards(pod), []).append(pod)
        for cards, theirs in by_cards.items():
            self._pack_cards(cards, theirs)

    def _pack_cards(self, cards: frozenset[CardTable], pods: list[int]) -> None:
        batch = self._batch
        accepted: list[int] = []
        free = batch.free_slots(cards)
        best: Attempt | None = None
        while pods and batch.effort_left > 0:
            most = self._within(pods, free - sum(map(batch.slots, accepted)))
            fitting, found = self._longest(accepted, pods, most)
            best = found or best
            accepted += pods[:fitting]
            pods = pods[fitting:]
            if pods and batch.effort_left > 0:
                found = self._tried([*accepted, pods[0]]) if most > fitting else None
                if found is not None:
                    best = found
                    accepted.append(pods[0])
                    pods = pods[1:]
                else:
                    asked = batch.asked[pods[0]]
                    pods = [pod for pod in pods if batch.asked[pod] != asked]
        if best is not None:
            batch.repeat(best, self._attempt)

    def _within(self, pods: Sequence[int], slots: int) -> int:
        """How many from the head ask together for no more than so many slots."""
        for number, pod in enumerate(pods):
            slots -= self._batch.slots(pod)
            if slots < 0:
                return number
        return len(pods)

    def _longest(self, accepted: list[int], pods: Sequence[int], most: int) -> tuple[int, Attempt | None]:
        """The length of the longest head, up to `most`, that fits beside those accepted, and how it was placed."""
        batch = self._batch
        fits, fails = 0, most + 1
        best: Attempt | None = None
        guess = most
        while fits < guess < fails and batch.effort_left > 0:
            mark = batch.mark()
            attempt = Attempt()
            whole = batch.largest_first(attempt, [*accepted, *pods[:guess]], to_the_end=True)
            batch.rollback(mark)
            if whole:
                fits, best = guess, attempt
                guess = (fits + fails) // 2
            else:
                fails = guess
                missing = sum(map(batch.slots, attempt.refused))
                shorter = guess
                while shorter > fits + 1 and missing > 0:
                    shorter -= 1
                    missing -= batch.slots(pods[shorter])
                guess = max(shorter, (fits + fails) // 2)
        return fits, best

    def _tried(self, pods: Sequence[int]) -> Attempt | None:
        """A way to place all these pods."""
        batch = self._batch

        def once(favoured: Mapping[int, int], mode: Mode) -> tuple[Attempt, bool] | None:
            if batch.effort_left <= 0:
                return None
            mark = batch.mark()
            attempt = Attempt()
            whole = batch.largest_first(attempt, pods, favoured, mode=mode)
            batch.rollback(mark)
            return attempt, whole

        return first_that_fits(once, batch.asked)


# Tries once, with favours by what is asked and with what counts; None when that must not be tried any more.
Once = Callable[[Mapping[int, int], Mode], tuple[Attempt, bool] | None]


def first_that_fits(once: Once, asked: Sequence[int]) -> Attempt | None:
    """The first of several ways to place the same pods in which all find a place.

    Whoever finds none is placed earlier the next time, with all who ask for the same. By size and by bulk in turns.
    """
    favoured: dict[Mode, dict[int, int]] = {Mode.TIGHT: {}, Mode.BULKY: {}}
    for number in range(TRIES):
        mode = Mode.BULKY if number % 2 else Mode.TIGHT
        found = once(favoured[mode], mode)
        if found is None:
            return None
        attempt, whole = found
        if whole:
            return attempt
        if not attempt.refused:
            return None
        favoured[mode][asked[attempt.refused[0]]] = -number - 1
    return None
