"""Where one pod's slices go, as things stand in the ledger: the cheapest choice on a node where the pod may run."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator, Mapping, Sequence

from cdmo.model.cluster import PodInfo
from cdmo.model.gpu import PodKey
from cdmo.planner.company import Company
from cdmo.planner.eligible import Obstacle, needs, shortage
from cdmo.planner.fit import Choice, Demand
from cdmo.planner.index import Index
from cdmo.planner.ledger import GpuState, Ledger, NodeState
from cdmo.planner.shape import Cost, Mode, Option

Picks = Sequence[tuple[GpuState, Option]]
_Rank = tuple[Cost, tuple[object, ...], str]  # what it costs, the shape of its first GPU, the node's name

NOTHING: frozenset[str] = frozenset()


class Seeker:
    """Finds places during one plan.

    avoid: nodes by pod, on which it was tried in vain.
    least: the least that any pod of this plan needs besides slices; a node with less than that is left aside.
    """

    def __init__(
        self,
        ledger: Ledger,
        index: Index,
        company: Company,
        avoid: Mapping[PodKey, frozenset[str]],
        least: PodInfo | None,
        mode: Mode,
    ) -> None:
        self._ledger = ledger
        self._index = index
        self._company = company
        self._avoid = avoid
        self._least = least
        self._ranked: dict[tuple[Demand, bool], NodeRanks] = {}
        self.mode = mode

    def seek(self, pod: PodInfo, kind: int) -> tuple[NodeState, Picks] | None:
        """The pod's slices, not given to it yet, or None when there is no place for them."""
        demand = pod.demand
        if not self._ledger.offers(demand):
            return None
        if len(demand) > 1 or demand[0][1] > 1:
            return next((found[1:] for found in self._by_node(pod, kind, odd_only=False)), None)
        resource = demand[0][0]
        while True:
            found = self._index.cheapest(kind, resource, self.mode)
            if found is None or self.may_run(pod, found[0].node):
                break
            node = found[0].node
            if self._least is None or shortage(self._least, node.view.node, node.room) is None:
                return self._one_by_one(pod, kind, resource)
            self._ledger.shut(node)
        odd = next(self._by_node(pod, kind, odd_only=True), None) if self._ledger.odd else None
        if odd is not None and (found is None or odd[0] < _rank(found)):
            return odd[1:]
        return None if found is None else (found[0].node, ((found[0], found[2]),))

    def fill(self, pod: PodInfo, kind: int, count: int) -> Iterator[tuple[NodeState, Picks]]:
        """Give so many equal pods their slices, one after another, until one finds none.

        The same as `seek` and `Ledger.give` for each of them, without asking again what is the same for all: they
        were tried in vain on the same nodes, and there are no rules about other pods.
        """
        if not self._is_plain(pod):
            for _ in range(count):
                found = self.seek(pod, kind)
                if found is None:
                    return
                self._ledger.give(pod, *found)
                yield found
            return
        cheapest, give = self._index.cheapest, self._ledger.give
        resource, mode = pod.demand[0][0], self.mode
        wanted = tuple(needs(pod).items())
        for _ in range(count):
            best = cheapest(kind, resource, mode)
            if best is None:
                return
            gpu, _, option = best
            node = gpu.node
            room = node.room
            for name, amount in wanted:
                if room.get(name, 0) < amount:
                    found = self.seek(pod, kind)
                    break
            else:
                found = (node, ((gpu, option),))
            if found is None:
                return
            give(pod, *found)
            yield found

    def _is_plain(self, pod: PodInfo) -> bool:
        """Whether nothing but cpu and the like can keep the pod from a GPU that its kind is allowed on."""
        return (
            len(pod.demand) == 1
            and pod.demand[0][1] == 1
            and not pod.host_ports
            and not self.avoided(pod.key)
            and not self._ledger.odd
            and self._ledger.offers(pod.demand)
        )

    def avoided(self, pod: PodKey) -> frozenset[str]:
        """Nodes on which this pod was tried in vain."""
        return self._avoid.get(pod, NOTHING) if self._avoid else NOTHING

    def stands_alone(self, pod: PodInfo) -> bool:
        """Whether no rule about other pods says where it may run."""
        return not self._company.concerns(pod)

    def may_run(self, pod: PodInfo, node: NodeState) -> bool:
        """Whether the pod, whose kind is allowed on the node, finds all else that it needs there."""
        if self._avoid and node.name in self._avoid.get(pod.key, NOTHING):
            return False
        return self.lacking(pod, node) is None

    def lacking(self, pod: PodInfo, node: NodeState) -> Obstacle | None:
        """What keeps the pod from a node on which its kind is allowed, or None."""
        found = shortage(pod, node.view.node, node.room)
        if found is None and self._company.concerns(pod):
            found = self._company.obstacle(pod, node.view.node)
        return found

    def with_a_place(self, pod: PodInfo, kind: int) -> Iterator[NodeState]:
        """Nodes on which the pod's slices are to be had, whatever else it needs, the best first."""
        demand = pod.demand
        single = len(demand) == 1 and demand[0][1] == 1
        bit = 1 << kind
        for _, node, _ in self._ranks(demand, odd_only=single).in_order():
            if node.allowed & bit:
                yield node
        if single:
            yield from (gpu.node for gpu, _, _ in self._index.in_order(kind, demand[0][0], self.mode))

    def _one_by_one(self, pod: PodInfo, kind: int, resource: str) -> tuple[NodeState, Picks] | None:
        """The slow way: GPUs in the order of what they cost, until the pod may run somewhere."""
        odd = next(self._by_node(pod, kind, odd_only=True), None)
        barred: set[NodeState] = set()
        for found in self._index.in_order(kind, resource, self.mode):
            if odd is not None and odd[0] < _rank(found):
                break
            node = found[0].node
            if node in barred:
                continue
            if self.may_run(pod, node):
                return node, ((found[0], found[2]),)
            barred.add(node)
        return None if odd is None else odd[1:]

    def _by_node(self, pod: PodInfo, kind: int, *, odd_only: bool) -> Iterator[tuple[_Rank, NodeState, Picks]]:
        bit = 1 << kind
        for rank, node, choice in self._ranks(pod.demand, odd_only=odd_only).in_order():
            if node.allowed & bit and self.may_run(pod, node):
                yield rank, node, [(node.gpus[pick.gpu], pick.option) for pick in choice.picks]

    def _ranks(self, demand: Demand, *, odd_only: bool) -> NodeRanks:
        ranks = self._ranked.get((demand, odd_only))
        if ranks is None:
            ranks = self._ranked[(demand, odd_only)] = NodeRanks(self._ledger, demand, odd_only=odd_only)
        return ranks


