"""GPUs in buckets, so that the cheapest place for a slice is found without looking at every GPU.

Nodes on which the same kinds of pods may run form a node class. The GPUs of a class lie in buckets by shape, and
for each resource that was asked for a class ranks its buckets by what a slice of it costs there. A decision looks
at the cheapest bucket of each class; which GPU of a bucket it is, their names decide.

A GPU that moves to another bucket is left in the heap of the old one and skipped when it is met there.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from heapq import heappop, heappush, merge

from cdmo.model.cluster import PodInfo
from cdmo.planner.eligible import Eligibility, kind_of
from cdmo.planner.ledger import GpuState, NodeState
from cdmo.planner.shape import Cost, Mode, Option, Shape

MOST_KINDS = 256  # then those that nobody asks for any more are forgotten

MOST_FILLED = 20_000  # moves of GPUs that a ranking is ready to catch up with from one plan to the next

_Entry = tuple[str, int, int, GpuState]
_Asked = tuple[str, Mode]  # a resource, and what counts
_Rank = tuple[Cost, tuple[object, ...], int, "Bucket"]


class Bucket:
    """The GPUs of one class that have one shape."""

    __slots__ = ("_heap", "_inside", "node_class", "number", "ranked", "shape")

    def __init__(self, node_class: NodeClass, shape: Shape, number: int) -> None:
        self.node_class = node_class
        self.shape = shape
        self.number = number
        self.ranked: set[_Asked] = set()  # in whose ranking it stands
        self._heap: list[_Entry] = []
        self._inside: set[GpuState] = set()  # whose entry is in the heap, be they still here or not

    def add(self, gpu: GpuState) -> None:
        """The GPU has this shape now."""
        gpu.bucket = self
        if gpu not in self._inside:
            self._inside.add(gpu)
            heappush(self._heap, gpu.entry)

    def first(self) -> GpuState | None:
        """The GPU that comes first by its node's name and its own place, or None."""
        heap = self._heap
        while heap:
            gpu = heap[0][3]
            if gpu.bucket is self:
                return gpu
            heappop(heap)
            self._inside.discard(gpu)
        return None

    def in_order(self) -> Iterator[GpuState]:
        """Every GPU of this shape, the first one first. Nearly always the caller stops soon."""
        heap = self._heap.copy()
        while heap:
            gpu = heappop(heap)[3]
            if gpu.bucket is self:
                yield gpu


class _Ranking:
    """Buckets by what a slice costs in them."""

    __slots__ = ("_asked", "_heap", "seen")

    def __init__(self, asked: _Asked) -> None:
        self._asked = asked
        self._heap: list[_Rank] = []
        self.seen = 0  # how many of the filled buckets it has entered

    def enter(self, buckets: Iterable[Bucket]) -> None:
        """Rank these buckets too, as far as they can give a slice."""
        asked = self._asked
        resource, mode = asked
        for bucket in buckets:
            if asked not in bucket.ranked:
                bucket.ranked.add(asked)
                best = bucket.shape.best(resource, mode)
                if best is not None:
                    heappush(self._heap, (best[0], bucket.shape.key, bucket.number, bucket))

    def top(self) -> _Rank | None:
        """The cheapest bucket that has a GPU. Empty ones are dropped until they are filled again."""
        heap = self._heap
        while heap:
            bucket = heap[0][3]
            if bucket.first() is not None:
                return heap[0]
            heappop(heap)
            bucket.ranked.discard(self._asked)
        return None

    def all(self) -> list[_Rank]:
        """Every bucket that has a GPU."""
        return [rank for rank in self._heap if rank[3].first() is not None]


class NodeClass:
    """Nodes on which the same kinds of pods may run."""

    def __init__(self, allowed: int) -> None:
        self.allowed = allowed
        self.nodes: set[NodeState] = set()
        self._buckets: dict[Shape, Bucket] = {}
        self._ranks: dict[_Asked, _Ranking] = {}
        self._filled: list[Bucket] = []  # buckets that GPUs came into: what rankings have to look at when next asked

    def add(self, node: NodeState) -> None:
        """The node and its GPUs belong to this class. A node with slices spoken for is not ranked by GPU."""
        self.nodes.add(node)
        node.node_class = self
        if not node.outstanding:
            for gpu in node.gpus:
                self.move(gpu)

    def remove(self, node: NodeState) -> None:
        """The node and its GPUs belong here no longer."""
        self.nodes.discard(node)
        node.node_class = None
        for gpu in node.gpus:
            gpu.bucket = None

    def move(self, gpu: GpuState) -> None:
        """The GPU has another shape than before."""
        shape = gpu.shape
        bucket = self._buckets.get(shape)
        if bucket is None:
            bucket = self._buckets[shape] = Bucket(self, shape, len(self._buckets))
        bucket.add(gpu)
        if len(bucket.ranked) < len(self._ranks):
            self._filled.append(bucket)

    def begin(self) -> None:
        """A new plan begins: rankings that would have too much to catch up with are made anew when asked for."""
        if len(self._filled) > MOST_FILLED:
            self._filled.clear()
            self._ranks.clear()
            for bucket in self._buckets.values():
                bucket.ranked.clear()

    def top(self, asked: _Asked) -> _Rank | None:
        """The bucket in which a slice of this resource is the cheapest."""
        return self._ranking(asked).top()

    def ranked(self, asked: _Asked) -> list[_Rank]:
        """Every bucket in which a slice of this resource is to be had, in no order."""
        return self._ranking(asked).all()

    def _ranking(self, asked: _Asked) -> _Ranking:
        ranking = self._ranks.get(asked)
        if ranking is None:
            ranking = self._ranks[asked] = _Ranking(asked)
            ranking.enter(self._buckets.values())
        elif ranking.seen < len(self._filled):
            ranking.enter(self._filled[ranking.seen :])
        ranking.seen = len(self._filled)
        return ranking

    def buckets(self) -> Iterator[Bucket]:
        """Those that have GPUs."""
        return (bucket for bucket in self._buckets.values() if bucket.first() is not None)


