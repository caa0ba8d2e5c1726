"""The best that any planner could do with a batch, exactly, by integer programming (HiGHS). For tests and benchmarks.

Pods are taken by priority, then age; one is accepted if and only if it can be placed together with all that were
accepted before it. Slices in use or broken stay where they are, idle ones may go. Pods are taken to be at home on
every node: selectors, taints, cpu and memory are not looked at.

GPUs of one table with one busy layout are one class. A class is cut into patterns: multisets of resources that can be
created beside what is busy and to which nothing can be added. A smaller pattern is never needed, because whatever
can exist can also exist with less. What is feasible therefore stays feasible with fewer pods, so that
 - the longest prefix of the queue that can be placed is found by bisection, and the pod after it is refused
 - with it all later pods are refused that ask for the same.
The linear relaxation brackets each prefix; the integer program has the last word, and every answer of it that says
"yes" is checked again in whole numbers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import highspy
import numpy as np

from cdmo.model.cluster import PodInfo
from cdmo.model.gpu import DeviceState, Gpu, MigMode, PodKey
from cdmo.model.snapshot import MigNodeView, Snapshot
from cdmo.planner.placement import CardTable, Layout, table_of

Demand = tuple[tuple[str, int], ...]  # extended resource and count, ascending
GpuClass = tuple[CardTable, Layout]  # a card, and what on it has to stay
Site = Mapping[GpuClass, int]  # GPUs of each class that one pod can have slices of
Pattern = tuple[int, ...]  # slices of each resource that one GPU is given


class OracleFailed(Exception):
    """HiGHS gave up, or said yes to what does not add up."""


@dataclass(frozen=True, slots=True)
class Optimum:
    """Who is accepted and who is not, both in the order of the queue."""

    accepted: tuple[PodKey, ...]
    refused: tuple[PodKey, ...]


def optimum(snapshot: Snapshot) -> Optimum:
    """The exact lexicographic optimum of a snapshot's pending pods."""
    queue = sorted(snapshot.pending, key=lambda each: (-each.priority, each.created, each.key))
    demands = [pod.demand for pod in queue]
    sites = _sites(snapshot.nodes, alone=all(sum(dict(each).values()) == 1 for each in demands))
    accepted = _accepted(demands, sites)
    return Optimum(
        accepted=tuple(pod.key for pod, yes in zip(queue, accepted, strict=True) if yes),
        refused=tuple(pod.key for pod, yes in zip(queue, accepted, strict=True) if not yes),
    )


def slots_of(pods: Sequence[PodInfo], tables: Sequence[CardTable]) -> dict[PodKey, int]:
    """Memory slots that each pod takes; resources of one name must have one size on all these cards."""
    sizes = {profile.resource: profile.size for table in tables for profile in table.model.profiles}
    return {pod.key: sum(sizes[name] * count for name, count in pod.demand) for pod in pods}


def _sites(nodes: Sequence[MigNodeView], *, alone: bool) -> list[Site]:
    """The nodes, as GPUs by class. Pods of one slice each do not care about nodes: all are one site for them."""
    sites: list[Counter[GpuClass]] = []
    for view in nodes:
        site: Counter[GpuClass] = Counter()
        if view.managed and view.alive and not view.problem:
            site.update(_class_of(view, gpu) for gpu in view.gpus if _takes_part(gpu))
        sites.append(site)
    if not alone:
        return list(sites)
    together: Counter[GpuClass] = Counter()
    for site in sites:
        together.update(site)
    return [together]


def _takes_part(gpu: Gpu) -> bool:
    return gpu.healthy and gpu.mig_mode is MigMode.ENABLED


def _class_of(view: MigNodeView, gpu: Gpu) -> GpuClass:
    table = table_of(view.models[gpu.model])
    return table, frozenset(each.placement for each in gpu.slices if each.state is not DeviceState.IDLE)


def _accepted(demands: Sequence[Demand], sites: Sequence[Site]) -> list[bool]:
    """Whether each demand of the queue is accepted."""
    kinds = tuple(dict.fromkeys(demands))
    program = _Program(kinds, sites)
    accepted = [False] * len(demands)
    refused: set[Demand] = set()
    taken: Counter[Demand] = Counter()
    left = list(range(len(demands)))
    while left:
        queue = [demands[place] for place in left]
        length = _longest(len(queue), program.prefixes(taken, queue))
        for place in left[:length]:
            accepted[place] = True
        taken.update(queue[:length])
        refused.update(queue[length : length + 1])
        left = [place for place in left[length:] if demands[place] not in refused]
    return accepted


def _longest(most: int, holds: tuple[Callable[[int], bool], Callable[[int], bool]]) -> int:
    """The largest number up to `most` that holds; 0 does. `holds` is asked cheaply first: its no is a no."""
    relaxed, exact = holds
    upper = _bisect(0, most, relaxed)
    step = 1
    lower = upper
    while not exact(lower):
        upper, lower, step = lower - 1, max(0, lower - step), step * 2
    return _bisect(lower, upper, exact)


def _bisect(lower: int, upper: int, holds: Callable[[int], bool]) -> int:
    """The largest number from `lower`, which holds, to `upper` that holds."""
    while lower < upper:
        middle = (lower + upper + 1) // 2
        if holds(middle):
            lower = middle
        else:
            upper = middle - 1
    return lower


