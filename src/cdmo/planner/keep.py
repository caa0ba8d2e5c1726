"""Former assignments: a pod that still waits keeps the slices that were planned for it, as long as it can have them.

Without this every round would plan anew, and a slice on its way would go to whoever is looked at first.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

from cdmo.model.cluster import PodInfo
from cdmo.model.gpu import Placement, PodKey
from cdmo.model.snapshot import Assignment, Snapshot
from cdmo.planner.company import Company
from cdmo.planner.eligible import obstacle, shortage
from cdmo.planner.ledger import GpuState, Ledger, NodeState
from cdmo.planner.shape import Option, Shape
from cdmo.planner.standing import same_pod


def avoided(snapshot: Snapshot) -> dict[PodKey, frozenset[str]]:
    """By pending pod the names of the nodes that it was tried on in vain."""
    if not snapshot.avoid:
        return {}
    return {
        pod.key: frozenset(node for other, node in snapshot.avoid if same_pod(other, pod.key))
        for pod in snapshot.pending
    }


def keep_assignments(
    snapshot: Snapshot, queue: Sequence[PodInfo], ledger: Ledger, company: Company
) -> dict[PodKey, Assignment]:
    """Take out of the ledger what stays assigned; returns it by the pod that keeps it.

    Pods whose slices all exist or are on their way come first: what they keep may not be destroyed for those whose
    slices have to be created once more. Rules about other pods are not judged again: whether they hold depends on the
    order in which pods come, and in the order of the plan they held.
    """
    kept: dict[PodKey, Assignment] = {}
    if not snapshot.assignments:
        return kept
    asked = _asked(snapshot, queue, ledger)
    for create in (False, True):
        for pod, assignment in asked:
            if pod.key not in kept and _keep(pod, assignment, ledger, company, create=create):
                kept[pod.key] = assignment
    return kept


def _asked(snapshot: Snapshot, queue: Sequence[PodInfo], ledger: Ledger) -> list[tuple[PodInfo, Assignment]]:
    """Pending pods with a former assignment worth keeping, in the order of the queue."""
    by_name: defaultdict[tuple[str, str], list[Assignment]] = defaultdict(list)
    for each in sorted(snapshot.assignments, key=lambda each: (each.pod, each.node)):
        by_name[(each.pod.namespace, each.pod.name)].append(each)
    avoid = avoided(snapshot)
    asked = []
    for pod in queue:
        for each in by_name.get((pod.key.namespace, pod.key.name), ()):
            node = ledger.nodes.get(each.node)
            if node is None or node.problem or not same_pod(each.pod, pod.key):
                continue
            if each.node not in avoid.get(pod.key, ()) and obstacle(pod, node.view.node) is None:
                asked.append((pod, each))
                break
    return asked


def _keep(pod: PodInfo, assignment: Assignment, ledger: Ledger, company: Company, *, create: bool) -> bool:
    node = ledger.nodes[assignment.node]
    host = node.view.node
    if shortage(pod, host, node.room) is not None or any(resource in node.short for resource, _ in pod.demand):
        return False
    wanted = _by_gpu(node, assignment)
    if wanted is None or _resources(wanted) != dict(pod.demand):
        return False
    picks: list[tuple[GpuState, Option]] = []
    for gpu, placements in wanted:
        options = _claimed(gpu.shape, placements, create=create)
        if options is None:
            return False
        picks += [(gpu, option) for option in options]
    if not _enough(node, wanted):
        return False
    ledger.give(pod, node, picks)
    company.place(pod, node.name)
    return True


def _by_gpu(node: NodeState, assignment: Assignment) -> list[tuple[GpuState, list[Placement]]] | None:
    """The assignment's placements by GPU, or None when a GPU or a placement is not to be had any more."""
    placements: defaultdict[str, list[Placement]] = defaultdict(list)
    for each in assignment.slices:
        placements[each.gpu].append(each.placement)
    found = []
    for bus, wanted in placements.items():
        gpu = node.gpu(bus)
        if gpu is None or not gpu.table.knows(wanted) or len(set(wanted)) != len(wanted):
            return None
        found.append((gpu, wanted))
    return found


def _resources(wanted: list[tuple[GpuState, list[Placement]]]) -> dict[str, int]:
    return dict(Counter(gpu.table.resource_at(each) for gpu, placements in wanted for each in placements))


def _claimed(shape: Shape, placements: list[Placement], *, create: bool) -> list[Option] | None:
    """The options that make these placements somebody's; None when one is taken or cannot be created."""
    taken = []
    for each in sorted(placements, key=lambda each: (each not in shape.layout, each)):
        options = (option for option in shape.options(shape.table.resource_at(each)) if option.cut.placement == each)
        option = next((option for option in options if option.reuse or create), None)
        if option is None:
            return None
        taken.append(option)
        shape = shape.after(option)
    return taken


def _enough(node: NodeState, wanted: list[tuple[GpuState, list[Placement]]]) -> bool:
    """Whether bound pods that are about to take slices leave enough of those that exist or are on their way."""
    reused = Counter(
        gpu.table.resource_at(each) for gpu, placements in wanted for each in placements if each in gpu.shape.layout
    )
    return all(not node.outstanding[name] or count <= node.spare(name) for name, count in reused.items())
