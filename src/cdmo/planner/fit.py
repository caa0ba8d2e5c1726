"""The choice for one pod on one node, across its GPUs: several profiles and counts at once.

Slices are chosen largest first, the cheapest option first, with backtracking. The search is complete within its
budget, which pods that ask for up to about eight slices do not reach.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from cdmo.planner.shape import Cost, Option, Shape, Shapes

Demand = tuple[tuple[str, int], ...]  # extended resource and count

BUDGET = 4000  # options tried for one pod on one node, then the node counts as full
POT = 100_000  # options that fruitless searches of one plan may try together, about a second
THIN = 32  # options beyond one a slice that a search may try once the pot is empty
NO_COST: Cost = (0, 0, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Pick:
    """One slice of a choice: on which GPU (by position) and how."""

    gpu: int
    option: Option


@dataclass(frozen=True, slots=True)
class Choice:
    """All slices of one pod on one node."""

    cost: Cost
    picks: tuple[Pick, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a search found. Without a choice, `exhausted` says that it gave up before it had seen everything."""

    choice: Choice | None
    exhausted: bool = False


class Fitter:
    """Finds places on rows of GPUs. Remembers every answer: equal nodes are searched once a plan."""

    def __init__(self, shapes: Shapes) -> None:
        self.shapes = shapes
        self._pot = POT
        self._known: dict[tuple[Demand, tuple[Shape, ...], tuple[tuple[str, int], ...]], Answer] = {}

    def fit(self, demand: Demand, gpus: Sequence[Shape], reuse_limits: Mapping[str, int]) -> Answer:
        """The cheapest-first choice for a demand on these GPUs.

        reuse_limits: how many spare slices of a resource may be given; a resource that is not in it has no limit.
        """
        limits = tuple((resource, reuse_limits[resource]) for resource, _ in demand if resource in reuse_limits)
        key = (demand, tuple(gpus), limits)
        answer = self._known.get(key)
        if answer is None:
            answer = self._known[key] = self._search(demand, key[1], dict(limits))
        return answer

    def _search(self, demand: Demand, gpus: tuple[Shape, ...], limits: dict[str, int]) -> Answer:
        if sum(count for _, count in demand) > 1 and any(
            sum(shape.most(resource) for shape in gpus) < count for resource, count in demand
        ):
            return Answer(None)
        items = _largest_first(demand, gpus)
        search = _Search(self.shapes, items, BUDGET if self._pot > 0 else len(items) + THIN)
        picks = search.run(0, gpus, limits)
        if picks is None:
            self._pot -= search.tried
            return Answer(None, exhausted=search.tried >= search.budget)
        return Answer(Choice(_total(picks), picks))


class _Search:
    def __init__(self, shapes: Shapes, items: tuple[str, ...], budget: int) -> None:
        self.shapes = shapes
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
        for gpu, option in self._ordered(resource, gpus, limits.get(resource, 1)):
            if self.tried >= self.budget:
                return None
            self.tried += 1
            after = (*gpus[:gpu], self.shapes.after(gpus[gpu], option), *gpus[gpu + 1 :])
            left = {**limits, resource: limits[resource] - 1} if option.reuse and resource in limits else limits
            rest = self.run(index + 1, after, left)
            if rest is not None:
                return (Pick(gpu, option), *rest)
        self._dead.add(state)
        return None

    def _ordered(self, resource: str, gpus: tuple[Shape, ...], reusable: int) -> Iterator[tuple[int, Option]]:
        """Options on GPUs, the cheapest first. The first one nearly always leads to the end: sort only after it."""
        rows: list[tuple[int, list[Option]]] = []
        for shape, gpu in {shape: gpu for gpu, shape in reversed(list(enumerate(gpus)))}.items():
            options = [each for each in shape.options(resource) if reusable > 0 or not each.reuse]
            if options:
                rows.append((gpu, options))
        if not rows:
            return
        best, options = min(rows, key=lambda row: (row[1][0].cost, row[0]))
        yield best, options[0]
        rest = [(each.cost, gpu, order, each) for gpu, row in rows for order, each in enumerate(row)]
        for _, gpu, order, option in sorted(rest, key=lambda each: each[:3]):
            if (gpu, order) != (best, 0):
                yield gpu, option


def _largest_first(demand: Demand, gpus: Sequence[Shape]) -> tuple[str, ...]:
    sizes: dict[str, int] = {}
    for resource, _ in demand:
        profiles = (shape.table.profile_for(resource) for shape in gpus)
        sizes[resource] = max((profile.size for profile in profiles if profile is not None), default=0)
    ordered = sorted(demand, key=lambda each: (-sizes[each[0]], each[0]))
    return tuple(resource for resource, count in ordered for _ in range(count))


def _total(picks: tuple[Pick, ...]) -> Cost:
    a, b, c, d, e = NO_COST
    for pick in picks:
        cost = pick.option.cost
        a, b, c, d, e = a + cost[0], b + cost[1], c + cost[2], d + cost[3], e + cost[4]
    return (a, b, c, d, e)