class _Program:
    """Columns: how many GPUs of a site and class get a pattern; how many pods of a kind a site gets."""

    def __init__(self, kinds: tuple[Demand, ...], sites: Sequence[Site]) -> None:
        self.kinds = kinds
        self.resources = tuple(sorted({name for kind in kinds for name, _ in kind}))
        self.rows: list[tuple[float, float]] = [(0.0, highspy.kHighsInf)] * len(kinds)  # pods of a kind, at least
        self.columns: list[dict[int, int]] = []  # coefficients by row
        for site in sites:
            self._add_site(site)
        self.relaxed = self._solver(whole=False)
        self.exact = self._solver(whole=True)
        self.known: dict[tuple[int, ...], bool] = {(0,) * len(kinds): True}

    def _add_site(self, site: Site) -> None:
        balance = len(self.rows)  # of each resource: what the patterns give, less what the pods take
        self.rows += [(0.0, highspy.kHighsInf)] * len(self.resources)
        for (table, busy), count in sorted(site.items(), key=lambda each: _order(each[0])):
            row = len(self.rows)
            self.rows.append((0.0, float(count)))
            for pattern in patterns(table, busy, self.resources):
                gives = {balance + place: slices for place, slices in enumerate(pattern) if slices}
                self.columns.append({row: 1, **gives})
        for number, kind in enumerate(self.kinds):
            takes = {balance + self.resources.index(name): -count for name, count in kind}
            self.columns.append({number: 1, **takes})

    def _solver(self, *, whole: bool) -> highspy.Highs:
        solver = highspy.Highs()  # type: ignore[no-untyped-call]
        solver.setOptionValue("output_flag", False)
        solver.setOptionValue("threads", 1)
        entries = [sorted(column.items()) for column in self.columns]
        ends = np.cumsum([0, *(len(each) for each in entries)])
        size = len(self.columns)
        status = solver.passModel(
            size,
            len(self.rows),
            int(ends[-1]),
            int(highspy.MatrixFormat.kColwise),
            int(highspy.ObjSense.kMinimize),
            0.0,
            np.zeros(size),
            np.zeros(size),
            np.full(size, highspy.kHighsInf),
            np.array([low for low, _ in self.rows]),
            np.array([high for _, high in self.rows]),
            ends[:-1].astype(np.int32),
            np.array([row for each in entries for row, _ in each], dtype=np.int32),
            np.array([value for each in entries for _, value in each], dtype=np.float64),
            np.full(size, int(whole), dtype=np.int32),
        )
        if status != highspy.HighsStatus.kOk:
            raise OracleFailed("HiGHS does not take the model")
        return solver

    def prefixes(
        self, taken: Counter[Demand], queue: Sequence[Demand]
    ) -> tuple[Callable[[int], bool], Callable[[int], bool]]:
        """Whether what was taken before fits together with so many of the queue: relaxed, and exactly."""

        def counts(length: int) -> tuple[int, ...]:
            wanted = taken + Counter(queue[:length])
            return tuple(wanted[kind] for kind in self.kinds)

        return (lambda length: self._solves(self.relaxed, counts(length))), (
            lambda length: self._holds(counts(length))
        )

    def _holds(self, counts: tuple[int, ...]) -> bool:
        if counts not in self.known:
            self.known[counts] = self._solves(self.exact, counts)
            if self.known[counts]:
                self._verify(counts)
        return self.known[counts]

    def _solves(self, solver: highspy.Highs, counts: tuple[int, ...]) -> bool:
        for row, count in enumerate(counts):
            solver.changeRowBounds(row, float(count), highspy.kHighsInf)
        solver.run()
        status = solver.getModelStatus()
        if status == highspy.HighsModelStatus.kInfeasible:
            return False
        if status == highspy.HighsModelStatus.kOptimal:
            return True
        raise OracleFailed(f"HiGHS ended with {solver.modelStatusToString(status)}")

    def _verify(self, counts: tuple[int, ...]) -> None:
        """The exact solver's answer, rounded, keeps every row: said in whole numbers, not within a tolerance."""
        sums = [0] * len(self.rows)
        for value, column in zip(self.exact.getSolution().col_value, self.columns, strict=True):
            for row, coefficient in column.items():
                sums[row] += round(value) * coefficient
        bounds = [(float(count), highspy.kHighsInf) for count in counts] + self.rows[len(counts) :]
        if any(not low <= each <= high for each, (low, high) in zip(sums, bounds, strict=True)):
            raise OracleFailed("HiGHS' answer is not one in whole numbers")


@lru_cache(maxsize=4096)
def patterns(table: CardTable, busy: Layout, resources: tuple[str, ...]) -> tuple[Pattern, ...]:
    """The most that a GPU can give beside what is busy, as counts of these resources, none part of another."""
    cuts = [cut for cut in table.cuts.values() if cut.profile.resource in resources]
    found: set[Pattern] = set()

    def walk(layout: Layout, given: Pattern, first: int) -> None:
        addable = table.addable(layout)
        open_cuts = [place for place, cut in enumerate(cuts) if cut.placement in addable]
        if not open_cuts:
            found.add(given)
        for place in open_cuts:
            if place >= first:
                which = resources.index(cuts[place].profile.resource)
                more = (*given[:which], given[which] + 1, *given[which + 1 :])
                walk(layout | {cuts[place].placement}, more, place + 1)

    walk(busy, (0,) * len(resources), 0)
    largest_first = sorted(found, key=lambda each: (-sum(each), each))
    kept: list[Pattern] = []
    for each in largest_first:
        if not any(all(a <= b for a, b in zip(each, other, strict=True)) for other in kept):
            kept.append(each)
    return tuple(kept)


def _order(gpu_class: GpuClass) -> tuple[str, list[tuple[int, int]]]:
    table, busy = gpu_class
    return table.model.product, sorted((each.profile_id, each.start) for each in busy)
