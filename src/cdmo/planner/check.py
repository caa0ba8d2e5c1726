"""What no plan may break. Asked before a plan is published, and by property tests of the planner.

Written apart from the planner's own bookkeeping: it looks at snapshot and plan, and shares with the planner
only the card tables, the eligibility rules and the words for who takes part.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace

from cdmo.model.cluster import PodInfo
from cdmo.model.gpu import Gpu, Placement, PodKey
from cdmo.model.plan import GpuChange, Plan
from cdmo.model.snapshot import Assignment, MigNodeView, Snapshot
from cdmo.planner.eligible import obstacle, room_of, shortage, take
from cdmo.planner.placement import Layout
from cdmo.planner.reasons import LIMIT
from cdmo.planner.standing import (
    DOUBLED_NODE,
    Tables,
    device_ids,
    doubled_gpus,
    doubled_nodes,
    gpu_problem,
    held_placements,
    node_problem,
    outstanding,
    same_pod,
    tables_of,
    unseen,
)


@dataclass(frozen=True, slots=True)
class Violation:
    """A rule that a plan breaks."""

    sentence: str
    node: str = ""  # the one whose part of the plan is wrong; empty: the plan as a whole

    def __str__(self) -> str:
        return self.sentence


def violations(snapshot: Snapshot, plan: Plan, *, everywhere: bool = True) -> tuple[Violation, ...]:
    """Every rule that the plan breaks; empty for a plan that may be published.

    everywhere: look at nodes that the plan does not touch as well, in case that it should have.
    """
    if not everywhere:
        touched = {each.node for each in plan.changes} | {each.node for each in plan.placements}
        snapshot = replace(snapshot, nodes=tuple(each for each in snapshot.nodes if each.node.name in touched))
    checker = _Checker(snapshot, plan)
    return (*checker.answers(), *checker.layouts(), *checker.assignments(), *checker.spoken_for())


class _Checker:
    def __init__(self, snapshot: Snapshot, plan: Plan) -> None:
        self.snapshot = snapshot
        self.plan = plan
        self.views = {view.node.name: view for view in snapshot.nodes}
        self.tables: dict[str, Tables] = {name: tables_of(view) for name, view in self.views.items()}
        self.pending = {pod.key: pod for pod in snapshot.pending}
        self.bound = {name: [pod for pod in view.pods if not pod.finished] for name, view in self.views.items()}
        self.final: dict[tuple[str, str], Layout] = {}  # layouts after the plan, of the GPUs that take part
        self.doubled = doubled_nodes([view for view in snapshot.nodes if view.managed])
        for view in self.views.values():
            doubled = doubled_gpus(view)
            for gpu in view.gpus:
                if gpu.pci_bus_id in doubled or self._problem(view):
                    continue
                if not gpu_problem(self.tables[view.node.name], gpu):
                    desired = view.desired.get(gpu.pci_bus_id, _observed(gpu))
                    self.final[(view.node.name, gpu.pci_bus_id)] = frozenset(desired)
        self.asked = dict(self.final)
        self.final |= {
            (each.node, each.gpu): frozenset(each.layout)
            for each in plan.changes
            if (each.node, each.gpu) in self.final
        }

    def _problem(self, view: MigNodeView) -> str:
        return DOUBLED_NODE if view.node.name in self.doubled else node_problem(view)

    def answers(self) -> Iterator[Violation]:
        """Every pod that asks is answered once, nobody else is, and every reason can be read."""
        given = Counter([each.pod for each in self.plan.placements] + [each.pod for each in self.plan.waiting])
        for key, count in given.items():
            if key not in self.pending:
                yield Violation(f"pod {key} was answered but is not pending")
            if count > 1:
                yield Violation(f"pod {key} was answered {count} times")
        # The policy says whose pods are planned: a plan that answers one pod of a scheduler has to answer all.
        schedulers = {self.pending[key].scheduler_name for key in given if key in self.pending}
        schedulers.add("default-scheduler")
        for key, pod in self.pending.items():
            idle = pod.gated or pod.terminating or pod.finished or pod.node_name or not pod.demand
            if key not in given and not idle and pod.scheduler_name in schedulers:
                yield Violation(f"pod {key} was not answered")
        for each in self.plan.waiting:
            if not each.reason or len(each.reason) > LIMIT:
                yield Violation(
                    f"the reason of pod {each.pod} has {len(each.reason)} characters, allowed are 1 to {LIMIT}"
                )

    def layouts(self) -> Iterator[Violation]:
        """Each change is whole, legal and needed; what is held stands everywhere."""
        seen: set[tuple[str, str]] = set()
        for change in self.plan.changes:
            where = (change.node, change.gpu)
            if where in seen:
                yield Violation(f"{_gpu_text(where)} is changed twice", where[0])
            seen.add(where)
            if where not in self.asked:
                yield Violation(f"{_gpu_text(where)} is changed but takes no part", where[0])
            else:
                yield from self._change(change)
        for where, layout in self.final.items():
            view, gpu = self._gpu(where)
            for each in sorted(self._held(view, gpu) - layout):
                yield Violation(f"{_gpu_text(where)}: {_text(each)} is held and missing from the layout", where[0])

    def assignments(self) -> Iterator[Violation]:
        """Each assignment is what the pod asked for, on a node where it may run, and nobody else's."""
        owners: dict[tuple[str, str, Placement], PodKey] = {}
        rooms: dict[str, dict[str, int]] = {}
        for each in self.plan.placements:
            view = self.views.get(each.node)
            if view is None or self._problem(view):
                yield Violation(f"pod {each.pod} is planned on node {each.node}, which takes no part", each.node)
                continue
            if each.pod in self.pending:
                room = rooms.setdefault(each.node, room_of(view.node, self.bound[each.node]))
                yield from self._eligible(self.pending[each.pod], view, room)
            yield from self._slices(each, owners)

    def spoken_for(self) -> Iterator[Violation]:
        """Bound pods find the slices they are about to take, beside those that were given to others."""
        given = Counter((each.node, resource) for each in self.plan.placements for resource in self._resources(each))
        for name, view in self.views.items():
            unknown = unseen(view, self.tables[name], self.bound[name])
            missing = outstanding(view, self.tables[name], unknown, device_ids(self.bound[name]))
            if self._problem(view) or not missing:
                continue
            pool: Counter[str] = Counter()
            for gpu in view.gpus:
                where = (name, gpu.pci_bus_id)
                if where in self.final:
                    table = self.tables[name][gpu.model]
                    for each in sorted(_observed(gpu) - self.final[where]):
                        if missing[table.resource_at(each)]:
                            yield Violation(
                                f"{_gpu_text(where)}: {_text(each)} is destroyed though a bound pod may take it",
                                where[0],
                            )
                    spare = (self.final[where] & table.cuts.keys()) - self._held(view, gpu)
                    pool.update(table.resource_at(each) for each in spare)
            for resource in sorted(missing):
                if given[(name, resource)] > max(0, pool[resource] - missing[resource]):
                    yield Violation(f"node {name}: {resource} of bound pods was given to pods that wait", name)

    def _change(self, change: GpuChange) -> Iterator[Violation]:
        where = (change.node, change.gpu)
        view, gpu = self._gpu(where)
        layout, observed = frozenset(change.layout), _observed(gpu)
        table = self.tables[change.node][gpu.model]
        if change.layout != tuple(sorted(layout)):
            yield Violation(f"{_gpu_text(where)}: the layout is not ascending, or lists a placement twice", where[0])
        fault = table.fault(layout) if layout - observed else ""
        if fault:
            yield Violation(f"{_gpu_text(where)}: {fault}", where[0])
        if change.create != tuple(sorted(layout - observed)):
            yield Violation(f"{_gpu_text(where)}: `create` is not what the layout adds to the GPU", where[0])
        if change.destroy != tuple(sorted(observed - layout)):
            yield Violation(f"{_gpu_text(where)}: `destroy` is not what the layout leaves out of the GPU", where[0])
        for each in sorted(frozenset(change.destroy) & self._held(view, gpu)):
            yield Violation(f"{_gpu_text(where)}: {_text(each)} is held and would be destroyed", where[0])
        if layout == self.asked[where]:
            yield Violation(f"{_gpu_text(where)} is changed into what was asked of it already", where[0])

    def _eligible(self, pod: PodInfo, view: MigNodeView, room: dict[str, int]) -> Iterator[Violation]:
        name = view.node.name
        found = obstacle(pod, view.node) or shortage(pod, view.node, room)
        if found is not None:
            yield Violation(f"pod {pod.key} is planned on node {name}: {found.sentence}", name)
        if any(where == name and same_pod(other, pod.key) for other, where in self.snapshot.avoid):
            yield Violation(f"pod {pod.key} is planned on node {name}, where it was tried in vain", name)
        take(room, pod)

    def _slices(
        self, assignment: Assignment, owners: dict[tuple[str, str, Placement], PodKey]
    ) -> Iterator[Violation]:
        pod = assignment.pod
        for each in assignment.slices:
            where = (assignment.node, each.gpu)
            if where not in self.final:
                yield Violation(f"pod {pod}: {_gpu_text(where)} takes no part", where[0])
                continue
            view, gpu = self._gpu(where)
            if each.placement not in self.final[where]:
                yield Violation(f"pod {pod}: {_gpu_text(where)} will have no {_text(each.placement)}", where[0])
            if each.placement in self._held(view, gpu):
                yield Violation(f"pod {pod}: {_gpu_text(where)} {_text(each.placement)} is held by another", where[0])
            owner = owners.setdefault((*where, each.placement), pod)
            if owner != pod:
                yield Violation(
                    f"pod {pod}: {_gpu_text(where)} {_text(each.placement)} was given to pod {owner} as well",
                    where[0],
                )
        given = len({(each.gpu, each.placement) for each in assignment.slices})
        asks = self.pending[pod].demand if pod in self.pending else ()
        if dict(asks) != dict(Counter(self._resources(assignment))) or given != len(assignment.slices):
            yield Violation(f"pod {pod} was not given what it asks for", assignment.node)

    def _resources(self, assignment: Assignment) -> list[str]:
        """The resources of an assignment's slices; slices that cannot exist have none."""
        found = []
        for each in assignment.slices:
            if (assignment.node, each.gpu) in self.final:
                _, gpu = self._gpu((assignment.node, each.gpu))
                table = self.tables[assignment.node][gpu.model]
                found += [table.resource_at(each.placement)] if each.placement in table.cuts else []
        return found

    def _gpu(self, where: tuple[str, str]) -> tuple[MigNodeView, Gpu]:
        view = self.views[where[0]]
        return view, next(each for each in view.gpus if each.pci_bus_id == where[1])

    def _held(self, view: MigNodeView, gpu: Gpu) -> Layout:
        return held_placements(gpu, device_ids(self.bound[view.node.name]))


def _observed(gpu: Gpu) -> Layout:
    return frozenset(each.placement for each in gpu.slices)


def _gpu_text(where: tuple[str, str]) -> str:
    return f"node {where[0]} GPU {where[1]}"


def _text(placement: Placement) -> str:
    return f"profile {placement.profile_id} at slot {placement.start}"
