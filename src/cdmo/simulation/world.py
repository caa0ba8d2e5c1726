"""The virtual cluster. A plan is carried out at once: no driver, no kubelet, no time in between.

It refuses what a driver would refuse, in the same words of the failure tree: destroying what is in use, creating
where there is no room, starting a pod on a slice that is not there. A view is made anew only where something on its
node changed, for the planner recognises views by identity.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from cdmo.errors import InUse, NoRoom, NotThere
from cdmo.model.cluster import PodInfo
from cdmo.model.gpu import DeviceState, Gpu, MigMode, Placement, PodKey, Slice
from cdmo.model.plan import GpuChange, Plan
from cdmo.model.profile import GpuModel
from cdmo.model.snapshot import Assignment, MigNodeView
from cdmo.planner.placement import CardTable, Layout, table_of
from cdmo.simulation.fragmentation import Stranded

Slices = dict[Placement, Slice]  # of one GPU

_NEVER_SIZED = 1  # slots: what a pod counts for that asks for profiles no card here has


@dataclass(frozen=True, slots=True)
class Carried:
    """How many slices a plan created and destroyed."""

    created: int
    destroyed: int


class _Node:
    """One node: the view of it, and its pods by key."""

    def __init__(self, view: MigNodeView, position: int) -> None:
        self.view = view
        self.position = position  # among the views
        self.by_bus = {each.pci_bus_id: index for index, each in enumerate(view.gpus)}
        self.tables = tuple(_table(view, each) for each in view.gpus)  # None: the GPU takes no part
        self.pods = {each.key: each for each in view.pods}


class World:
    """Nodes, their slices and the pods on them, with running totals in memory slots."""

    def __init__(self, views: Iterable[MigNodeView], stranded: Stranded) -> None:
        """Starts from what was observed: layouts that were asked for and are not there yet are forgotten."""
        self._views = [replace(each, desired={}) for each in views]
        self._stranded = stranded
        self._nodes = {each.node.name: _Node(each, index) for index, each in enumerate(self._views)}
        self._running: dict[PodKey, Assignment] = {}
        self._snapshot: tuple[MigNodeView, ...] | None = None
        self._least: dict[str, int] = {}
        self.gpus = 0  # that take part
        self.busy = 0  # memory slots in use, on the GPUs that take part
        self.stranded = 0.0  # free memory slots that the next pod could not use, on average
        for node in self._nodes.values():
            for gpu, table in zip(node.view.gpus, node.tables, strict=True):
                if table is not None:
                    self.gpus += 1
                    self._count(table, _in_use(gpu.slices), 1)
        capacity = capacity_of(self._views)
        self._models = tuple(capacity)
        self.total = sum(capacity.values())  # memory slots of the GPUs that take part

    @property
    def views(self) -> tuple[MigNodeView, ...]:
        """Every node as it is now."""
        if self._snapshot is None:
            self._snapshot = tuple(self._views)
        return self._snapshot

    @property
    def free(self) -> int:
        """Memory slots that are not in use; idle slices count as free."""
        return self.total - self.busy

    def size(self, demand: Iterable[tuple[str, int]]) -> int:
        """Memory slots that a demand takes at least: each resource on the model where it is smallest."""
        return sum(self._least_size(resource) * count for resource, count in demand)

    def apply(self, plan: Plan, pods: Mapping[PodKey, PodInfo]) -> Carried:
        """Carry a plan out and start its pods. Raises a HardwareError if no driver would do it."""
        drafts: dict[str, dict[int, Slices]] = {}
        for change in plan.changes:
            self._change(change, self._draft(drafts, change.node, change.gpu))
        for assignment in plan.placements:
            self._start(assignment, pods[assignment.pod], drafts)
        for name, gpus in drafts.items():
            self._commit(self._nodes[name], gpus)
        created = sum(len(each.create) for each in plan.changes)
        return Carried(created, sum(len(each.destroy) for each in plan.changes))

    def end(self, ended: Iterable[PodKey]) -> None:
        """These pods are over: their slices stay where they are, idle."""
        drafts: dict[str, dict[int, Slices]] = {}
        for key in ended:
            assignment = self._running.pop(key)
            del self._nodes[assignment.node].pods[key]
            for each in assignment.slices:
                slices = self._draft(drafts, assignment.node, each.gpu)
                slices[each.placement] = Slice(each.placement, uuid=slices[each.placement].uuid)
        for name, gpus in drafts.items():
            self._commit(self._nodes[name], gpus)

    def _draft(self, drafts: dict[str, dict[int, Slices]], name: str, bus: str) -> Slices:
        """The slices of a GPU, to be changed and then committed."""
        node = self._nodes.get(name)
        index = None if node is None else node.by_bus.get(bus)
        if node is None or index is None or node.tables[index] is None:
            raise NotThere(f"the plan names GPU {bus} of node {name}, which takes no part in it")
        gpus = drafts.setdefault(name, {})
        if index not in gpus:
            gpus[index] = {each.placement: each for each in node.view.gpus[index].slices}
        return gpus[index]

    def _change(self, change: GpuChange, slices: Slices) -> None:
        where = f"GPU {change.gpu} of node {change.node}"
        for each in change.destroy:
            found = slices.pop(each, None)
            if found is None:
                raise NotThere(f"the plan destroys {each} on {where}, where it is not")
            if found.state is not DeviceState.IDLE:
                raise InUse(f"the plan destroys {each} on {where}, which {found.pod or 'something'} holds")
        for each in change.create:
            if each in slices:
                raise NoRoom(f"the plan creates {each} on {where}, where it is already")
            slices[each] = Slice(each, uuid=f"MIG-{change.node}-{change.gpu}-{each.profile_id}-{each.start}")

    def _start(self, assignment: Assignment, pod: PodInfo, drafts: dict[str, dict[int, Slices]]) -> None:
        given: Counter[str] = Counter()
        for each in assignment.slices:
            slices = self._draft(drafts, assignment.node, each.gpu)
            where = f"{each.placement} on GPU {each.gpu} of node {assignment.node}"
            found = slices.get(each.placement)
            if found is None:
                raise NotThere(f"the plan gives pod {pod.key} {where}, where it is not")
            if found.state is not DeviceState.IDLE:
                raise InUse(f"the plan gives pod {pod.key} {where}, which {found.pod or 'something'} holds")
            slices[each.placement] = Slice(each.placement, DeviceState.IN_USE, found.uuid, pod.key)
            given[self._table(assignment.node, each.gpu).resource_at(each.placement)] += 1
        if given != dict(pod.demand):
            raise NotThere(f"the plan gives pod {pod.key} {dict(given)}, it asked for {dict(pod.demand)}")
        self._nodes[assignment.node].pods[pod.key] = replace(
            pod, node_name=assignment.node, phase="Running", unschedulable=False
        )
        self._running[pod.key] = assignment

    def _table(self, name: str, bus: str) -> CardTable:
        node = self._nodes[name]
        table = node.tables[node.by_bus[bus]]
        assert table is not None  # _draft has refused it
        return table

    def _commit(self, node: _Node, drafts: Mapping[int, Slices]) -> None:
        gpus = list(node.view.gpus)
        for index, slices in drafts.items():
            table = node.tables[index]
            assert table is not None
            layout = frozenset(slices)
            if layout != {each.placement for each in gpus[index].slices} and not table.is_legal(layout):
                raise NoRoom(f"GPU {gpus[index].pci_bus_id} of node {node.view.node.name}: {table.fault(layout)}")
            self._count(table, _in_use(gpus[index].slices), -1)
            gpus[index] = replace(gpus[index], slices=tuple(slices[each] for each in sorted(slices)))
            self._count(table, _in_use(gpus[index].slices), 1)
        node.view = replace(node.view, gpus=tuple(gpus), pods=tuple(node.pods.values()))
        self._views[node.position] = node.view
        self._snapshot = None

    def _count(self, table: CardTable, in_use: Layout, sign: int) -> None:
        self.busy += sign * (table.memory_slots - table.free_slots(in_use))
        self.stranded += sign * self._stranded.of(table, in_use)

    def _least_size(self, resource: str) -> int:
        if resource not in self._least:
            profiles = (model.profile_for(resource) for model in self._models)
            self._least[resource] = min((each.size for each in profiles if each), default=_NEVER_SIZED)
        return self._least[resource]


def capacity_of(views: Iterable[MigNodeView]) -> dict[GpuModel, int]:
    """Memory slots of the GPUs that take part, by model."""
    slots: dict[GpuModel, int] = {}
    for view in views:
        for gpu in view.gpus:
            table = _table(view, gpu)
            if table is not None:
                slots[table.model] = slots.get(table.model, 0) + table.memory_slots
    return slots


def _in_use(slices: Collection[Slice]) -> Layout:
    return frozenset(each.placement for each in slices if each.state is not DeviceState.IDLE)


def _table(view: MigNodeView, gpu: Gpu) -> CardTable | None:
    """The table of a GPU on which something can be planned, or None."""
    usable = view.managed and view.alive and not view.problem and gpu.healthy and gpu.mig_mode is MigMode.ENABLED
    if not usable or not 0 <= gpu.model < len(view.models):
        return None
    table = table_of(view.models[gpu.model])
    return table if table.knows(each.placement for each in gpu.slices) else None
