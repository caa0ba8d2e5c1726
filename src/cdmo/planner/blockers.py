"""What stands in the way of a slice, and the sentences that say so."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from cdmo.model.gpu import DeviceState, Placement, PodKey
from cdmo.model.snapshot import Assignment
from cdmo.planner import reasons
from cdmo.planner.fit import Demand
from cdmo.planner.ledger import GpuState
from cdmo.planner.placement import Cut
from cdmo.planner.window import KeptWindow

_Owners = dict[tuple[str, str], dict[Placement, PodKey]]


class Blockers:
    """Names the slices that have to stay.

    given: what this plan gives to whom. keeper: the pod that a window is kept for.
    """

    def __init__(self, given: Sequence[Assignment], keeper: PodKey | None) -> None:
        self._given = given
        self._keeper = keeper
        self._owners: _Owners | None = None

    def of_place(self, gpu: GpuState, cut: Cut) -> str:
        """Why one slice cannot be had: the nearest place and what is in it."""
        return reasons.slots_in_the_way(cut.profile.size, gpu.node.name, gpu.bus, self._in_the_way(gpu, cut))

    def of_count(self, demand: Demand, node: str, resource: str, room: int, near: tuple[GpuState, Cut] | None) -> str:
        """Why several slices cannot be had: a node with room for some, and its nearest place for one more."""
        if near is None:
            return reasons.too_few(demand, node, resource, room, "", ())
        return reasons.too_few(demand, node, resource, room, near[0].bus, self._in_the_way(*near))

    def of_window(self, demand: Demand, window: KeptWindow) -> str:
        """What has to end before the pod can have the window that is kept for it."""
        found = [text for hold in window.holds for text in self._texts(hold.gpu, _by_start(hold.in_the_way))]
        return reasons.window_kept(demand, window.node.name, window.holds[0].gpu.bus, found)

    def _in_the_way(self, gpu: GpuState, cut: Cut) -> list[str]:
        """The slices that must stay and cover slots of this placement, from the lowest slot up."""
        staying = gpu.shape.layout - gpu.shape.loose
        found = self._texts(gpu, _by_start(each for each in staying if gpu.table.cuts[each].mask & cut.mask))
        windows = gpu.table.mask(placement for placement, _ in gpu.shape.kept)
        if self._keeper is not None and (cut.mask & windows or (gpu.shape.kept and not found)):
            found.append(reasons.kept_for(str(self._keeper)))
        return found

    def _texts(self, gpu: GpuState, placements: Iterable[Placement]) -> list[str]:
        return [self._text(gpu, each) for each in placements]

    def _text(self, gpu: GpuState, placement: Placement) -> str:
        name = gpu.table.cuts[placement].profile.name
        owner = self._owner(gpu, placement)
        if owner is not None:
            return reasons.blocker(name, placement.start, str(owner), unfit="", planned=True)
        there = next((each for each in gpu.gpu.slices if each.placement == placement), None)
        if there is None or placement not in gpu.held:
            return reasons.spoken_for(name, placement.start)
        unfit = str(there.state).lower() if there.state in (DeviceState.BROKEN, DeviceState.UNHEALTHY) else ""
        return reasons.blocker(name, placement.start, str(there.pod) if there.pod else "", unfit=unfit, planned=False)

    def _owner(self, gpu: GpuState, placement: Placement) -> PodKey | None:
        if self._owners is None:
            self._owners = {}
            for assignment in self._given:
                for each in assignment.slices:
                    self._owners.setdefault((assignment.node, each.gpu), {})[each.placement] = assignment.pod
        return self._owners.get((gpu.node.name, gpu.bus), {}).get(placement)


def _by_start(placements: Iterable[Placement]) -> list[Placement]:
    return sorted(placements, key=lambda each: each.start)
