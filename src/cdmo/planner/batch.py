"""Serving a queue: nobody is passed over for those behind, and as many as possible are served.

When everybody may fit, all are placed at once, the largest first. Else pods that may run on the same nodes are packed
(`packing`). Where nodes or rules differ from pod to pod, they are placed one by one, the accepted ones anew with the
largest first, and then it is tried for the first refused pod and everybody ahead of it whether they fit together that
way; those behind are placed after them. A demand that failed so is not tried again in this plan.
What is tried is counted, not timed: the same question gets the same answer on every machine.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType

from cdmo.model.cluster import PodInfo
from cdmo.planner.attempt import Attempt
from cdmo.planner.company import Company
from cdmo.planner.index import Index
from cdmo.planner.ledger import Ledger, Mark, NodeState
from cdmo.planner.packing import TRIES, Packing, first_that_fits
from cdmo.planner.placement import CardTable
from cdmo.planner.seek import Picks, Seeker
from cdmo.planner.shape import Mode
from cdmo.planner.window import KeptWindow

# Placements that one plan may try in all; the first pass is always finished. In a long queue one refused pod matters
# less, and the plan should not take much more than 0.1 s.
EFFORT, EFFORT_FOR_MANY, MANY = 24_000, 6_000, 1_000

FEW = 16  # pods, and GPUs, for which everything is tried when nothing else helps

_NONE: Mapping[int, int] = MappingProxyType({})

KeepWindow = Callable[[PodInfo, int], KeptWindow | None]


class Batch:
    """One queue to be served from one ledger."""

    def __init__(
        self,
        queue: Sequence[PodInfo],
        kinds: Sequence[int],
        *,
        ledger: Ledger,
        index: Index,
        seeker: Seeker,
        company: Company,
        may_keep: Callable[[PodInfo], bool],
        keep_window: KeepWindow,
    ) -> None:
        self._queue = queue
        self._ledger = ledger
        self._index = index
        self._seeker = seeker
        self._company = company
        self._may_keep = may_keep
        self._keep_window = keep_window
        self.kinds = kinds
        self.asked = _numbers((pod.demand, kind) for pod, kind in zip(queue, kinds, strict=True))
        # Pods of one sort differ in nothing that counts.
        self.sorts = _numbers(
            (asked, pod.others, pod.host_ports, seeker.avoided(pod.key))
            for pod, asked in zip(queue, self.asked, strict=True)
        )
        self._examples = {sort: pod for pod, sort in reversed(list(enumerate(self.sorts)))}
        self._usual = seeker.mode
        self._start = ledger.mark()
        self._company_start = company.mark()
        self._homeless: frozenset[int] = frozenset()
        self._spent = 0

    def serve(self) -> Attempt:
        """Give everybody a place who can have one; the ledger is left as the attempt says."""
        self._homeless = self._without_a_place()
        best = Attempt()
        if (
            not self._homeless
            and self._all_might_fit()
            and self.largest_first(best, range(len(self._queue)), mode=self._usual)
        ):
            return best
        best = self._first_served()
        hopeful = any(self.sorts[pod] not in self._homeless for pod in best.refused)
        if best.given and hopeful and not best.packed:
            best = self._insisted(self._consolidated(best))
        return best

    def _first_served(self) -> Attempt:
        """As many of those ahead as fit together, the largest first; the others one by one."""
        self.restart()
        attempt = Attempt()
        if len(set(self.kinds)) == 1 and not self._company.any_rules and len(self._queue) > FEW:
            attempt = self._packed()
        self._seeker.mode = self._usual
        self._in_order(attempt, [pod for pod in range(len(self._queue)) if pod not in attempt.given])
        return attempt

    def _packed(self) -> Attempt:
        """As many as fit together. Those behind the first who is refused after a long wait keep out of its window."""
        pods = [pod for pod, sort in enumerate(self.sorts) if sort not in self._homeless]
        attempt = Attempt(packed=True)
        Packing(self, attempt).pack(pods)
        refused = (pod for pod in range(len(self._queue)) if pod not in attempt.given)
        owner = next((pod for pod in refused if self._may_keep(self._queue[pod])), None)
        if owner is None:
            return attempt
        self.restart()
        attempt = Attempt(packed=True)
        Packing(self, attempt).pack([pod for pod in pods if pod < owner])
        self._keep(attempt, owner)
        Packing(self, attempt).pack([pod for pod in pods if pod > owner])
        return attempt

    def mark(self) -> Mark:
        """A point to which `rollback` can return."""
        return self._ledger.mark()

    def repeat(self, found: Attempt, attempt: Attempt) -> None:
        """Place what was found once more, for this attempt."""
        for pod, (node, picks) in found.given.items():
            self._give(attempt, pod, node, picks)

    def rollback(self, mark: Mark) -> None:
        """Take back what was placed since, for an attempt that is dropped or to be repeated."""
        self._ledger.rollback(mark)

    @property
    def effort_left(self) -> int:
        """How many more placements may be tried."""
        return (EFFORT if len(self._queue) <= MANY else EFFORT_FOR_MANY) - self._spent

    def free_slots(self, cards: frozenset[CardTable]) -> int:
        """Memory slots on these cards that nobody holds."""
        return self._ledger.free_slots_of(cards)

    def cards(self, pod: int) -> frozenset[CardTable]:
        """The card models that a pod's slices can be cut from."""
        return self._ledger.cards_of(self._queue[pod].demand)

    def slots(self, pod: int) -> int:
        """Memory slots that a pod asks for."""
        return self._ledger.size_of(self._queue[self._examples[self.sorts[pod]]].demand)[1]

    def _without_a_place(self) -> frozenset[int]:
        """Sorts that find no place even with nobody served: serving the others differently does not help them."""
        if self._company.any_rules:  # company may come for whoever finds none at first
            return frozenset()
        return frozenset(
            sort
            for sort, example in self._examples.items()
            if self._seeker.seek(self._queue[example], self.kinds[example]) is None
        )

    def _all_might_fit(self) -> bool:
        """Whether so few slots are asked for that nobody may have to be refused. Then the order does not matter."""
        asked = sum(count * self.slots(self._examples[sort]) for sort, count in Counter(self.sorts).items())
        return asked <= self._ledger.free_slots()

    # --- placing ----------------------------------------------------------------------------------------------

    def _place(self, attempt: Attempt, pod: int) -> bool:
        info = self._queue[pod]
        found = self._seeker.seek(info, self.kinds[pod])
        self._spent += 1
        if found is None:
            return False
        self._give(attempt, pod, *found)
        return True

    def _give(self, attempt: Attempt, pod: int, node: NodeState, picks: Picks) -> None:
        self._ledger.give(self._queue[pod], node, picks)
        self._company.place(self._queue[pod], node.name)
        attempt.given[pod] = (node, picks)

    def _in_order(self, attempt: Attempt, pods: Iterable[int], hopeless: frozenset[int] = frozenset()) -> None:
        """Place one after another; keep a window for the first who has waited for long and finds nothing."""
        hopeless |= self._homeless
        for pod in pods:
            sort = self.sorts[pod]
            if sort not in attempt.dead and sort not in hopeless:
                if self._place(attempt, pod):
                    continue
                # Nothing that a plan does makes room, but it may bring company to a pod that asks for it.
                if not self._company.concerns(self._queue[pod]):
                    attempt.dead.add(sort)
            attempt.refused.append(pod)
            if attempt.window is None and self._may_keep(self._queue[pod]):
                self._keep(attempt, pod)
        self._join_company(attempt)

    def _join_company(self, attempt: Attempt) -> None:
        """Try those again whom a rule about others kept out: the others may have come since."""
        found = self._company.any_rules
        while found:
            found = False
            for pod in [each for each in attempt.refused if self._company.concerns(self._queue[each])]:
                if self._place(attempt, pod):
                    attempt.refused.remove(pod)
                    found = True

    def _keep(self, attempt: Attempt, pod: int) -> bool:
        window = self._keep_window(self._queue[pod], self.kinds[pod])
        return window is not None and self._kept(attempt, pod, window)

    def _keep_again(self, attempt: Attempt, pod: int, window: KeptWindow) -> bool:
        """Keep the same window if it is still to be had, else another."""
        if not window.is_clear():
            return self._keep(attempt, pod)
        window.keep(self._ledger)
        return self._kept(attempt, pod, window)

    def _kept(self, attempt: Attempt, pod: int, window: KeptWindow) -> bool:
        attempt.window = (pod, window)
        attempt.before_window = len(attempt.given)
        return True

    def largest_first(
        self,
        attempt: Attempt,
        pods: Iterable[int],
        favoured: Mapping[int, int] = _NONE,
        *,
        mode: Mode = Mode.TIGHT,
        to_the_end: bool = False,
    ) -> bool:
        """Place who asks for what is favoured, then the largest. False, with the pod noted, when one finds no place.

        mode: what counts; with BULKY it is the bulkiest first, be it by memory or by engines. to_the_end: go on then,
        and note all that find none.
        """
        self._seeker.mode = mode
        bulk = mode is Mode.BULKY
        by_sort: dict[int, list[int]] = {}
        for pod in sorted(pods):
            by_sort.setdefault(self.sorts[pod], []).append(pod)
        order = {sort: self._order(self._examples[sort], favoured, bulk=bulk) for sort in by_sort}
        for sort in sorted(by_sort, key=order.__getitem__):
            alike = by_sort[sort]
            given = self._place_alike(attempt, alike)
            if given < len(alike):
                attempt.refused += alike[given:] if to_the_end else alike[given : given + 1]
                if not to_the_end:
                    return False
        return not attempt.refused

    def _place_alike(self, attempt: Attempt, pods: Sequence[int]) -> int:
        """Place pods of one sort; returns how many found a place."""
        ruled = self._company.any_rules
        if ruled and any(self._company.concerns(self._queue[pod]) for pod in pods):  # their labels may differ
            return next((done for done, pod in enumerate(pods) if not self._place(attempt, pod)), len(pods))
        done = 0
        for found in self._seeker.fill(self._queue[pods[0]], self.kinds[pods[0]], len(pods)):
            pod = pods[done]
            attempt.given[pod] = found
            if ruled:
                self._company.place(self._queue[pod], found[0].name)
            done += 1
        self._spent += done
        return done

    def _order(self, pod: int, favoured: Mapping[int, int], *, bulk: bool) -> tuple[object, ...]:
        return favoured.get(self.asked[pod], 0), self._size(pod, bulk=bulk), self.sorts[pod]

    def _size(self, pod: int, *, bulk: bool) -> tuple[int, int, tuple[int, int], int]:
        """What is placed first: the largest slices, the most slots, those with the least to choose from.

        bulk: first of all what takes most of a card, be it of its memory or of its engines.
        """
        demand = self._queue[pod].demand
        longest, slots = self._ledger.size_of(demand)
        nodes = sum(len(each.nodes) for each in self._index.classes(self.kinds[pod]))
        first = self._ledger.bulk_of(demand) if bulk else longest
        return (-first, -slots, self._ledger.choice_of(demand), nodes)

    def restart(self) -> None:
        """Take back everything."""
        self._ledger.rollback(self._start)
        self._company.rollback(self._company_start)

    def _replay(self, attempt: Attempt) -> None:
        """Bring the ledger to where an attempt had it."""
        self.restart()
        for number, (pod, (node, picks)) in enumerate(list(attempt.given.items())):
            if attempt.window and number == attempt.before_window:
                attempt.window[1].keep(self._ledger)
            self._give(attempt, pod, node, picks)
        if attempt.window and attempt.before_window == len(attempt.given):
            attempt.window[1].keep(self._ledger)

    # --- better attempts --------------------------------------------------------------------------------------

    def _consolidated(self, best: Attempt) -> Attempt:
        """Everybody who was accepted, the largest first; then the refused ones once more."""
        if best.window is not None or self.effort_left < len(best.given):
            return best
        self.restart()
        self._seeker.mode = Mode.TIGHT
        trial = Attempt()
        if self.largest_first(trial, best.given):
            self._in_order(trial, best.refused)
            return trial
        self._replay(best)
        return best

    def _insisted(self, best: Attempt) -> Attempt:
        """The first refused pod with everybody ahead of it, the largest first; then those behind. And so on."""
        hopeless = set(self._homeless)
        at_best = True
        while True:
            pod = next((each for each in best.refused if self.sorts[each] not in hopeless), None)
            if pod is None or self.effort_left < TRIES * len(self._queue):
                break
            at_best = False
            trial = self._together(best, pod)
            if trial is not None:
                self._seeker.mode = self._usual
                trial.refused = [each for each in best.refused if each < pod]
                self._in_order(trial, range(pod + 1, len(self._queue)), frozenset(hopeless))
                best, at_best = trial, True
            else:
                hopeless.add(self.sorts[pod])
        if not at_best:
            self._replay(best)
        return best

    def _together(self, best: Attempt, pod: int) -> Attempt | None:
        """The pod with all that were accepted ahead of it, and with the window kept ahead of it, if they fit."""

        def once(favoured: Mapping[int, int], mode: Mode) -> tuple[Attempt, bool] | None:
            if self.effort_left < len(best.given):
                return None
            self.restart()
            trial = Attempt()
            return trial, self._fit_together(trial, best, pod, favoured, mode)

        found = first_that_fits(once, self.asked)
        if found is None and best.window is None and self.effort_left >= len(best.given):
            return self._searched([*(each for each in best.given if each < pod), pod])
        return found

    def _searched(self, pods: Sequence[int]) -> Attempt | None:
        """Everything tried, as far as the search's budget goes: on few GPUs for few pods that are alike otherwise."""
        kinds = {self.kinds[pod] for pod in pods}
        demands = Counter(self._queue[pod].demand for pod in pods)
        single = all(len(demand) == 1 and demand[0][1] == 1 for demand in demands)
        nodes = sorted(
            (node for kind in kinds for each in self._index.classes(kind) for node in each.nodes), key=_name
        )
        gpus = [gpu for node in nodes for gpu in node.gpus]
        if len(kinds) > 1 or not single or len(pods) > FEW or len(gpus) > FEW or self._ledger.odd:
            return None
        self.restart()
        asked = tuple(sorted((demand[0][0], count) for demand, count in demands.items()))
        answer = self._ledger.fitter.fit(asked, [gpu.shape for gpu in gpus], {})
        self._spent += answer.tried
        if answer.choice is None:
            return None
        trial = Attempt()
        left = sorted(pods, reverse=True)
        for pick in answer.choice.picks:
            gpu, resource = gpus[pick.gpu], pick.option.cut.profile.resource
            pod = next(each for each in reversed(left) if self._queue[each].demand[0][0] == resource)
            if not self._seeker.may_run(self._queue[pod], gpu.node):
                return None
            left.remove(pod)
            self._give(trial, pod, gpu.node, ((gpu, pick.option),))
        return trial

    def _fit_together(self, trial: Attempt, best: Attempt, pod: int, favoured: Mapping[int, int], mode: Mode) -> bool:
        ahead = [each for each in best.given if each < pod]
        if best.window is None or best.window[0] >= pod:
            return self.largest_first(trial, [*ahead, pod], favoured, mode=mode)
        owner = best.window[0]
        return (
            self.largest_first(trial, [each for each in ahead if each < owner], favoured, mode=mode)
            and self._keep_again(trial, *best.window)
            and self.largest_first(trial, [*(each for each in ahead if each > owner), pod], favoured, mode=mode)
        )


def _numbers(values: Iterable[object]) -> list[int]:
    """A number for each, equal for equal values, in the order in which they first come."""
    known: dict[object, int] = {}
    return [known.setdefault(each, len(known)) for each in values]


def _name(node: NodeState) -> str:
    return node.name
