"""Why a pod got nothing: the code for machines, found by asking ever less of the nodes.

Is there such a profile; could any node hold so many; could it hold them together; may the pod run there; is the node
well; what holds the room it needs.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, auto

from cdmo.model.cluster import PodInfo
from cdmo.model.gpu import DeviceState, Placement
from cdmo.model.plan import Waiting
from cdmo.model.reasons import WaitingCode
from cdmo.planner import reasons
from cdmo.planner.eligible import Bar, Eligibility, needs, shortage
from cdmo.planner.fit import Demand
from cdmo.planner.ledger import GpuState, Ledger, NodeState, table_for
from cdmo.planner.placement import Cut
from cdmo.planner.shape import Shape

_ABSURD = 2**31  # the API server takes far more; no node reports more devices than fit a signed 32-bit count


class _Kind(Enum):
    """What stands between a pod and one node whose cards could hold it."""

    TRIED = auto()
    FULL = auto()
    SHORT = auto()
    NOT_READY = auto()
    INELIGIBLE = auto()


@dataclass(frozen=True, slots=True)
class _Verdict:
    kind: _Kind
    node: NodeState
    sentence: str = ""


class Explainer:
    """Explains what the ledger says once everybody was served."""

    def __init__(self, ledger: Ledger, eligibility: Eligibility) -> None:
        self._ledger = ledger
        self._eligibility = eligibility
        self._cards: dict[str, tuple[Shape, ...]] = {
            name: _cards(node, ledger) for name, node in ledger.nodes.items()
        }
        shapes = {shape for row in self._cards.values() for shape in row}
        self._offered = {each.resource for shape in shapes for each in shape.table.model.profiles}
        self._known: dict[tuple[object, ...], tuple[WaitingCode, str]] = {}

    def why(self, pod: PodInfo, avoid: frozenset[str]) -> Waiting:
        """Why this pod has no place. Pods that differ in nothing that counts get one answer, worked out once."""
        where = (pod.node_selector, pod.node_affinity, pod.tolerations, avoid)
        key = (pod.demand, tuple(sorted(needs(pod).items())), *where)
        if key not in self._known:
            self._known[key] = self._demand_alone(pod.demand) or self._by_nodes(pod, avoid)
        code, sentence = self._known[key]
        return Waiting(pod.key, code, sentence)

    def _demand_alone(self, demand: Demand) -> tuple[WaitingCode, str] | None:
        """What is wrong with the demand whatever the state of the nodes."""
        for resource, _ in demand:
            if resource not in self._offered:
                return WaitingCode.NO_SUCH_PROFILE, reasons.no_such_profile(resource, self._offered)
        for resource, count in demand:
            most = max(sum(shape.most(resource) for shape in row) for row in self._cards.values())
            if count > min(most, _ABSURD):
                return WaitingCode.ABSURD_COUNT, reasons.absurd_count(resource, count, most)
        if not any(self._could_hold(demand, row) for row in self._cards.values()):
            return WaitingCode.NEVER_FITS, reasons.never_fits(demand)
        return None

    def _could_hold(self, demand: Demand, row: tuple[Shape, ...]) -> bool:
        answer = self._ledger.fitter.fit(demand, row, {})
        return answer.choice is not None or answer.exhausted

    def _by_nodes(self, pod: PodInfo, avoid: frozenset[str]) -> tuple[WaitingCode, str]:
        able = [node for name, node in self._ledger.nodes.items() if self._could_hold(pod.demand, self._cards[name])]
        verdicts = [self._verdict(pod, node, avoid) for node in able]
        by_kind = {kind: [each for each in verdicts if each.kind is kind] for kind in _Kind}
        if by_kind[_Kind.TRIED]:
            return WaitingCode.TRIED_IN_VAIN, reasons.tried_in_vain(by_kind[_Kind.TRIED][0].node.name)
        if by_kind[_Kind.FULL]:
            return WaitingCode.NO_ROOM, _full(pod.demand, [each.node for each in by_kind[_Kind.FULL]])
        if by_kind[_Kind.SHORT]:
            first = by_kind[_Kind.SHORT][0]
            return WaitingCode.NO_ROOM, reasons.short_of_resources(first.node.name, first.sentence)
        if by_kind[_Kind.NOT_READY]:
            unwell = by_kind[_Kind.NOT_READY]
            names = [each.node.name for each in unwell]
            return WaitingCode.NODE_NOT_READY, reasons.not_ready(names, unwell[0].sentence)
        barred = by_kind[_Kind.INELIGIBLE]
        names = [each.node.name for each in barred]
        return WaitingCode.NO_ELIGIBLE_NODE, reasons.no_eligible_node(names, barred[0].sentence)

    def _verdict(self, pod: PodInfo, node: NodeState, avoid: frozenset[str]) -> _Verdict:
        found = self._eligibility.obstacle(pod, node.view.node)
        if found is not None and found.bar is Bar.NEVER:
            return _Verdict(_Kind.INELIGIBLE, node, found.sentence)
        lacking = shortage(pod, node.view.node, node.room)
        if lacking is not None and lacking.bar is Bar.NEVER:
            return _Verdict(_Kind.INELIGIBLE, node, lacking.sentence)
        if found is not None or node.problem:
            return _Verdict(_Kind.NOT_READY, node, found.sentence if found else node.problem)
        usable = tuple(self._ledger.shapes.empty(gpu.table) for gpu in node.gpus)
        if not self._could_hold(pod.demand, usable):
            bus, problem = next(iter(node.problems.items()))
            return _Verdict(_Kind.NOT_READY, node, f"GPU {bus}: {problem}")
        if lacking is not None:
            return _Verdict(_Kind.SHORT, node, lacking.sentence)
        if node.name in avoid and node.best(pod.demand, self._ledger.fitter) is not None:
            return _Verdict(_Kind.TRIED, node)
        return _Verdict(_Kind.FULL, node)


def _cards(node: NodeState, ledger: Ledger) -> tuple[Shape, ...]:
    """All cards of a node, healthy or not, as if nothing were on them."""
    tables = [table_for(node.tables, gpu) for gpu in node.view.gpus]
    return tuple(ledger.shapes.empty(table) for table in tables if table is not None)


def _full(demand: Demand, nodes: list[NodeState]) -> str:
    if sum(count for _, count in demand) == 1:
        ((resource, _),) = demand
        _, gpu, cut, node = min(_nearest(resource, nodes), key=lambda each: each[0])
        return reasons.slots_in_the_way(cut.profile.size, node.name, gpu.bus, _blockers(node, gpu, cut))
    best, resource, room = _most_room(demand, nodes)
    if not resource:
        return reasons.not_together(demand, best.name)
    near = min(_nearest(resource, [best]), key=lambda each: each[0], default=None)
    if near is None:
        return reasons.too_few(demand, best.name, resource, room, "", ())
    _, gpu, cut, _ = near
    return reasons.too_few(demand, best.name, resource, room, gpu.bus, _blockers(best, gpu, cut))


def _most_room(demand: Demand, nodes: list[NodeState]) -> tuple[NodeState, str, int]:
    """The node that could give the largest part of the demand, the resource it lacks most, how many it could give."""

    def part(node: NodeState) -> tuple[float, str, int]:
        given = [(sum(gpu.shape.most(name) for gpu in node.gpus), name, count) for name, count in demand]
        room, name, count = min(given, key=lambda each: (each[0] / each[2], each[1]))
        return (room / count, name if room < count else "", room)

    found = [(part(node), node) for node in nodes]
    (_, resource, room), node = min(found, key=lambda each: (-each[0][0], each[1].name))
    return node, resource, room


def _nearest(
    resource: str, nodes: Iterable[NodeState]
) -> list[tuple[tuple[int, str, str], GpuState, Cut, NodeState]]:
    """On each GPU that is not full of it the place with the fewest slots in the way."""
    found = []
    for node in nodes:
        for gpu in node.gpus:
            near = gpu.shape.nearest(resource)
            if near is not None:
                found.append(((near[0], node.name, gpu.bus), gpu, near[1], node))
    return found


def _blockers(node: NodeState, gpu: GpuState, cut: Cut) -> list[str]:
    """The slices that must stay and cover slots of this placement, from the lowest slot up."""
    staying = gpu.shape.layout - gpu.shape.loose
    covering = [each for each in staying if gpu.table.cuts[each].mask & cut.mask]
    return [_blocker(node, gpu, each) for each in sorted(covering, key=lambda each: each.start)]


def _blocker(node: NodeState, gpu: GpuState, placement: Placement) -> str:
    name = gpu.table.cuts[placement].profile.name
    there = gpu.slices.get(placement)
    owner = gpu.owners.get(placement)
    if owner is not None:
        return reasons.blocker(name, placement.start, str(owner), broken=False, planned=True)
    if there is None or placement not in gpu.held:
        return reasons.spoken_for(name, placement.start)
    broken = there.state is DeviceState.BROKEN
    holder = str(there.pod) if there.pod else ""
    return reasons.blocker(name, placement.start, holder, broken=broken, planned=False)
