"""The questions that planners are measured with, each made from a seed.

    fragmented(["h100"] * 25, "uniform", random.Random(1))     25 nodes of 8 half-used GPUs, and a batch of pods
    arrivals("h100", "uniform", Online(), random.Random(1))    pods that come one by one and leave again

A cluster is named by the card of each node. Pods ask for one slice each, drawn from a mix of the card's profiles. In
a cluster of several cards the pods of each fill its share of all memory slots.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

from cdmo.model.cluster import NodeInfo, PodInfo
from cdmo.model.gpu import DeviceState, Gpu, MigMode, Placement, PodKey, Slice
from cdmo.model.names import PARTITIONING_LABEL, PARTITIONING_VALUE
from cdmo.model.snapshot import MigNodeView, Snapshot
from cdmo.planner.placement import EMPTY, CardTable, Layout, table_of
from tests.builders import NOW, card, resource

GPUS_PER_NODE = 8
BUSY_SHARE = 0.65  # of the memory slots, in a fragmented start
BATCH_SHARE = 1.10  # of the free memory slots, that a batch asks for
BATCH_AGE = 200.0  # seconds over which the pods of a batch were created: nobody has waited long

MIX_NAMES = ("uniform", "skew-small", "skew-big", "bimodal", "classic")
_GIB = 2**30

# Weights by card: of each profile one a mix, in the order of MIX_NAMES.
_WEIGHTS: dict[str, dict[str, tuple[float, ...]]] = {
    "h100": {
        "1g.10gb": (1, 0.30, 0.05, 0.30, 0.30),
        "1g.20gb": (1, 0.25, 0.10, 0.15, 0.00),
        "2g.20gb": (1, 0.20, 0.10, 0.05, 0.25),
        "3g.40gb": (1, 0.10, 0.20, 0.05, 0.25),
        "4g.40gb": (1, 0.10, 0.25, 0.15, 0.10),
        "7g.80gb": (1, 0.05, 0.30, 0.30, 0.10),
    },
    "a30": {
        "1g.6gb": (1, 0.35, 0.10, 0.45, 0.40),
        "1g.6gb+me": (1, 0.15, 0.05, 0.05, 0.00),
        "2g.12gb": (1, 0.30, 0.30, 0.10, 0.40),
        "2g.12gb+me": (1, 0.10, 0.15, 0.00, 0.00),
        "4g.24gb": (1, 0.10, 0.40, 0.40, 0.20),
    },
    "rtx_pro_6000": {
        "1g.24gb": (1, 0.30, 0.05, 0.25, 0.40),
        "1g.24gb+me": (1, 0.10, 0.05, 0.10, 0.00),
        "1g.24gb-me": (1, 0.10, 0.05, 0.05, 0.00),
        "1g.24gb+gfx": (1, 0.10, 0.05, 0.10, 0.10),
        "1g.24gb+me.all": (1, 0.05, 0.05, 0.05, 0.00),
        "2g.48gb": (1, 0.15, 0.20, 0.05, 0.30),
        "2g.48gb-me": (1, 0.05, 0.10, 0.05, 0.00),
        "2g.48gb+gfx": (1, 0.10, 0.15, 0.05, 0.00),
        "4g.96gb": (1, 0.05, 0.30, 0.30, 0.20),
    },
}


def mix(card_name: str, name: str) -> dict[str, float]:
    """How often each profile of a card is asked for, as shares of one."""
    place = MIX_NAMES.index(name)
    weights = {profile: each[place] for profile, each in _WEIGHTS[card_name].items() if each[place]}
    total = sum(weights.values())
    return {profile: weight / total for profile, weight in weights.items()}


class Draw:
    """Draws profiles for a cluster, by the mix and by each card's share of the memory slots."""

    def __init__(self, cards: Sequence[str], mix_name: str, rng: random.Random) -> None:
        self._rng = rng
        self.names: list[str] = []
        weights: list[float] = []
        for name in sorted(set(cards)):
            slots = card(name).memory_slots
            share = slots * cards.count(name) / mean_slots(name, mix_name)  # so many pods fill these cards
            for profile, weight in mix(name, mix_name).items():
                self.names.append(resource(profile))
                weights.append(weight * share)
        self._steps = list(accumulate(weights))

    def next(self) -> str:
        """The extended resource that the next pod asks for."""
        return self._rng.choices(self.names, cum_weights=self._steps)[0]


