"""Why a pod got nothing: the code for machines, a sentence for people, the best candidate and what is in its way.

Asked from the top down: is there such a profile; could any node hold so many; could it hold them together; is there
a place where only something else is missing; where are the fewest slots in the way; is the node well; may the pod
run there at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from cdmo.model.cluster import PodInfo
from cdmo.model.plan import Waiting
from cdmo.model.reasons import WaitingCode
from cdmo.model.snapshot import Assignment
from cdmo.planner import reasons
from cdmo.planner.blockers import Blockers
from cdmo.planner.eligible import Bar, Obstacle, obstacle, shortage
from cdmo.planner.fit import Demand
from cdmo.planner.index import Index
from cdmo.planner.ledger import GpuState, Ledger, NodeState
from cdmo.planner.placement import CardTable, Cut
from cdmo.planner.seek import Seeker
from cdmo.planner.window import KeptWindow

_ABSURD = 2**31  # the API server takes far more; no node reports more devices than fit a signed 32-bit count

_Answer = tuple[WaitingCode, str]


@dataclass(frozen=True, slots=True)
class _Near:
    """The place with the fewest slots in the way."""

    blocked: int  # slots
    gpu: GpuState
    cut: Cut

    @property
    def rank(self) -> tuple[int, str, int]:
        """Which of two is nearer."""
        return (self.blocked, *self.gpu.entry[:2])


class Explainer:
    """Explains what the ledger says once everybody was served."""

    def __init__(
        self,
        ledger: Ledger,
        index: Index,
        seeker: Seeker,
        given: Sequence[Assignment],
        window: tuple[PodInfo, KeptWindow] | None,
    ) -> None:
        self._ledger = ledger
        self._index = index
        self._seeker = seeker
        self._window = window
        self._blockers = Blockers(given, window[0].key if window else None)
        self._hopeless: dict[Demand, _Answer | None] = {}
        self._holds: dict[tuple[Demand, tuple[CardTable, ...]], bool] = {}
        self._known: dict[tuple[object, ...], _Answer] = {}

    def why(self, pod: PodInfo, kind: int) -> Waiting:
        """Why this pod has no place. Pods that differ in nothing that counts get one answer, worked out once."""
        if self._window is not None and self._window[0].key == pod.key:
            return Waiting(pod.key, WaitingCode.NO_ROOM, self._blockers.of_window(pod.demand, self._window[1]))
        avoid = self._seeker.avoided(pod.key)
        alone = self._seeker.stands_alone(pod)
        key = (pod.demand, pod.others, pod.host_ports, kind, avoid, None if alone else pod.key)
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = self._demand_alone(pod.demand) or self._by_nodes(pod, kind, avoid)
        return Waiting(pod.key, *known)

    # --- the demand, whatever the state of the nodes -----------------------------------------------------------

    def _demand_alone(self, demand: Demand) -> _Answer | None:
        if demand not in self._hopeless:
            self._hopeless[demand] = self._judge_demand(demand)
        return self._hopeless[demand]

    def _judge_demand(self, demand: Demand) -> _Answer | None:
        for resource, _ in demand:
            if resource not in self._ledger.offered:
                return WaitingCode.NO_SUCH_PROFILE, reasons.no_such_profile(resource, self._ledger.offered)
        empty = self._ledger.shapes.empty
        for resource, count in demand:
            most = max(sum(empty(table).most(resource) for table in row) for row in self._ledger.rows)
            if count > min(most, _ABSURD):
                return WaitingCode.ABSURD_COUNT, reasons.absurd_count(resource, count, most)
        if not any(self._could_hold(demand, row) for row in self._ledger.rows):
            return WaitingCode.NEVER_FITS, reasons.never_fits(demand)
        return None

    def _could_hold(self, demand: Demand, row: tuple[CardTable, ...]) -> bool:
        """Whether these cards could hold the demand with nothing else on them."""
        key = (demand, row)
        if key not in self._holds:
            answer = self._ledger.fitter.fit(demand, [self._ledger.shapes.empty(table) for table in row], {})
            self._holds[key] = answer.choice is not None or answer.exhausted
        return self._holds[key]

    # --- the nodes -----------------------------------------------------------------------------------------------

    def _by_nodes(self, pod: PodInfo, kind: int, avoid: frozenset[str]) -> _Answer:
        return (
            self._something_else_missing(pod, kind, avoid)
            or self._full(pod, kind)
            or self._nowhere(pod, kind)
            or (WaitingCode.NO_ROOM, reasons.never_fits(pod.demand))
        )

    def _something_else_missing(self, pod: PodInfo, kind: int, avoid: frozenset[str]) -> _Answer | None:
        """There are slices to be had, and the pod cannot take them."""
        first: tuple[NodeState, Obstacle] | None = None
        for node in self._seeker.with_a_place(pod, kind):
            if node.name in avoid:
                return WaitingCode.TRIED_IN_VAIN, reasons.tried_in_vain(node.name)
            found = self._seeker.lacking(pod, node)
            if found is not None and found.bar is not Bar.NEVER and first is None:
                first = (node, found)
                if not avoid:
                    break
        if first is None:
            return None
        node, found = first
        return WaitingCode.NO_ROOM, reasons.short_of_resources(node.name, found.sentence)

    def _full(self, pod: PodInfo, kind: int) -> _Answer | None:
        demand = pod.demand
        if sum(count for _, count in demand) == 1:
            near = min(self._nearest(demand[0][0], pod, kind), key=lambda each: each.rank, default=None)
            return None if near is None else (WaitingCode.NO_ROOM, self._blockers.of_place(near.gpu, near.cut))
        nodes = [node for node in self._eligible(pod, kind) if self._could_hold(demand, node.usable)]
        return (WaitingCode.NO_ROOM, self._not_together(demand, nodes)) if nodes else None

    def _nearest(self, resource: str, pod: PodInfo, kind: int) -> Iterator[_Near]:
        """In each bucket the first GPU of a node that has room for the pod otherwise."""
        for node_class in self._index.classes(kind):
            for bucket in node_class.buckets():
                near = bucket.shape.nearest(resource)
                gpu = bucket.first() if near is not None else None
                if near is None or gpu is None:
                    continue
                if shortage(pod, gpu.node.view.node, gpu.node.room) is not None:
                    gpu = next((each for each in bucket.in_order() if self._has_room(pod, each.node)), None)
                if gpu is not None:
                    yield _Near(near[0], gpu, near[1])
        for node in self._ledger.odd:
            if node.allowed >> kind & 1 and self._has_room(pod, node):
                for gpu in node.gpus:
                    near = gpu.shape.nearest(resource)
                    if near is not None:
                        yield _Near(near[0], gpu, near[1])

    def _has_room(self, pod: PodInfo, node: NodeState) -> bool:
        return shortage(pod, node.view.node, node.room) is None

    def _eligible(self, pod: PodInfo, kind: int) -> list[NodeState]:
        bit = 1 << kind
        return [node for node in self._ledger.in_order() if node.allowed & bit and self._has_room(pod, node)]

    def _not_together(self, demand: Demand, nodes: list[NodeState]) -> str:
        best, resource, room = _most_room(demand, nodes)
        if not resource:
            return reasons.not_together(demand, best.name)
        near = min(_nearest_on(resource, best.gpus), key=lambda each: each.rank, default=None)
        return self._blockers.of_count(
            demand, best.name, resource, room, None if near is None else (near.gpu, near.cut)
        )

    def _nowhere(self, pod: PodInfo, kind: int) -> _Answer | None:
        """No node that is well and where the pod may run can take it: tell what is wrong with those that hold it."""
        unwell: list[tuple[str, str]] = []
        barred: list[tuple[str, str]] = []
        short: list[tuple[str, str]] = []
        able = [
            node for row, nodes in self._ledger.rows.items() if self._could_hold(pod.demand, row) for node in nodes
        ]
        for node in sorted(able, key=lambda each: each.name):
            host = node.view.node
            found = obstacle(pod, host)
            lacking = shortage(pod, host, node.room)
            if found is not None and found.bar is Bar.NEVER:
                barred.append((node.name, found.sentence))
            elif lacking is not None and lacking.bar is Bar.NEVER:
                barred.append((node.name, lacking.sentence))
            elif found is not None or node.problem:
                unwell.append((node.name, found.sentence if found else node.problem))
            elif not self._could_hold(pod.demand, node.usable):
                bus, problem = next(iter(node.problems.items()))
                unwell.append((node.name, reasons.out_of_planning(bus, problem)))
            elif lacking is not None:
                short.append((node.name, lacking.sentence))
        if short:
            return WaitingCode.NO_ROOM, reasons.short_of_resources(*short[0])
        if unwell:
            return WaitingCode.NODE_NOT_READY, reasons.not_ready([name for name, _ in unwell], unwell[0][1])
        if barred:
            return WaitingCode.NO_ELIGIBLE_NODE, reasons.no_eligible_node([name for name, _ in barred], barred[0][1])
        return None


def _most_room(demand: Demand, nodes: list[NodeState]) -> tuple[NodeState, str, int]:
    """The node that could give the largest part of the demand, the resource it lacks most, how many it could give."""

    def part(node: NodeState) -> tuple[float, str, int]:
        given = [(sum(gpu.shape.most(name) for gpu in node.gpus), name, count) for name, count in demand]
        room, name, count = min(given, key=lambda each: (each[0] / each[2], each[1]))
        return (room / count, name if room < count else "", room)

    found = [(part(node), node) for node in nodes]
    (_, resource, room), node = min(found, key=lambda each: (-each[0][0], each[1].name))
    return node, resource, room


def _nearest_on(resource: str, gpus: Iterable[GpuState]) -> Iterator[_Near]:
    for gpu in gpus:
        near = gpu.shape.nearest(resource)
        if near is not None:
            yield _Near(near[0], gpu, near[1])