class Index:
    """Node classes, and which kind of pod may run in which."""

    def __init__(self) -> None:
        self._eligibility = Eligibility()
        self._kinds: dict[Hashable, tuple[int, PodInfo]] = {}  # its number, and one pod of it
        self._classes: dict[int, NodeClass] = {}
        self._nodes: dict[str, NodeState] = {}
        self._by_kind: dict[int, list[NodeClass]] = {}

    def begin(self) -> None:
        """A new plan begins."""
        for node_class in self._classes.values():
            node_class.begin()

    def update(self, gone: Iterable[NodeState], came: Iterable[NodeState]) -> None:
        """Nodes went and came. Those on which nothing can be planned are left out."""
        for node in gone:
            if node.node_class is not None:
                node.node_class.remove(node)
                del self._nodes[node.name]
        fresh = [node for node in came if not node.problem]
        for node in fresh:
            node.allowed = 0
        for number, example in self._kinds.values():
            self._judge(number, example, fresh)
        for node in fresh:
            self._nodes[node.name] = node
            self._class_of(node.allowed).add(node)
        if came or gone:
            self._by_kind.clear()

    def rank(self, resources: Iterable[str], mode: Mode) -> None:
        """Work out where a slice of each resource is the cheapest, before anybody asks."""
        for node_class in self._classes.values():
            for resource in resources:
                node_class.top((resource, mode))

    def learn(self, pods: Sequence[PodInfo]) -> list[int]:
        """The number of each pod's kind; new kinds are judged on every node."""
        numbers = self._numbers(pods)
        if len(self._kinds) > MOST_KINDS:
            nodes = list(self._nodes.values())
            self._kinds.clear()
            self._eligibility = Eligibility()
            self.update(nodes, ())
            self._classes.clear()
            numbers = self._numbers(pods)
            self.update((), nodes)
        return numbers

    def _numbers(self, pods: Sequence[PodInfo]) -> list[int]:
        numbers = []
        fresh = []
        for pod in pods:
            kind = kind_of(pod)
            known = self._kinds.get(kind)
            if known is None:
                known = self._kinds[kind] = (len(self._kinds), pod)
                fresh.append(known)
            numbers.append(known[0])
        if fresh and self._nodes:
            for number, example in fresh:
                self._judge(number, example, self._nodes.values())
            self._sort_nodes()
        return numbers

    def _judge(self, number: int, example: PodInfo, nodes: Iterable[NodeState]) -> None:
        bit = 1 << number
        listed = list(nodes)
        found = self._eligibility.judge(example, [node.view.node for node in listed])
        for node, obstacle in zip(listed, found, strict=True):
            if obstacle is None:
                node.allowed |= bit

    def _sort_nodes(self) -> None:
        """Put nodes into the class of what is allowed on them. Of a class that falls apart the largest part stays."""
        self._by_kind.clear()
        for node_class in list(self._classes.values()):
            parts: dict[int, list[NodeState]] = {}
            for node in node_class.nodes:
                parts.setdefault(node.allowed, []).append(node)
            del self._classes[node_class.allowed]
            if not parts:
                continue
            stays = max(parts, key=lambda allowed: (len(parts[allowed]), allowed))
            node_class.allowed = stays
            self._classes[stays] = node_class
            for allowed, nodes in parts.items():
                if allowed != stays:
                    for node in nodes:
                        node_class.remove(node)
                        self._class_of(allowed).add(node)

    def _class_of(self, allowed: int) -> NodeClass:
        node_class = self._classes.get(allowed)
        if node_class is None:
            node_class = self._classes[allowed] = NodeClass(allowed)
        return node_class

    def classes(self, kind: int) -> list[NodeClass]:
        """The classes on whose nodes pods of this kind may run."""
        known = self._by_kind.get(kind)
        if known is None:
            bit = 1 << kind
            known = [each for each in self._classes.values() if each.allowed & bit and each.nodes]
            self._by_kind[kind] = known
        return known

    def cheapest(self, kind: int, resource: str, mode: Mode) -> tuple[GpuState, Cost, Option] | None:
        """The best GPU for one slice, whatever else its node has room for."""
        asked = (resource, mode)
        best: _Rank | None = None
        first: GpuState | None = None
        for node_class in self.classes(kind):
            top = node_class.top(asked)
            if top is None:
                continue
            if best is None or top[:2] < best[:2]:
                best, first = top, top[3].first()
            elif top[:2] == best[:2] and first is not None:
                other = top[3].first()
                if other is not None and other.entry[:2] < first.entry[:2]:
                    best, first = top, other
        found = None if first is None else first.shape.best(resource, mode)
        return None if first is None or found is None else (first, *found)

    def in_order(self, kind: int, resource: str, mode: Mode) -> Iterator[tuple[GpuState, Cost, Option]]:
        """Every GPU that could give one slice, the best first."""
        ranked: dict[tuple[Cost, tuple[object, ...]], list[Bucket]] = {}
        for node_class in self.classes(kind):
            for rank in node_class.ranked((resource, mode)):
                ranked.setdefault(rank[:2], []).append(rank[3])
        for place in sorted(ranked):
            buckets = ranked[place]
            best = buckets[0].shape.best(resource, mode)
            gpus = buckets[0].in_order()
            if len(buckets) > 1:
                gpus = merge(*(each.in_order() for each in buckets), key=lambda each: each.entry[:2])
            if best is not None:
                yield from ((gpu, *best) for gpu in gpus)
