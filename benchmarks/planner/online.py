"""Pods that come one by one and leave again, served by CDMO's planner; and how lucky a workload was.

Each arrival is one round: a snapshot with one pending pod. What the plan changes is done at once. A pod that is not
placed is gone.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from benchmarks.planner.instances import (
    GPUS_PER_NODE,
    Arrival,
    Online,
    a_slice,
    bound_pod,
    mean_slots,
    mix,
    node_view,
    pending_pod,
)
from benchmarks.planner.peers import Accepted
from cdmo.model.gpu import DeviceState, Gpu, Placement, PodKey, Slice
from cdmo.model.plan import GpuChange, Plan
from cdmo.model.policy import Policy
from cdmo.model.snapshot import Assignment, MigNodeView, Snapshot
from cdmo.planner import Planner
from cdmo.planner.placement import EMPTY
from tests.builders import NOW, card, resource

Judge = Callable[[Snapshot, Plan], None]


class LiveCluster:
    """The cluster as the controller would see it, one view a node; a view is made anew when its node changes."""

    def __init__(self, card_name: str, gpus: int) -> None:
        self.views: dict[str, MigNodeView] = {}
        for number, start in enumerate(range(0, gpus, GPUS_PER_NODE)):
            empty = [EMPTY] * min(GPUS_PER_NODE, gpus - start)
            view = node_view(number, card_name, empty, empty)
            self.views[view.node.name] = view
        self.creates = 0

    def carry_out(self, changes: Sequence[GpuChange]) -> None:
        """Destroy and create what a plan says."""
        for change in changes:
            self.creates += len(change.create)
            view = self.views[change.node]
            number = list(self.views).index(change.node)
            position = next(place for place, gpu in enumerate(view.gpus) if gpu.pci_bus_id == change.gpu)
            gpu = view.gpus[position]
            slices = {each.placement: each for each in gpu.slices if each.placement not in change.destroy}
            for placement in change.create:
                slices[placement] = a_slice(f"{number:05x}{position:03x}", placement, None)
            changed = replace(gpu, slices=tuple(slices[each] for each in sorted(slices)))
            gpus = (*view.gpus[:position], changed, *view.gpus[position + 1 :])
            desired = {**view.desired, change.gpu: change.layout}
            self.views[change.node] = replace(view, gpus=gpus, desired=desired)

    def start(self, given: Assignment, snapshot: Snapshot) -> None:
        """The one pending pod takes its slices."""
        (pod,) = snapshot.pending
        view = self.views[given.node]
        taken: dict[str, set[Placement]] = {}
        for each in given.slices:
            taken.setdefault(each.gpu, set()).add(each.placement)
        gpus = tuple(_with_slices(gpu, taken.get(gpu.pci_bus_id, set()), pod.key) for gpu in view.gpus)
        self.views[given.node] = replace(view, gpus=gpus, pods=(*view.pods, bound_pod(pod, given.node)))

    def end(self, given: Assignment) -> None:
        """The pod is gone; its slices stay, idle."""
        self.views[given.node] = ended(self.views[given.node], given.pod)


def ended(view: MigNodeView, key: PodKey) -> MigNodeView:
    """The node once this pod is gone: its slices are idle."""
    gpus = tuple(
        _with_slices(gpu, {each.placement for each in gpu.slices if each.pod == key}, None) for gpu in view.gpus
    )
    return replace(view, gpus=gpus, pods=tuple(pod for pod in view.pods if pod.key != key))


def _with_slices(gpu: Gpu, chosen: set[Placement], pod: PodKey | None) -> Gpu:
    """The GPU with these slices in the pod's hands, or idle without a pod."""
    if not chosen:
        return gpu
    state = DeviceState.IDLE if pod is None else DeviceState.IN_USE
    return replace(
        gpu,
        slices=tuple(
            Slice(each.placement, state, each.uuid, pod) if each.placement in chosen else each for each in gpu.slices
        ),
    )


