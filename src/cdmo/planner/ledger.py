"""The working state of one plan: what every GPU is to look like, and what of it is whose.

A slice that is held (in use, broken, or named in a bound pod's status) stands in every layout. A bound pod whose
slices are not seen in use yet will take some idle slice of its resource, the kubelet chooses which: as many are
spoken for on that node, and none of that resource is destroyed there until it has shown itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping

from cdmo.model.cluster import PodInfo
from cdmo.model.gpu import DeviceState, Gpu, MigMode, Placement, PodKey, Slice
from cdmo.model.plan import GpuChange
from cdmo.model.snapshot import Assignment, MigNodeView, SliceChoice, Snapshot
from cdmo.planner.eligible import room_of, take
from cdmo.planner.fit import Choice, Demand, Fitter
from cdmo.planner.placement import CardTable, Layout, table_of
from cdmo.planner.shape import Shape, Shapes


def same_pod(one: PodKey, other: PodKey) -> bool:
    """Whether two keys mean one pod: by uid where both have one, else by namespace and name."""
    if one.uid and other.uid:
        return one.uid == other.uid
    return (one.namespace, one.name) == (other.namespace, other.name)


Tables = tuple[CardTable, ...]  # of a node, by `Gpu.model`


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


def unseen(view: MigNodeView, tables: Tables, bound: Iterable[PodInfo]) -> Counter[str]:
    """Slices that pods bound to this node asked for and that are not seen in their hands, by resource."""
    shown: list[tuple[PodKey, str]] = []
    uuids: set[str] = set()
    for gpu in view.gpus:
        table = table_for(tables, gpu)
        for each in gpu.slices:
            uuids.add(each.uuid)
            if table and each.pod and each.state is not DeviceState.IDLE and table.knows((each.placement,)):
                shown.append((each.pod, table.resource_at(each.placement)))
    missing: Counter[str] = Counter()
    for pod in bound:
        named = dict(pod.devices)
        for resource, count in pod.demand:
            held = sum(each == resource and same_pod(holder, pod.key) for holder, each in shown)
            known = sum(bool(device) and device in uuids for device in named.get(resource, ()))
            missing[resource] += max(0, count - max(held, known))
    return +missing


def outstanding(view: MigNodeView, tables: Tables, missing: Counter[str], devices: Collection[str]) -> Counter[str]:
    """How many of the idle slices will be taken for what is `unseen`, by resource.

    Never more than are idle: the kubelet takes what is there when the pod comes, or fails the pod for good.
    """
    idle: Counter[str] = Counter()
    for gpu in view.gpus:
        if not gpu_problem(tables, gpu):
            free = {each.placement for each in gpu.slices} - held_placements(gpu, devices)
            idle.update(tables[gpu.model].resource_at(each) for each in free)
    return missing & idle


def device_ids(bound: Iterable[PodInfo]) -> frozenset[str]:
    """The devices that the statuses of these pods name."""
    return frozenset(device for pod in bound for _, names in pod.devices for device in names)


def held_placements(gpu: Gpu, devices: Collection[str]) -> Layout:
    """What stands in every layout of this GPU. `devices`: ids in the statuses of pods bound to its node."""
    return frozenset(
        each.placement
        for each in gpu.slices
        if each.state is not DeviceState.IDLE or (each.uuid and each.uuid in devices)
    )


class GpuState:
    """One GPU that takes part."""

    def __init__(
        self, gpu: Gpu, table: CardTable, observed: Layout, base: Layout, held: Layout, shape: Shape
    ) -> None:
        self.bus = gpu.pci_bus_id
        self.table = table
        self.slices: Mapping[Placement, Slice] = {each.placement: each for each in gpu.slices}
        self.observed = observed
        self.base = base  # the layout asked of it so far
        self.held = held
        self.shape = shape
        self.owners: dict[Placement, PodKey] = {}  # pods that were given a slice by this plan

    def change(self, node: str) -> GpuChange | None:
        """The new desired layout, or None when it is what was asked for already."""
        layout = self.shape.layout
        if layout == self.base:
            return None
        return GpuChange(
            node=node,
            gpu=self.bus,
            layout=tuple(sorted(layout)),
            create=tuple(sorted(layout - self.observed)),
            destroy=tuple(sorted(self.observed - layout)),
        )


class NodeState:
    """One managed node: its room, its GPUs that take part, its slices spoken for."""

    def __init__(self, view: MigNodeView, shapes: Shapes) -> None:
        bound = [each for each in view.pods if not each.finished]
        self.view = view
        self.name = view.node.name
        self.problem = node_problem(view)
        self.room = room_of(view.node, bound)
        self.tables = tables_of(view)
        devices = device_ids(bound)
        missing = unseen(view, self.tables, bound)
        self.outstanding = outstanding(view, self.tables, missing, devices)
        self.gpus: list[GpuState] = []
        self.problems: dict[str, str] = {}  # by PCI bus id, of the GPUs that do not take part
        for gpu in sorted(view.gpus, key=lambda each: each.pci_bus_id):
            problem = gpu_problem(self.tables, gpu)
            if problem:
                self.problems[gpu.pci_bus_id] = problem
            else:
                desired = view.desired.get(gpu.pci_bus_id)
                self.gpus.append(_gpu_state(gpu, self.tables[gpu.model], desired, missing, devices, shapes))
        self._fits: dict[Demand, Choice | None] = {}

    def gpu(self, bus: str) -> GpuState | None:
        """The GPU that takes part under this PCI bus id, or None."""
        return next((each for each in self.gpus if each.bus == bus), None)

    def best(self, demand: Demand, fitter: Fitter) -> Choice | None:
        """The best choice for a demand as things stand; remembered until something is given away here."""
        if demand not in self._fits:
            limits = {resource: self.spare(resource) for resource, _ in demand if self.outstanding[resource]}
            self._fits[demand] = fitter.fit(demand, [each.shape for each in self.gpus], limits).choice
        return self._fits[demand]

    def spare(self, resource: str) -> int:
        """Slices of a resource that are nobody's, less those that bound pods will take."""
        spare = sum(gpu.table.resource_at(each) == resource for gpu in self.gpus for each in gpu.shape.spare)
        return max(0, spare - self.outstanding[resource])

    def give(self, pod: PodInfo, choice: Choice, shapes: Shapes) -> Assignment:
        """Give the pod the slices of a choice that `best` returned."""
        slices = []
        for pick in choice.picks:
            gpu, option = self.gpus[pick.gpu], pick.option
            gpu.shape = shapes.after(gpu.shape, option)
            gpu.owners[option.cut.placement] = pod.key
            slices.append(SliceChoice(gpu.bus, option.cut.placement, "reuse" if option.reuse else "create"))
        self.taken(pod)
        return Assignment(pod.key, self.name, tuple(slices))

    def taken(self, pod: PodInfo) -> None:
        """Take the pod's cpu, memory and so on out of the room, and forget what was worked out before."""
        take(self.room, pod)
        self._fits.clear()