def _rank(found: tuple[GpuState, Cost, Option]) -> _Rank:
    gpu, cost, _ = found
    return cost, gpu.shape.key, gpu.node.name


class NodeRanks:
    """Nodes by what a demand costs on them: for several slices, and for nodes on which slices are spoken for."""

    def __init__(self, ledger: Ledger, demand: Demand, *, odd_only: bool) -> None:
        self._ledger = ledger
        self._demand = demand
        self._nodes = ledger.odd if odd_only else {each for each in ledger.nodes.values() if not each.problem}
        self._stale = set(self._nodes)
        self._found: dict[NodeState, tuple[_Rank, Choice]] = {}
        self._order: list[_Rank] = []
        ledger.watch(self._stale)

    def in_order(self) -> Iterator[tuple[_Rank, NodeState, Choice]]:
        """The nodes that could serve the demand, the cheapest first."""
        for node in self._stale & self._nodes:
            self._work_out(node)
        self._stale.clear()
        nodes = self._ledger.nodes
        for rank in self._order:
            node = nodes[rank[2]]
            yield rank, node, self._found[node][1]

    def _work_out(self, node: NodeState) -> None:
        before = self._found.pop(node, None)
        if before is not None:
            del self._order[bisect_left(self._order, before[0])]
        if any(resource in node.short for resource, _ in self._demand):
            return
        limits = {resource: node.spare(resource) for resource, _ in self._demand if node.outstanding[resource]}
        choice = self._ledger.fitter.fit(self._demand, [each.shape for each in node.gpus], limits).choice
        if choice is not None:
            rank = (choice.cost, node.gpus[choice.picks[0].gpu].shape.key, node.name)
            self._found[node] = (rank, choice)
            insort(self._order, rank)