def online(
    card_name: str, gpus: int, workload: Iterable[Arrival], sizes: Mapping[str, int], judge: Judge
) -> Accepted:
    """What CDMO's planner accepts of the workload; `judge` sees every plan before it is carried out."""
    cluster = LiveCluster(card_name, gpus)
    planner = Planner()
    policy = Policy()
    running: list[tuple[float, int, Assignment]] = []
    result = Accepted()
    for number, arrival in enumerate(workload):
        while running and running[0][0] <= arrival.at:
            cluster.end(heapq.heappop(running)[2])
        now = NOW + arrival.at
        pod = pending_pod(f"pod-{number}", arrival.asks, created=now)
        snapshot = Snapshot(now=now, nodes=tuple(cluster.views.values()), pending=(pod,))
        answer = planner.plan(snapshot, policy)
        judge(snapshot, answer)
        before = cluster.creates
        cluster.carry_out(answer.changes)
        for given in answer.placements:
            cluster.start(given, snapshot)
            heapq.heappush(running, (arrival.until, number, given))
        _count(result, arrival, sizes, accepted=bool(answer.placements), creates=cluster.creates - before)
    return result


def _count(result: Accepted, arrival: Arrival, sizes: Mapping[str, int], *, accepted: bool, creates: int) -> None:
    if arrival.counted:
        result.asked += 1
        result.asked_slots += sizes[arrival.asks]
        result.pods += accepted
        result.slots += sizes[arrival.asks] if accepted else 0
        result.creates += creates


# A workload of 15,000 arrivals can be lucky: its offered load is off by a percent or two, which moves every rule's
# acceptance by as much. How lucky it was shows on a pool of slots that never fragments, whose expected acceptance is
# known exactly (Kaufman 1981, Roberts 1981): what it accepted too much there is taken off the figures measured here.


def luck(card_name: str, mix_name: str, workload: Sequence[Arrival], online: Online) -> tuple[float, float]:
    """By how much a pool that never fragments accepts more of this workload than expected: pods, slots."""
    sizes = {each.resource: each.size for each in card(card_name).profiles}
    slots = card(card_name).memory_slots * online.gpus
    met = Accepted()
    for arrival, accepted in _pooled(workload, sizes, slots):
        _count(met, arrival, sizes, accepted=accepted, creates=0)
    shares = {resource(name): share for name, share in mix(card_name, mix_name).items()}
    weights: dict[int, float] = {}
    for name, share in shares.items():
        weights[sizes[name]] = weights.get(sizes[name], 0.0) + share
    rate = online.load * slots / mean_slots(card_name, mix_name)
    blocked = blocking(slots, {size: rate * share for size, share in weights.items()})
    pods = sum(share * (1 - blocked[size]) for size, share in weights.items())
    expected = sum(share * size * (1 - blocked[size]) for size, share in weights.items())
    return met.pod_share - pods, met.slot_share - expected / mean_slots(card_name, mix_name)


def _pooled(workload: Iterable[Arrival], sizes: Mapping[str, int], slots: int) -> Iterator[tuple[Arrival, bool]]:
    """Whether each pod finds enough slots anywhere."""
    running: list[tuple[float, int]] = []
    free = slots
    for arrival in workload:
        while running and running[0][0] <= arrival.at:
            free += heapq.heappop(running)[1]
        size = sizes[arrival.asks]
        accepted = size <= free
        if accepted:
            free -= size
            heapq.heappush(running, (arrival.until, size))
        yield arrival, accepted


def blocking(slots: int, offered: Mapping[int, float]) -> dict[int, float]:
    """How likely a pod of each size finds too few free slots in a pool; rates by size, mean run time 1.

    The chance that n slots are taken follows n q(n) = sum of rate * size * q(n - size) over the sizes.
    """
    chances = [1.0]
    for taken in range(1, slots + 1):
        flow = sum(rate * size * chances[taken - size] for size, rate in offered.items() if size <= taken)
        chances.append(flow / taken)
        if chances[-1] > 1e200:
            chances = [each * 1e-200 for each in chances]
    total = sum(chances)
    return {size: sum(chances[max(0, slots - size + 1) :]) / total for size in offered}
