"""The working state of a planner: what every GPU is to look like, and what is left on every node.

It outlives a plan. `update` brings in the views that changed; `give` and `keep_window` write down what a plan
decides, and `rollback` takes it back, so that a plan can try one order of its pods after another, and so that the
next plan starts from what is there and not from what was thought about it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from cdmo.model.cluster import PodInfo
from cdmo.model.gpu import DeviceState, Gpu
from cdmo.model.plan import GpuChange
from cdmo.model.snapshot import MigNodeView
from cdmo.planner.eligible import give as take_back
from cdmo.planner.eligible import room_of, take
from cdmo.planner.fit import Fitter
from cdmo.planner.placement import CardTable, Layout
from cdmo.planner.shape import Mode, Option, Shape, Shapes
from cdmo.planner.standing import (
    DOUBLED_GPU,
    DOUBLED_NODE,
    Tables,
    adopted,
    bound_pods,
    device_ids,
    doubled_gpus,
    doubled_nodes,
    node_problem,
    outstanding,
    table_for,
    tables_of,
    unseen,
)
from cdmo.planner.starts import Start, Starts

if TYPE_CHECKING:
    from cdmo.planner.index import Bucket, NodeClass


SCARCE_FROM = 0.75  # share of the memory slots that are held: from here on room is short


class GpuState:
    """One GPU that takes part."""

    __slots__ = (
        "base",
        "bucket",
        "bus",
        "busy",
        "entry",
        "gpu",
        "held",
        "node",
        "observed",
        "rest",
        "shape",
        "table",
    )

    def __init__(self, node: NodeState, position: int, gpu: Gpu, start: Start) -> None:
        self.node = node
        self.gpu = gpu
        self.bus = gpu.pci_bus_id
        self.observed, self.base, self.held, self.rest, self.busy = start
        self.table = self.rest.table
        self.shape = self.rest  # as this plan has it; `rest` is how it was before
        # Orders GPUs by node and PCI bus id. One that is gone may still lie in a heap beside its successor: the third
        # part keeps them apart, and which of the two comes first does not show.
        self.entry = (node.name, position, id(self), self)
        self.bucket: Bucket | None = None

    @property
    def broken(self) -> Layout:
        """Slices that the device plugin cannot serve: they stay until somebody repairs them."""
        return frozenset(each.placement for each in self.gpu.slices if each.state is DeviceState.BROKEN)

    def change(self) -> GpuChange | None:
        """The new desired layout, or None when it is what was asked for already."""
        shape = self.shape
        layout = shape.layout
        if not self.observed <= layout:  # some were to go for what is not to come any more
            windows = self.table.mask(placement for placement, _ in shape.kept)
            layout = adopted(self.table, self.observed, layout, windows)
        if layout == self.base:
            return None
        ascending = self.table.ascending
        return GpuChange(
            node=self.node.name,
            gpu=self.bus,
            layout=ascending(layout),
            create=ascending(layout - self.observed),
            destroy=ascending(self.observed - layout),
        )


class NodeState:
    """One managed node: its room, its GPUs that take part, its slices spoken for."""

    def __init__(self, view: MigNodeView, tables: Tables, starts: Starts, *, doubled: bool = False) -> None:
        self.view = view
        self.name = view.node.name
        self.problem = DOUBLED_NODE if doubled else node_problem(view)
        self.tables = tables
        self.node_class: NodeClass | None = None
        self.allowed = 0  # bit n: pods of the index' kind n may run here
        self.gpus: list[GpuState] = []
        self.problems: dict[str, str] = {}  # by PCI bus id, of the GPUs that do not take part
        bound = bound_pods(view)
        devices = device_ids(bound)
        missing = unseen(view, tables, bound)
        self.outstanding = outstanding(view, tables, missing, devices)
        self._room: dict[str, int] | None = None
        gpus = view.gpus if _ascending(view.gpus) else sorted(view.gpus, key=lambda each: each.pci_bus_id)
        doubled_ids = doubled_gpus(view)
        for position, gpu in enumerate(gpus):
            if gpu.pci_bus_id in doubled_ids:
                self.problems[gpu.pci_bus_id] = DOUBLED_GPU
                continue
            table = table_for(tables, gpu)
            start = starts.of(gpu, table, view.desired.get(gpu.pci_bus_id), missing, devices)
            if isinstance(start, str):
                self.problems[gpu.pci_bus_id] = start
            else:
                self.gpus.append(GpuState(self, position, gpu, start))
        self.row = starts.row_of(tables, gpus)
        # Resources of which a slice that is cut here would be out of the scheduler's reach.
        self.short = frozenset(name for name, count in view.out_of_reach.items() if count > self._idle(name))
        self.slots = self.busy = 0  # memory slots of the GPUs that take part, and those that are held
        for each in self.gpus:
            self.slots += each.table.memory_slots
            self.busy += each.busy

    @property
    def room(self) -> dict[str, int]:
        """What is left of its resources, MIG slices apart. Worked out when first asked for."""
        if self._room is None:
            self._room = room_of(self.view.node, bound_pods(self.view))
        return self._room

    @property
    def usable(self) -> tuple[CardTable, ...]:
        """Its cards that take part."""
        return tuple(sorted((gpu.table for gpu in self.gpus), key=lambda each: each.key))

    def gpu(self, bus: str) -> GpuState | None:
        """The GPU that takes part under this PCI bus id, or None."""
        return next((each for each in self.gpus if each.bus == bus), None)

    def spare(self, resource: str) -> int:
        """Slices of a resource that are nobody's, less those that bound pods will take."""
        return max(0, self._idle(resource) - self.outstanding[resource])

    def _idle(self, resource: str) -> int:
        return sum(gpu.table.resource_at(each) == resource for gpu in self.gpus for each in gpu.shape.spare)