class Ledger:
    """All managed nodes, by name and in the order of their names."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.shapes = Shapes()
        self.fitter = Fitter(self.shapes)
        views = sorted((each for each in snapshot.nodes if each.managed), key=lambda each: each.node.name)
        self.nodes = {each.node.name: NodeState(each, self.shapes) for each in views}

    def changes(self) -> tuple[GpuChange, ...]:
        """Every GPU whose desired layout is to be another one, by node and PCI bus id."""
        found = (gpu.change(node.name) for node in self.nodes.values() if not node.problem for gpu in node.gpus)
        return tuple(each for each in found if each is not None)


def _gpu_state(
    gpu: Gpu,
    table: CardTable,
    desired: tuple[Placement, ...] | None,
    missing: Counter[str],
    devices: Collection[str],
    shapes: Shapes,
) -> GpuState:
    observed = table.layout(each.placement for each in gpu.slices)
    held = table.layout(held_placements(gpu, devices))
    firm = held | {each for each in observed if missing[table.resource_at(each)]}
    base = observed if desired is None else table.layout(desired)
    layout = _standing(table, observed, firm, base)
    spare = layout - held
    loose = frozenset(each for each in spare if not missing[table.resource_at(each)])
    return GpuState(gpu, table, observed, base, held, shapes.of(table, layout, spare, loose, layout - observed))


def _standing(table: CardTable, observed: Layout, firm: Layout, base: Layout) -> Layout:
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
