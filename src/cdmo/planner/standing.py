"""What stands on a node before anything is planned: who takes part, what is held, what is about to be taken.

A slice that is held (in use, broken, or named in a bound pod's status) stands in every layout. A bound pod whose
slices are not seen in use yet will take some idle slice of its resource, the kubelet chooses which: as many are
spoken for on that node, and none of that resource is destroyed there until it has shown itself. The same holds for
idle slices that the scheduler cannot reach, because it counts pods on slices that the node does not count any more.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence

from cdmo.model.cluster import PodInfo
from cdmo.model.gpu import DeviceState, Gpu, MigMode, PodKey
from cdmo.model.snapshot import MigNodeView
from cdmo.planner.placement import CardTable, Layout, table_of

Tables = tuple[CardTable, ...]  # of a node, by `Gpu.model`

DOUBLED_GPU = "another GPU of its node is reported under the same PCI bus id"
DOUBLED_NODE = "another node is listed under the same name"
FINISHED = frozenset(("Succeeded", "Failed"))  # phases in which a pod holds nothing


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
    if table.overlaps({each.placement for each in gpu.slices}):
        return "two of its instances are reported on the same memory slots"
    return ""


def doubled_gpus(view: MigNodeView) -> frozenset[str]:
    """PCI bus ids that several GPUs of the node are reported under: nobody knows which of them is meant."""
    seen = [gpu.pci_bus_id for gpu in view.gpus]
    return frozenset(each for each in seen if seen.count(each) > 1) if len(set(seen)) < len(seen) else frozenset()


def doubled_nodes(views: Sequence[MigNodeView]) -> frozenset[str]:
    """Names that several managed nodes go by. The API server has each name once."""
    names = [view.node.name for view in views]
    if len(set(names)) == len(names):
        return frozenset()
    return frozenset(name for name, times in Counter(names).items() if times > 1)


def node_problem(view: MigNodeView) -> str:
    """Why nothing can be planned on this node just now, one sentence; empty when it takes part."""
    if not view.managed:
        return "it is not managed by CDMO"
    if not view.alive:
        return "its CDMO agent is silent"
    return view.problem


def bound_pods(view: MigNodeView) -> tuple[PodInfo, ...]:
    """The pods that are on the node, whatever finished left out."""
    for pod in view.pods:
        if pod.phase in FINISHED:
            return tuple(pod for pod in view.pods if pod.phase not in FINISHED)
    return view.pods


def unseen(view: MigNodeView, tables: Tables, bound: Iterable[PodInfo]) -> Counter[str]:
    """Slices that pods bound to this node asked for and that are not seen in their hands, by resource.

    Slices out of the scheduler's reach count as well: as many idle ones cannot be had by those who wait.
    """
    missing: Counter[str] = Counter(view.out_of_reach)
    shown: dict[PodKey, list[str]] | None = None
    for pod in bound:
        demand = pod.demand
        if not demand:
            continue
        if shown is None:
            shown = _shown(view, tables)
        theirs = shown.get(pod.key, ())
        if len(theirs) == 1 and len(demand) == 1 and demand[0] == (theirs[0], 1):
            continue  # as it nearly always is
        _count_missing(pod, view, shown, missing)
    return missing


def _shown(view: MigNodeView, tables: Tables) -> dict[PodKey, list[str]]:
    """By pod the resources of the slices that it is seen to hold."""
    shown: dict[PodKey, list[str]] = {}
    idle = DeviceState.IDLE
    for gpu in view.gpus:
        table = table_for(tables, gpu)
        if table is None:
            continue
        cuts = table.cuts
        for each in gpu.slices:
            pod = each.pod
            if pod is not None and each.state is not idle:
                cut = cuts.get(each.placement)
                if cut is not None:
                    if pod in shown:
                        shown[pod].append(cut.profile.resource)
                    else:
                        shown[pod] = [cut.profile.resource]
    return shown


def _count_missing(
    pod: PodInfo, view: MigNodeView, shown: Mapping[PodKey, Sequence[str]], missing: Counter[str]
) -> None:
    """A holder may be known without its uid; a pod's status may name devices before the agent says who holds them."""
    theirs = [resource for holder, held in shown.items() if same_pod(holder, pod.key) for resource in held]
    named = dict(pod.devices)
    for resource, count in pod.demand:
        held = theirs.count(resource)
        if held < count and resource in named:
            uuids = {each.uuid for gpu in view.gpus for each in gpu.slices if each.uuid}
            held = max(held, sum(device in uuids for device in named[resource]))
        if held < count:
            missing[resource] += count - held


def outstanding(view: MigNodeView, tables: Tables, missing: Counter[str], devices: Collection[str]) -> Counter[str]:
    """How many of the idle slices will be taken for what is `unseen`, by resource.

    Never more than are idle: the kubelet takes what is there when the pod comes, or fails the pod for good. Slices
    out of the scheduler's reach are not bounded so: where they are more than the idle ones, the next ones that are
    cut are out of its reach as well.
    """
    idle: Counter[str] = Counter()
    if not missing:
        return idle
    for gpu in view.gpus:
        if not gpu_problem(tables, gpu):
            free = {each.placement for each in gpu.slices} - held_placements(gpu, devices)
            idle.update(tables[gpu.model].resource_at(each) for each in free)
    beyond = Counter(view.out_of_reach)
    return ((missing - beyond) & idle) + beyond


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
    return adopted(table, observed, layout)


def adopted(table: CardTable, observed: Layout, layout: Layout, windows: int = 0) -> Layout:
    """The layout with the idle slices that nothing in it needs the room of. `windows`: slots that are to be free."""
    coming = table.mask(layout - observed) | windows
    for each in sorted(observed - layout):
        alone = not table.cuts[each].mask & coming
        if alone and (each in table.addable(layout) or layout <= observed):
            layout |= {each}
    return layout
