"""A window kept for a pod that has waited for long: slots that are given to nobody else until it can have them.

Without it a request for a whole GPU never runs under a constant stream of small ones: some of its slots are always
busy. The window lies where the fewest slots are busy now, and among such where the last of the pods in it started
first. Since nobody new gets a place there, it only becomes emptier from one plan to the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from cdmo.model.cluster import PodInfo
from cdmo.model.gpu import Placement
from cdmo.planner.eligible import Bar, shortage
from cdmo.planner.fit import Demand
from cdmo.planner.ledger import GpuState, Ledger, NodeState
from cdmo.planner.placement import EMPTY, Cut, Layout
from cdmo.planner.shape import Shape

MOST_NODES = 1_000  # looked at for one window, in the order of their names


@dataclass(frozen=True, slots=True)
class Hold:
    """One slice of a window: where it is to be cut, and what has to end before."""

    gpu: GpuState
    cut: Cut
    in_the_way: Layout


@dataclass(frozen=True, slots=True)
class KeptWindow:
    """Where a pod's slices are to be cut once what runs there has ended."""

    node: NodeState
    holds: tuple[Hold, ...]

    def is_clear(self) -> bool:
        """Whether nothing has come into the window that was not there when it was chosen."""
        return all(
            (hold.gpu.shape.layout - hold.gpu.shape.loose) & hold.gpu.table.overlapping(hold.cut) <= hold.in_the_way
            for hold in self.holds
        )

    def keep(self, ledger: Ledger) -> None:
        """Give the window's slots to nobody. Idle slices in it go, for the scheduler would bind pods to them."""
        for hold in self.holds:
            shape, mask = hold.gpu.shape, hold.cut.mask
            idle = frozenset(each for each in shape.loose if shape.table.cuts[each].mask & mask)
            ledger.turn(
                hold.gpu,
                ledger.shapes.of(
                    shape.table,
                    shape.layout - idle,
                    shape.spare - idle,
                    shape.loose - idle,
                    shape.coming - idle,
                    tuple(sorted({*shape.kept, (hold.cut.placement, shape.table.ascending(hold.in_the_way))})),
                ),
            )


def keep_window(pod: PodInfo, kind: int, ledger: Ledger, avoid: frozenset[str]) -> KeptWindow | None:
    """Keep the window that will be free first, or None when the pod could not have it on any node even then.

    avoid: names of nodes on which the pod was tried in vain.
    """
    bit = 1 << kind
    asked = [resource for resource, _ in pod.demand]
    able = (
        node
        for node in ledger.in_order()
        if not node.problem and node.allowed & bit and node.name not in avoid and node.short.isdisjoint(asked)
    )
    nodes = list(islice(able, MOST_NODES))
    fewest: int | None = None
    ways: list[tuple[NodeState, tuple[Hold, ...]]] = []
    for node in nodes:
        found = _fewest(pod.demand, node, ledger)
        if found is None or (fewest is not None and found[0] > fewest):
            continue
        lacking = shortage(pod, node.view.node, node.room)
        if lacking is not None and lacking.bar is Bar.NEVER:
            continue
        if fewest is None or found[0] < fewest:
            fewest, ways = found[0], []
        ways += [(node, holds) for holds in found[1]]
    if not ways:
        return None
    node, holds = min(ways, key=lambda each: (_newest(*each), each[0].name))
    window = KeptWindow(node, holds)
    window.keep(ledger)
    return window


def _fewest(demand: Demand, node: NodeState, ledger: Ledger) -> tuple[int, Sequence[tuple[Hold, ...]]] | None:
    """The ways to give the demand on this node once what runs there has ended in which the fewest slots are busy now.

    For one slice all of them are looked at, for several one.
    """
    ended = [_once_ended(each, ledger) for each in node.gpus]
    if len(demand) == 1 and demand[0][1] == 1:
        options = [shape.options(demand[0][0]) for shape in ended]
        fewest = min((each.slots for row in options for each in row), default=None)
        if fewest is None:
            return None
        return fewest, [
            (Hold(gpu, each.cut, each.destroyed),)
            for gpu, row in zip(node.gpus, options, strict=True)
            for each in row
            if each.slots == fewest
        ]
    choice = ledger.fitter.fit(demand, ended, {}).choice
    if choice is None:
        return None
    holds = tuple(Hold(node.gpus[pick.gpu], pick.option.cut, pick.option.destroyed) for pick in choice.picks)
    return sum(pick.option.slots for pick in choice.picks), [holds]


def _once_ended(gpu: GpuState, ledger: Ledger) -> Shape:
    """The GPU as if its busy slices could be destroyed: what a choice destroys is then what stands in the way."""
    shape = gpu.shape
    known = ledger.ended.get((shape, gpu.broken))
    if known is None:
        layout = shape.layout - shape.loose
        known = ledger.shapes.of(shape.table, layout, EMPTY, layout - gpu.broken, shape.coming & layout, shape.kept)
        ledger.ended[(shape, gpu.broken)] = known
    return known


def _newest(node: NodeState, holds: tuple[Hold, ...]) -> float:
    """When the youngest pod in the way was created; a slice without a known pod counts as just begun."""
    created = {(pod.key.namespace, pod.key.name): pod.created for pod in node.view.pods}
    newest = 0.0
    for hold in holds:
        for placement in hold.in_the_way:
            newest = max(newest, _created(hold.gpu, placement, created))
    return newest


def _created(gpu: GpuState, placement: Placement, created: dict[tuple[str, str], float]) -> float:
    for each in gpu.gpu.slices:
        if each.placement == placement and each.pod is not None:
            return created.get((each.pod.namespace, each.pod.name), float("inf"))
    return float("inf")
