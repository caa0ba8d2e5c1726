"""What stands on a node before anything is planned: who takes part, what is held, what is about to be taken.

A slice that is held (in use, broken, or named in a bound pod's status) stands in every layout. A bound pod whose
slices are not seen in use yet will take some idle slice of its resource, the kubelet chooses which: as many are
spoken for on that node, and none of that resource is destroyed there until it has shown itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping

from cdmo.model.cluster import PodInfo
from cdmo.model.gpu import DeviceState, Gpu, MigMode, PodKey
from cdmo.model.snapshot import MigNodeView
from cdmo.planner.placement import CardTable, Layout, table_of

Tables = tuple[CardTable, ...]  # of a node, by `Gpu.model`


def same_pod(one: PodKey, other: PodKey) -> bool:
    """Whether two keys mean one pod: the same namespace and name, and the same uid where both have one."""
    return (
        one.name == other.name
        and one.namespace == other.namespace
        and (one.uid == other.uid or not one.uid or not other.uid)
    )


def tables_of(view: MigNodeView) -> Tables:
    """The tables of a node's GPU models."""
    return tuple(table_of(each) for each in view.models)


def table_for(tables: Tables, gpu: Gpu) -> CardTable | None:
    """The table of a GPU, or None when its node does not report its model."""
    return tables[gpu.model] if 0 <= gpu.model < len(tables) else None


def gpu_problem(tables: Tables, gpu: Gpu) -> str:
    """Why nothing can be planned on this GPU, one sentence; empty when it takes part."""
    table = table_for(tables, gpu)
    if table is None:
        return "its model is not reported"
    if not gpu.healthy:
        return gpu.problem or "it is not healthy"
    if gpu.mig_mode is not MigMode.ENABLED:
        return f"its MIG mode is {gpu.mig_mode}"
    if not table.knows(each.placement for each in gpu.slices):
        return "it holds an instance that its card's profile table does not list"
    return ""


def node_problem(view: MigNodeView) -> str:
    """Why nothing can be planned on this node just now, one sentence; empty when it takes part."""
    if not view.managed:
        return "it is not managed by CDMO"
    if not view.alive:
        return "its CDMO agent is silent"
    return view.problem


def bound_pods(view: MigNodeView) -> tuple[PodInfo, ...]:
    """The pods that are on the node, whatever finished left out."""
    if any(pod.finished for pod in view.pods):
        return tuple(pod for pod in view.pods if not pod.finished)
    return view.pods


def unseen(view: MigNodeView, tables: Tables, bound: Iterable[PodInfo]) -> Counter[str]:
    """Slices that pods bound to this node asked for and that are not seen in their hands, by resource."""
    missing: Counter[str] = Counter()
    asking = [(pod, pod.demand) for pod in bound if pod.demand]
    if not asking:
        return missing
    shown = _shown(view, tables)
    uuids: frozenset[str] | None = None
    for pod, demand in asking:
        key = pod.key
        theirs = shown.get((key.namespace, key.name), ())
        named: Mapping[str, tuple[str, ...]] = dict(pod.devices) if pod.devices else {}
        if named and uuids is None:
            uuids = frozenset(each.uuid for gpu in view.gpus for each in gpu.slices if each.uuid)
        for resource, count in demand:
            held = 0
            for uid, of in theirs:
                if of == resource and (uid == key.uid or not uid or not key.uid):
                    held += 1
            if held < count and uuids:
                held = max(held, sum(device in uuids for device in named.get(resource, ())))
            if held < count:
                missing[resource] += count - held
    return missing


def _shown(view: MigNodeView, tables: Tables) -> dict[tuple[str, str], list[tuple[str, str]]]:
    """By namespace and name the uid and resource of each slice that a pod is seen to hold."""
    shown: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for gpu in view.gpus:
        table = table_for(tables, gpu)
        if table is None:
            continue
        for each in gpu.slices:
            pod = each.pod
            if pod is not None and each.state is not DeviceState.IDLE and each.placement in table.cuts:
                held = (pod.uid, table.resource_at(each.placement))
                shown.setdefault((pod.namespace, pod.name), []).append(held)
    return shown


def outstanding(view: MigNodeView, tables: Tables, missing: Counter[str], devices: Collection[str]) -> Counter[str]:
    """How many of the idle slices will be taken for what is `unseen`, by resource.

    Never more than are idle: the kubelet takes what is there when the pod comes, or fails the pod for good.
    """
    idle: Counter[str] = Counter()
    if not missing:
        return idle
    for gpu in view.gpus:
        if not gpu_problem(tables, gpu):
            free = {each.placement for each in gpu.slices} - held_placements(gpu, devices)
            idle.update(tables[gpu.model].resource_at(each) for each in free)
    return missing & idle


def device_ids(bound: Iterable[PodInfo]) -> frozenset[str]:
    """The devices that the statuses of these pods name."""
    return frozenset(device for pod in bound if pod.devices for _, names in pod.devices for device in names)


def held_placements(gpu: Gpu, devices: Collection[str]) -> Layout:
    """What stands in every layout of this GPU. `devices`: ids in the statuses of pods bound to its node."""
    return frozenset(
        each.placement
        for each in gpu.slices
        if each.state is not DeviceState.IDLE or (each.uuid and each.uuid in devices)
    )


def standing(table: CardTable, observed: Layout, firm: Layout, base: Layout) -> Layout:
    """The layout to start from: what was asked for, corrected by what is there.

    What is firm stands even if a former plan dropped it. What is on its way stays unless that is in its way. An
    idle slice that nobody asked for is being destroyed if its slots were promised to another, else it is adopted.
    """
    if base == observed:
        return base
    layout = firm | (base & observed)
    for each in sorted(base - observed):
        if each in table.addable(layout):
            layout |= {each}
    coming = table.mask(layout - observed)
    for each in sorted(observed - layout):
        alone = not table.cuts[each].mask & coming
        if alone and (each in table.addable(layout) or layout <= observed):
            layout |= {each}
    return layout