Mark = tuple[int, int, int]


class Ledger:
    """All managed nodes by name."""

    beginning: Mark = (0, 0, 0)  # of a plan

    def __init__(self, shapes: Shapes) -> None:
        self.shapes = shapes
        self.fitter = Fitter()
        self.nodes: dict[str, NodeState] = {}
        self.offered: frozenset[str] = frozenset()  # resources that some card here can be cut into
        self.rows: dict[tuple[CardTable, ...], set[NodeState]] = {}  # nodes by their cards, healthy or not
        self.odd: set[NodeState] = set()  # nodes on which slices are spoken for: they are looked at one by one
        self.repelling: set[NodeState] = set()  # nodes with a pod that keeps others away
        self.unsettled: set[GpuState] = set()  # GPUs that are to be changed whatever is planned
        self.ended: dict[tuple[Shape, Layout], Shape] = {}  # see `window`; the same for all plans
        self._starts = Starts(self.shapes)
        self._views: tuple[MigNodeView, ...] = ()
        self._tables: dict[int, tuple[object, Tables]] = {}  # by identity of a view's `models`
        self._sizes: dict[str, int] = {}  # memory slots, by resource
        self._cards: dict[str, frozenset[CardTable]] = {}  # that can be cut into it, by resource
        self._bulks: dict[str, int] = {}  # see `bulk_of`, by resource
        self._choices: dict[str, tuple[int, int]] = {}  # see `choice_of`, by resource
        self._free: dict[CardTable, int] = {}  # memory slots that nobody holds, by card
        self._slots = self._busy = 0  # memory slots of all GPUs that take part, and those that are held
        self._watchers: list[set[NodeState]] = []
        self._gpus: list[tuple[GpuState, Shape]] = []  # the journal: what a GPU was before
        self._given: list[tuple[NodeState, PodInfo]] = []  # which pods took room on which nodes
        self._shut: list[tuple[NodeState, NodeClass]] = []  # which nodes were left aside

    def update(self, views: tuple[MigNodeView, ...]) -> tuple[list[NodeState], list[NodeState]]:
        """Bring in what changed since the last time; returns the states that went and those that came."""
        if views is self._views:
            return [], []
        self._views = views
        gone: list[NodeState] = []
        came: list[NodeState] = []
        nodes = self.nodes
        managed = [view for view in views if view.managed]
        doubled = doubled_nodes(managed)
        names: set[str] = set()
        for view in managed:
            name = view.node.name
            before = nodes.get(name)
            if name in doubled:
                if name in names:
                    continue
            elif before is not None and before.view is view and before.problem is not DOUBLED_NODE:
                names.add(name)
                continue
            names.add(name)
            if before is not None:
                gone.append(before)
            state = NodeState(view, self._tables_of(view), self._starts, doubled=name in doubled)
            nodes[name] = state
            came.append(state)
        if len(names) < len(nodes):
            for name in [each for each in nodes if each not in names]:
                gone.append(nodes.pop(name))
        self._note(gone, came)
        return gone, came

    def _note(self, gone: list[NodeState], came: list[NodeState]) -> None:
        for states, sign in ((gone, -1), (came, 1)):
            for state in (each for each in states if not each.problem):
                self._slots += sign * state.slots
                self._busy += sign * state.busy
                for gpu in state.gpus:
                    free = gpu.table.memory_slots - gpu.busy
                    self._free[gpu.table] = self._free.get(gpu.table, 0) + sign * free
        for state in gone:
            self.unsettled.difference_update(state.gpus)
            self.odd.discard(state)
            self.repelling.discard(state)
            self.rows[state.row].discard(state)
            if not self.rows[state.row]:
                del self.rows[state.row]
        for state in came:
            self.rows.setdefault(state.row, set()).add(state)
            if any(pod.anti_affinity for pod in state.view.pods):
                self.repelling.add(state)
            if not state.problem:
                self.unsettled.update(gpu for gpu in state.gpus if gpu.shape.layout != gpu.base)
                if state.outstanding:
                    self.odd.add(state)
        if gone or came:
            cards = {id(node.tables): node.tables for node in self.nodes.values()}
            tables = {table for each in cards.values() for table in each}
            self._sizes = {}
            self._cards = {}
            self._bulks = {}
            self._choices = {}
            for table in tables:
                for each in table.model.profiles:
                    choice = (each.max_instances, -each.engines.decoder)
                    self._choices[each.resource] = max(choice, self._choices.get(each.resource, choice))
                    self._cards[each.resource] = self._cards.get(each.resource, frozenset()) | {table}
                    self._bulks[each.resource] = max(table.bulk(each), self._bulks.get(each.resource, 0))
                    self._sizes[each.resource] = max(each.size, self._sizes.get(each.resource, 0))
            self.offered = frozenset(self._sizes)
            self._tables = {number: known for number, known in self._tables.items() if id(known[1]) in cards}

    def give(self, pod: PodInfo, node: NodeState, picks: Iterable[tuple[GpuState, Option]]) -> None:
        """The pod gets these slices and takes its share of the node's other resources."""
        for gpu, option in picks:
            self.turn(gpu, gpu.shape.after(option))
        self._given.append((node, pod))
        take(node.room, pod)

    def turn(self, gpu: GpuState, shape: Shape) -> None:
        """The GPU is to look like this from now on."""
        self._gpus.append((gpu, gpu.shape))
        self._become(gpu, shape)

    def _become(self, gpu: GpuState, shape: Shape) -> None:
        gpu.shape = shape
        if gpu.bucket is not None:
            gpu.bucket.node_class.move(gpu)
        for watcher in self._watchers:
            watcher.add(gpu.node)

    def shut(self, node: NodeState) -> None:
        """Leave a node's GPUs out of the index: nothing more can be planned on it in this plan."""
        if node.node_class is not None:
            self._shut.append((node, node.node_class))
            node.node_class.remove(node)

    def watch(self, changed: set[NodeState]) -> None:
        """Add every node whose GPUs turn into something else to this set, until `begin`."""
        self._watchers.append(changed)

    def begin(self) -> Mode:
        """A new plan begins: nobody watches any more. Returns what counts in it."""
        self._watchers.clear()
        mode = Mode.SCARCE if self._busy >= SCARCE_FROM * self._slots else Mode.PLENTY
        self.fitter.begin(mode)
        return mode

    def mark(self) -> Mark:
        """A point to which `rollback` can return."""
        return len(self._gpus), len(self._given), len(self._shut)

    def rollback(self, mark: Mark) -> None:
        """Take back everything since the mark."""
        gpus, given, shut = mark
        for gpu, shape in reversed(self._gpus[gpus:]):
            self._become(gpu, shape)
        for node, pod in self._given[given:]:
            take_back(node.room, pod)
        for node, node_class in self._shut[shut:]:
            node_class.add(node)
        del self._gpus[gpus:]
        del self._given[given:]
        del self._shut[shut:]

    def touched(self) -> list[GpuState]:
        """GPUs that are to look otherwise than when the plan began, or than was asked of them so far; in order."""
        found = {gpu for gpu, _ in self._gpus} | self.unsettled
        return sorted(found, key=lambda each: each.entry[:2])

    def in_order(self) -> list[NodeState]:
        """The nodes by name."""
        return [self.nodes[name] for name in sorted(self.nodes)]

    def offers(self, demand: tuple[tuple[str, int], ...]) -> bool:
        """Whether every profile of a demand is one that some card here can be cut into."""
        return all(resource in self.offered for resource, _ in demand)

    def free_slots(self) -> int:
        """Memory slots of the GPUs that take part which nobody holds."""
        return self._slots - self._busy

    def cards_of(self, demand: tuple[tuple[str, int], ...]) -> frozenset[CardTable]:
        """The cards that can be cut into every profile of a demand."""
        return frozenset.intersection(*(self._cards.get(resource, frozenset()) for resource, _ in demand))

    def free_slots_of(self, cards: frozenset[CardTable]) -> int:
        """Memory slots of such GPUs that take part and that nobody holds."""
        return sum(self._free.get(card, 0) for card in cards)

    def size_of(self, demand: tuple[tuple[str, int], ...]) -> tuple[int, int]:
        """Memory slots of a demand's largest slice and of all its slices, on the card where these are the most."""
        sizes = [(self._sizes.get(resource, 0), count) for resource, count in demand]
        return max(size for size, _ in sizes), sum(size * count for size, count in sizes)

    def choice_of(self, demand: tuple[tuple[str, int], ...]) -> tuple[int, int]:
        """How little a demand has to choose from: of its scarcest slice the instances on a card, less its engines."""
        return min(self._choices.get(resource, (0, 0)) for resource, _ in demand)

    def bulk_of(self, demand: tuple[tuple[str, int], ...]) -> int:
        """How much of a card the bulkiest slice of a demand takes, in thousandths."""
        return max(self._bulks.get(resource, 0) for resource, _ in demand)

    def is_big(self, demand: tuple[tuple[str, int], ...]) -> bool:
        """Whether a demand could be kept waiting by smaller ones for ever."""
        return bool(self._sizes) and self.size_of(demand)[1] > min(self._sizes.values())

    def changes(self) -> tuple[GpuChange, ...]:
        """Every GPU whose desired layout is to be another one, by node and PCI bus id."""
        found = (gpu.change() for gpu in self.touched())
        return tuple(each for each in found if each is not None)

    def _tables_of(self, view: MigNodeView) -> Tables:
        known = self._tables.get(id(view.models))
        if known is None or known[0] is not view.models:
            known = self._tables[id(view.models)] = (view.models, tables_of(view))
        return known[1]


def _ascending(gpus: Sequence[Gpu]) -> bool:
    before = ""
    for gpu in gpus:
        if gpu.pci_bus_id < before:
            return False
        before = gpu.pci_bus_id
    return True