def mean_slots(card_name: str, mix_name: str) -> float:
    """Memory slots of an average pod of the mix."""
    sizes = {each.name: each.size for each in card(card_name).profiles}
    return sum(sizes[profile] * weight for profile, weight in mix(card_name, mix_name).items())


def slots_by_resource(cards: Sequence[str]) -> dict[str, int]:
    """Memory slots of one slice, by extended resource."""
    return {each.resource: each.size for name in set(cards) for each in card(name).profiles}


def fragmented(
    cards: Sequence[str],
    mix_name: str,
    rng: random.Random,
    *,
    leftovers: bool = False,
    pods: int | None = None,
) -> Snapshot:
    """Half-used nodes, one a card, and a batch that asks for more than is free.

    GPUs are filled first fit to the brim, then random slices leave until 65 % of the slots are busy. `leftovers`:
    those that left are still cut, and idle. `pods`: so many are pending, instead of 110 % of the free slots.
    """
    tables = [table_of(card(name)) for name in cards for _ in range(GPUS_PER_NODE)]
    draw = Draw(cards, mix_name, rng)
    busy = _filled(tables, draw)
    idle = _thinned(tables, busy, rng)
    free = sum(table.free_slots(layout) for table, layout in zip(tables, busy, strict=True))
    sizes = slots_by_resource(cards)
    pending = list(_batch(draw, sizes, round(BATCH_SHARE * free), pods, rng))
    rest = idle if leftovers else [EMPTY] * len(tables)
    views = [
        node_view(number, name, busy[start : start + GPUS_PER_NODE], rest[start : start + GPUS_PER_NODE])
        for number, name in enumerate(cards)
        for start in (number * GPUS_PER_NODE,)
    ]
    return Snapshot(now=NOW, nodes=tuple(views), pending=tuple(pending))


def empty(cards: Sequence[str], mix_name: str, rng: random.Random, *, pods: int) -> Snapshot:
    """Nodes on which nothing was cut yet, and a batch of so many pods."""
    blank = [EMPTY] * GPUS_PER_NODE
    return Snapshot(
        now=NOW,
        nodes=tuple(node_view(number, name, blank, blank) for number, name in enumerate(cards)),
        pending=tuple(_batch(Draw(cards, mix_name, rng), slots_by_resource(cards), 0, pods, rng)),
    )


def _filled(tables: Sequence[CardTable], draw: Draw) -> list[Layout]:
    """Layouts after every pod took the first place that it fits into, until none that may be asked for fits."""
    layouts: list[Layout] = [EMPTY] * len(tables)
    first = dict.fromkeys(draw.names, 0)  # no GPU before this one has room for the resource
    while any(place < len(tables) for place in first.values()):
        name = draw.next()
        for place in range(first[name], len(tables)):
            cut = _first_cut(tables[place], layouts[place], name)
            if cut is not None:
                layouts[place] |= {cut}
                first[name] = place
                break
        else:
            first[name] = len(tables)
    return layouts


def _first_cut(table: CardTable, layout: Layout, name: str) -> Placement | None:
    profile = table.profile_for(name)
    if profile is None:
        return None
    addable = table.addable(layout)
    starts = sorted(table.by_profile[profile.id], key=lambda each: each.placement.start)
    return next((each.placement for each in starts if each.placement in addable), None)


def _thinned(tables: Sequence[CardTable], layouts: list[Layout], rng: random.Random) -> list[Layout]:
    """Take random slices out of the layouts until the share is busy; returns what was taken out of each."""
    slices = [(place, each) for place, layout in enumerate(layouts) for each in sorted(layout)]
    rng.shuffle(slices)
    gone: list[Layout] = [EMPTY] * len(layouts)
    total = sum(table.memory_slots for table in tables)
    busy = sum(table.memory_slots - table.free_slots(layout) for table, layout in zip(tables, layouts, strict=True))
    for place, each in slices:
        if busy <= BUSY_SHARE * total:
            break
        busy -= tables[place].cuts[each].profile.size
        layouts[place] -= {each}
        gone[place] |= {each}
    return gone


