"""Which pods of a queue fit together: the longest head of it, then those behind of whom some still fit.

The order says who is accepted: a pod is, if it fits together with all that were accepted ahead of it. The question is
asked with many at once. A head of the queue is placed the largest first; if that fails, a shorter one is tried, by as
many pods as had no place, then by halves. Who is refused so speaks for all behind who ask for the same: these are
tried one by one in the end.
"""

from __future__ import annotations

from collections.abc import Sequence
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
                found = self._tried([*accepted, pods[0]], TRIES) if most > fitting else None
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

    def _tried(self, pods: Sequence[int], tries: int) -> Attempt | None:
        """A way to place all these pods. Who finds no place is placed earlier the next time, with all like it."""
        favoured: tuple[dict[int, int], dict[int, int]] = ({}, {})
        for number in range(tries):
            if self._batch.effort_left <= 0:
                return None
            mark = self._batch.mark()
            attempt = Attempt()
            bulk = number % 2 == 1
            mode = Mode.BULKY if bulk else Mode.TIGHT
            whole = self._batch.largest_first(attempt, pods, favoured[bulk], mode=mode)
            self._batch.rollback(mark)
            if whole:
                return attempt
            favoured[bulk][self._batch.asked[attempt.refused[0]]] = -number - 1
        return None
