"""A window kept for a pod that has waited for long: slots that are given to nobody else until it can have them.

Without it a request for a whole GPU never runs under a constant stream of small ones: some of its slots are always
busy. The window lies where the fewest slots are busy now, and among such where the last of the pods in it started
first. Since nobody new gets a place there, it only becomes emptier from one plan to the next.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from cdmo.model.cluster import PodInfo
from cdmo.model.gpu import DeviceState, Placement
from cdmo.planner.eligible import Bar, shortage
from cdmo.planner.fit import Demand
from cdmo.planner.index import Index
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
                    shape.kept | mask,
                ),
            )


def keep_window(pod: PodInfo, kind: int, ledger: Ledger, index: Index) -> KeptWindow | None:
    """Keep the window that will be free first, or None when the pod could not have it on any node even then."""
    bit = 1 << kind
    nodes = [node for node in ledger.in_order() if not node.problem and node.allowed & bit][:MOST_NODES]
    found: list[tuple[int, float, str, KeptWindow]] = []
    for node in nodes:
        lacking = shortage(pod, node.view.node, node.room)
        if lacking is not None and lacking.bar is Bar.NEVER:
            continue
        for holds in _ways(pod.demand, node, ledger):
            blocked = sum(hold.gpu.table.mask(hold.in_the_way).bit_count() for hold in holds)
            found.append((blocked, _newest(node, holds), node.name, KeptWindow(node, holds)))
    if not found:
        return None
    window = min(found, key=lambda each: each[:3])[3]
    window.keep(ledger)
    return window


def _ways(demand: Demand, node: NodeState, ledger: Ledger) -> Iterator[tuple[Hold, ...]]:
    """Ways to give the demand on this node once what runs there has ended: for one slice all, for several one."""
    ended = [_once_ended(each, ledger) for each in node.gpus]
    if len(demand) == 1 and demand[0][1] == 1:
        for gpu, shape in zip(node.gpus, ended, strict=True):
            for option in shape.options(demand[0][0]):
                yield (Hold(gpu, option.cut, option.destroyed),)
        return
    choice = ledger.fitter.fit(demand, ended, {}).choice
    if choice is not None:
        yield tuple(Hold(node.gpus[pick.gpu], pick.option.cut, pick.option.destroyed) for pick in choice.picks)


def _once_ended(gpu: GpuState, ledger: Ledger) -> Shape:
    """The GPU as if its busy slices could be destroyed: what a choice destroys is then what stands in the way."""
    shape = gpu.shape
    layout = shape.layout - shape.loose
    broken = frozenset(each.placement for each in gpu.gpu.slices if each.state is DeviceState.BROKEN)
    return ledger.shapes.of(shape.table, layout, EMPTY, layout - broken, shape.coming & layout, shape.kept)


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