def _batch(
    draw: Draw, sizes: Mapping[str, int], slots: int, pods: int | None, rng: random.Random
) -> Iterator[PodInfo]:
    count = asked = 0
    while (asked < slots) if pods is None else (count < pods):
        name = draw.next()
        created = NOW - BATCH_AGE + count * 1e-3
        yield pending_pod(f"batch-{count}", name, created=created, priority=rng.choice((0, 0, 0, 100)))
        asked += sizes[name]
        count += 1


def pending_pod(name: str, asks: str, *, created: float = NOW, priority: int = 0) -> PodInfo:
    """A pod that waits for one slice."""
    return PodInfo(
        key=PodKey("ml", name, f"uid-{name}"),
        created=created,
        priority=priority,
        unschedulable=True,
        requests={asks: 1, "cpu": 1_000, "memory": 4 * _GIB},
    )


def bound_pod(pod: PodInfo, node_name: str) -> PodInfo:
    """The pod once it runs."""
    return replace(pod, node_name=node_name, phase="Running", unschedulable=False)


def node_view(number: int, card_name: str, busy: Sequence[Layout], idle: Sequence[Layout]) -> MigNodeView:
    """A node whose busy slices are held by pods that are bound to it."""
    name = f"gpu-node-{number:05d}"
    model = card(card_name)
    table = table_of(model)
    pods: list[PodInfo] = []
    gpus: list[Gpu] = []
    for position, (held, spare) in enumerate(zip(busy, idle, strict=True)):
        slices = []
        for placement in sorted(held | spare):
            pod = None
            if placement in held:
                asks = table.resource_at(placement)
                pod = bound_pod(pending_pod(f"run-{number}-{len(pods)}", asks, created=NOW - 3600), name)
                pods.append(pod)
            slices.append(a_slice(f"{number:05x}{position:03x}", placement, pod))
        gpus.append(a_gpu(number, position, slices))
    return MigNodeView(
        node=NodeInfo(
            name=name,
            uid=f"uid-{name}",
            labels={PARTITIONING_LABEL: PARTITIONING_VALUE, "kubernetes.io/hostname": name},
            allocatable={"cpu": 128_000, "memory": 1024 * _GIB, "pods": 110},
            capacity={"cpu": 128_000, "memory": 1024 * _GIB, "pods": 110},
        ),
        models=(model,),
        gpus=tuple(gpus),
        desired={gpu.pci_bus_id: tuple(each.placement for each in gpu.slices) for gpu in gpus},
        pods=tuple(pods),
    )


def a_slice(where: str, placement: Placement, pod: PodInfo | None) -> Slice:
    """A slice: in use by the pod, or idle."""
    uuid = f"MIG-{where}-0000-4000-8000-{placement.profile_id:06x}{placement.start:06x}"
    if pod is None:
        return Slice(placement, DeviceState.IDLE, uuid)
    return Slice(placement, DeviceState.IN_USE, uuid, pod.key)


def a_gpu(number: int, position: int, slices: Sequence[Slice]) -> Gpu:
    """The GPU at this position of a node."""
    return Gpu(
        pci_bus_id=f"00000000:{0x10 + position:02X}:00.0",
        uuid=f"GPU-{number:08x}-0000-4000-8000-{position:012x}",
        model=0,
        mig_mode=MigMode.ENABLED,
        slices=tuple(slices),
    )


@dataclass(frozen=True, slots=True)
class Online:
    """Pods that come one by one: Poisson arrivals, exponential run times of mean 1."""

    gpus: int = 100
    load: float = 1.0  # slots offered, by the slots there are
    arrivals: int = 15_000
    warm_up: float = 0.2  # the share of the arrivals that is not counted


@dataclass(frozen=True, slots=True)
class Arrival:
    """One pod of the online workload."""

    at: float
    until: float  # if it is accepted
    asks: str  # extended resource
    counted: bool


def arrivals(card_name: str, mix_name: str, online: Online, rng: random.Random) -> Iterator[Arrival]:
    """The workload, in order of time."""
    draw = Draw([card_name], mix_name, rng)
    rate = online.load * card(card_name).memory_slots * online.gpus / mean_slots(card_name, mix_name)
    now = 0.0
    for number in range(online.arrivals):
        now += rng.expovariate(rate)
        counted = number >= online.warm_up * online.arrivals
        yield Arrival(now, now + rng.expovariate(1.0), draw.next(), counted)
