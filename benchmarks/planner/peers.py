"""What other planners do, written from their papers and from how they behave, on GPUs reduced to bit masks.

A layout is an integer here: bit n is the card's nth placement. What a rule thinks of a placement depends on the
layout alone, so it is worked out once for each layout and profile, and GPUs of one layout are kept together. Ties go
to the GPU that comes first.

Idle slices stay on the GPU until their room is needed: a pod that is sent to where one of its profile lies takes it,
everything else is a create.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.planner.instances import Arrival
from cdmo.model.gpu import DeviceState
from cdmo.model.snapshot import Snapshot
from cdmo.planner.placement import CardTable, Cut, Layout, table_of

Shares = Mapping[str, float]  # how often each extended resource is asked for
Score = tuple[float, ...]  # the smallest is best; the GPU's number decides among equals
Judge = Callable[[CardTable, Layout, Cut, Shares], Score]


@dataclass(frozen=True, slots=True)
class Rule:
    """How a planner chooses. It looks for idle slices of the profile first if it is `thrifty`."""

    name: str
    judge: Judge
    thrifty: bool = False


def _first_fit(table: CardTable, layout: Layout, cut: Cut, shares: Shares) -> Score:
    return (0,)


def _best_fit(table: CardTable, layout: Layout, cut: Cut, shares: Shares) -> Score:
    return (table.free_slots(layout),)


def _most_free(table: CardTable, layout: Layout, cut: Cut, shares: Shares) -> Score:
    return (-table.free_slots(layout),)


def _gradient(table: CardTable, layout: Layout, cut: Cut, shares: Shares) -> Score:
    after = layout | {cut.placement}
    return (round(_fragmentation(table, after, shares) - _fragmentation(table, layout, shares), 9),)


def _fragmentation(table: CardTable, layout: Layout, shares: Shares) -> float:
    """Free slots that a pod drawn at random cannot be given: for each profile all of them, or none if it fits."""
    creatable = {table.resource_at(each) for each in table.addable(layout)}
    lost = sum(share for name, share in shares.items() if name not in creatable and table.profile_for(name))
    return table.free_slots(layout) * lost


def _capability(table: CardTable, layout: Layout, cut: Cut, shares: Shares) -> Score:
    after = layout | {cut.placement}
    lost = len(table.addable(layout)) - len(table.addable(after))
    return (table.free_slots(after) + lost,)


def _low(judge: Judge) -> Judge:
    """Among placements of one GPU that are as good, the lowest start."""
    return lambda table, layout, cut, shares: (*judge(table, layout, cut, shares), cut.placement.start)


def _ranked(judge: Judge) -> Judge:
    """Among placements of one GPU that are as good: 1g and 3g from the high end, others from the low."""
    return lambda table, layout, cut, shares: (*judge(table, layout, cut, shares), cut.rank)


RULES = (
    Rule("first fit", _low(_first_fit)),
    Rule("best fit", _low(_best_fit)),
    Rule("FGD", _low(_gradient)),  # Weng and others, USENIX ATC 2023
    Rule("HAMi", _ranked(_best_fit)),
    Rule("DAS", _low(_most_free)),
    Rule("BF+CC", _ranked(_capability)),
    Rule("BF+CC, reuse", _ranked(_capability), thrifty=True),
)


class _Options:
    """The best placement of each profile for each layout of one card, under one rule."""

    def __init__(self, table: CardTable, judge: Judge, shares: Shares) -> None:
        self.table = table
        self.cuts = tuple(table.cuts.values())
        self.numbers = {cut.placement: number for number, cut in enumerate(self.cuts)}
        self._judge = judge
        self._shares = shares
        self._known: dict[tuple[int, str], tuple[Score, int] | None] = {}

    def best(self, layout: int, name: str) -> tuple[Score, int] | None:
        """Score and number of the best placement. The score leaves out the last part, which is about starts alone."""
        key = (layout, name)
        if key not in self._known:
            held = self.layout(layout)
            addable = self.table.addable(held)
            profile = self.table.profile_for(name)
            cuts = [] if profile is None else self.table.by_profile[profile.id]
            found = [
                (self._judge(self.table, held, cut, self._shares), self.numbers[cut.placement])
                for cut in cuts
                if cut.placement in addable
            ]
            best = min(found, default=None)
            self._known[key] = None if best is None else (best[0][:-1], best[1])
        return self._known[key]

    def layout(self, bits: int) -> Layout:
        """The placements behind the bits."""
        return frozenset(cut.placement for number, cut in enumerate(self.cuts) if bits >> number & 1)

    def bits(self, layout: Layout) -> int:
        """The other way round."""
        return sum(1 << self.numbers[each] for each in layout)


@dataclass(frozen=True, slots=True)
class Given:
    """A slice that a pod was given."""

    gpu: int
    cut: int
    created: bool


class Cluster:
    """GPUs under one rule."""

    def __init__(self, rule: Rule, tables: Sequence[CardTable], busy: Sequence[Layout], shares: Shares) -> None:
        self._rule = rule
        options = {table: _Options(table, rule.judge, shares) for table in dict.fromkeys(tables)}
        self._options = [options[table] for table in tables]
        self._busy = [self._options[gpu].bits(layout) for gpu, layout in enumerate(busy)]
        self._idle = [0] * len(tables)
        self._spare: defaultdict[str, set[tuple[int, int]]] = defaultdict(set)  # idle slices by resource
        # GPUs by card and layout, lowest first; one that has changed since it was put there is dropped when met.
        self._kept: dict[tuple[_Options, int], list[int]] = {}
        for gpu in range(len(tables)):
            self._keep(gpu)

    def give(self, name: str) -> Given | None:
        """Give a slice of this resource, or nothing where the rule finds no place."""
        if self._rule.thrifty and self._spare[name]:
            gpu, cut = min(self._spare[name])
            return self._take(gpu, cut, name)
        found: tuple[Score, int, int] | None = None
        for (options, layout), gpus in list(self._kept.items()):
            best = options.best(layout, name)
            if best is None or (found is not None and best[0] > found[0]):
                continue
            gpu = self._lowest(options, layout, gpus)
            if gpu >= 0 and (found is None or (best[0], gpu) < found[:2]):
                found = (best[0], gpu, best[1])
        return None if found is None else self._take(found[1], found[2], name)

    def give_back(self, given: Given, name: str) -> None:
        """The pod is gone; its slice stays, idle."""
        bit = 1 << given.cut
        self._busy[given.gpu] &= ~bit
        self._idle[given.gpu] |= bit
        self._spare[name].add((given.gpu, given.cut))
        self._keep(given.gpu)

    def _take(self, gpu: int, cut: int, name: str) -> Given:
        bit = 1 << cut
        created = not self._idle[gpu] & bit
        if created:
            self._clear(gpu, cut)
        else:
            self._forget(gpu, cut)
        self._busy[gpu] |= bit
        self._keep(gpu)
        return Given(gpu, cut, created)

    def _clear(self, gpu: int, cut: int) -> None:
        """Destroy the idle slices that are in the way: those on its slots, and then any until it can exist."""
        options = self._options[gpu]
        idle = [number for number in range(len(options.cuts)) if self._idle[gpu] >> number & 1]
        mask = options.cuts[cut].mask
        for number in sorted(idle, key=lambda each: not options.cuts[each].mask & mask):
            beside = options.layout(self._busy[gpu] | self._idle[gpu])
            if options.cuts[cut].placement in options.table.addable(beside):
                return
            self._forget(gpu, number)

    def _forget(self, gpu: int, cut: int) -> None:
        self._idle[gpu] &= ~(1 << cut)
        self._spare[self._options[gpu].cuts[cut].profile.resource].discard((gpu, cut))

    def _keep(self, gpu: int) -> None:
        heapq.heappush(self._kept.setdefault((self._options[gpu], self._busy[gpu]), []), gpu)

    def _lowest(self, options: _Options, layout: int, gpus: list[int]) -> int:
        """The first GPU that still has this layout, or -1."""
        while gpus and self._busy[gpus[0]] != layout:
            heapq.heappop(gpus)
        if not gpus:
            del self._kept[(options, layout)]
            return -1
        return gpus[0]


def batch(rule: Rule, snapshot: Snapshot, shares: Shares) -> set[str]:
    """Names of the pending pods that one pass in their order places."""
    tables = [table_of(view.models[gpu.model]) for view in snapshot.nodes for gpu in view.gpus]
    busy = [
        frozenset(each.placement for each in gpu.slices if each.state is not DeviceState.IDLE)
        for view in snapshot.nodes
        for gpu in view.gpus
    ]
    cluster = Cluster(rule, tables, busy, shares)
    queue = sorted(snapshot.pending, key=lambda each: (-each.priority, each.created, each.key))
    return {pod.key.name for pod in queue if cluster.give(pod.demand[0][0]) is not None}


@dataclass(slots=True)
class Accepted:
    """What became of the counted pods of an online workload."""

    asked: int = 0
    asked_slots: int = 0
    pods: int = 0
    slots: int = 0
    creates: int = 0

    @property
    def pod_share(self) -> float:
        """Accepted pods, of those that came."""
        return self.pods / self.asked

    @property
    def slot_share(self) -> float:
        """Memory slots of the accepted pods, of those that were asked for."""
        return self.slots / self.asked_slots

    @property
    def creates_per_pod(self) -> float:
        """Slices created for one accepted pod."""
        return self.creates / self.pods


def online(
    rule: Rule, table: CardTable, gpus: int, workload: Iterable[Arrival], shares: Shares, sizes: Mapping[str, int]
) -> Accepted:
    """Every pod takes what the rule gives it on arrival, or is gone."""
    cluster = Cluster(rule, [table] * gpus, [frozenset()] * gpus, shares)
    running: list[tuple[float, int, Given, str]] = []
    result = Accepted()
    for number, arrival in enumerate(workload):
        while running and running[0][0] <= arrival.at:
            _, _, ended, name = heapq.heappop(running)
            cluster.give_back(ended, name)
        given = cluster.give(arrival.asks)
        if arrival.counted:
            result.asked += 1
            result.asked_slots += sizes[arrival.asks]
        if given is None:
            continue
        heapq.heappush(running, (arrival.until, number, given, arrival.asks))
        if arrival.counted:
            result.pods += 1
            result.slots += sizes[arrival.asks]
            result.creates += given.created
    return result
