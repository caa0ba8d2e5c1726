"""The choice for one pod on one node, across its GPUs: several profiles and counts at once.

Slices are chosen largest first, the cheapest option first, with backtracking. The search is complete within its
budget, which pods that ask for up to about eight slices do not reach.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from cdmo.planner.shape import Cost, Mode, Option, Shape

Demand = tuple[tuple[str, int], ...]  # extended resource and count

BUDGET = 4000  # options tried for one pod on one node, then the node counts as full
POT = 100_000  # options that fruitless searches of one plan may try together, about a second
MOST_REMEMBERED = 50_000  # answers, some 20 MB
THIN = 32  # options beyond one a slice that a search may try once the pot is empty


@dataclass(frozen=True, slots=True)
class Pick:
    """One slice of a choice: on which GPU (by position) and how."""

    gpu: int
    option: Option
    cost: Cost


@dataclass(frozen=True, slots=True)
class Choice:
    """All slices of one pod on one node."""

    cost: Cost
    picks: tuple[Pick, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a search found. Without a choice, `exhausted` says that it gave up before it had seen everything."""

    choice: Choice | None
    tried: int = 0
    exhausted: bool = False


Question = tuple[Demand, tuple[Shape, ...], tuple[tuple[str, int], ...], Mode]


class Fitter:
    """Finds places on rows of GPUs, and remembers: equal nodes are searched once.

    Answers that any budget would have led to are remembered for good, the others until the plan ends: what was
    planned before must not show in a plan.
    """

    def __init__(self) -> None:
        self._certain: dict[Question, Answer] = {}
        self._known: dict[Question, Answer] = {}
        self._pot = POT
        self._mode = Mode.PLENTY

    def begin(self, mode: Mode) -> None:
        """A new plan begins, in which places are compared in this way."""
        self._mode = mode
        self._pot = POT
        self._known.clear()
        if len(self._certain) > MOST_REMEMBERED:
            self._certain.clear()

    def fit(self, demand: Demand, gpus: Sequence[Shape], reuse_limits: Mapping[str, int]) -> Answer:
        """The cheapest-first choice for a demand on these GPUs.

        reuse_limits: how many spare slices of a resource may be given; a resource that is not in it has no limit.
        """
        limits = tuple((resource, reuse_limits[resource]) for resource, _ in demand if resource in reuse_limits)
        question = (demand, tuple(gpus), limits, self._mode)
        answer = self._certain.get(question) or self._known.get(question)
        if answer is None:
            answer = self._search(demand, question[1], dict(limits))
            certain = answer.tried <= THIN and not answer.exhausted
            (self._certain if certain else self._known)[question] = answer
        if answer.choice is None:
            self._pot -= answer.tried
        return answer

    def _search(self, demand: Demand, gpus: tuple[Shape, ...], limits: dict[str, int]) -> Answer:
        if any(sum(shape.most(resource) for shape in gpus) < count for resource, count in demand):
            return Answer(None)
        items = _largest_first(demand, gpus)
        search = _Search(items, BUDGET if self._pot > 0 else len(items) + THIN, self._mode)
        picks = search.run(0, gpus, limits)
        if picks is None:
            return Answer(None, search.tried, exhausted=search.tried >= search.budget)
        return Answer(Choice(_total(picks), picks), search.tried)


class _Search:
    def __init__(self, items: tuple[str, ...], budget: int, mode: Mode) -> None:
        self.mode = mode
        self.items = items
        self.budget = budget
        self.tried = 0
        self._dead: set[tuple[int, tuple[int, ...], tuple[int, ...]]] = set()

    def run(self, index: int, gpus: tuple[Shape, ...], limits: dict[str, int]) -> tuple[Pick, ...] | None:
        """Picks for the items from `index` on, or None."""
        if index == len(self.items):
            return ()
        # GPUs of one shape are interchangeable: a dead end stays one however they are ordered.
        state = (index, tuple(sorted(map(id, gpus))), tuple(limits.values()))
        if state in self._dead:
            return None
        resource = self.items[index]
        for gpu, (cost, option) in self._ordered(resource, gpus, limits.get(resource, 1)):
            if self.tried >= self.budget:
                return None
            self.tried += 1
            after = (*gpus[:gpu], gpus[gpu].after(option), *gpus[gpu + 1 :])
            left = {**limits, resource: limits[resource] - 1} if option.reuse and resource in limits else limits
            rest = self.run(index + 1, after, left)
            if rest is not None:
                return (Pick(gpu, option, cost), *rest)
        self._dead.add(state)
        return None

    def _ordered(
        self, resource: str, gpus: tuple[Shape, ...], reusable: int
    ) -> Iterator[tuple[int, tuple[Cost, Option]]]:
        """Options on GPUs, the cheapest first. The first one nearly always leads to the end: sort only after it."""
        rows: list[tuple[int, list[tuple[Cost, Option]]]] = []
        for shape, gpu in {shape: gpu for gpu, shape in reversed(list(enumerate(gpus)))}.items():
            options = [each for each in shape.ranked(resource, self.mode) if reusable > 0 or not each[1].reuse]
            if options:
                rows.append((gpu, options))
        if not rows:
            return
        best, options = min(rows, key=lambda row: (row[1][0][0], row[0]))
        yield best, options[0]
        rest = [(each[0], gpu, order, each) for gpu, row in rows for order, each in enumerate(row)]
        for _, gpu, order, found in sorted(rest, key=lambda each: each[:3]):
            if (gpu, order) != (best, 0):
                yield gpu, found


def _largest_first(demand: Demand, gpus: Sequence[Shape]) -> tuple[str, ...]:
    sizes: dict[str, int] = {}
    for resource, _ in demand:
        profiles = (shape.table.profile_for(resource) for shape in gpus)
        sizes[resource] = max((profile.size for profile in profiles if profile is not None), default=0)
    ordered = sorted(demand, key=lambda each: (-sizes[each[0]], each[0]))
    return tuple(resource for resource, count in ordered for _ in range(count))


def _total(picks: tuple[Pick, ...]) -> Cost:
    a, b, c, d, e = (sum(part) for part in zip(*(pick.cost for pick in picks), strict=True))
    return (a, b, c, d, e)
