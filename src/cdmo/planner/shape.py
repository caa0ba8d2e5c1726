"""Shapes: what one GPU's layout lets a plan do next. Equal GPUs share one shape, so every answer is worked out once.

A shape is a value; taking an option leads to another shape. Nothing is copied or undone when a search backtracks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

from cdmo.model.gpu import Placement
from cdmo.planner.placement import EMPTY, CardTable, Cut, Layout

# What an option costs, compared from the left: memory slots of idle slices destroyed, slices created, slices
# that are still on their way, slots left free plus placements lost, rank of the start.
Cost = tuple[int, int, int, int, int]


@dataclass(frozen=True, slots=True)
class Option:
    """One way to give a slice of a profile on a GPU."""

    cost: Cost
    cut: Cut
    reuse: bool
    destroyed: Layout = EMPTY


class Shape:
    """One GPU's layout and how firmly each slice of it stands. Get it from `Shapes`."""

    __slots__ = ("_most", "_options", "coming", "layout", "loose", "spare", "table")

    def __init__(self, table: CardTable, layout: Layout, spare: Layout, loose: Layout, coming: Layout) -> None:
        self.table = table
        self.layout = layout  # everything that is to exist
        self.spare = spare  # of these, nobody's: a pod may be given them
        self.loose = loose  # of the spare ones, those that may be destroyed
        self.coming = coming  # of the layout, not yet real
        self._options: dict[str, tuple[Option, ...]] = {}
        self._most: dict[str, int] = {}

    def options(self, resource: str) -> tuple[Option, ...]:
        """Every way to give one slice of this resource, the cheapest first. Reused slices come before created."""
        known = self._options.get(resource)
        if known is None:
            profile = self.table.profile_for(resource)
            found = [] if profile is None else [*self._reuses(profile.id), *self._creates(profile.id)]
            known = tuple(sorted(found, key=lambda each: (each.cost, each.cut.placement, sorted(each.destroyed))))
            self._options[resource] = known
        return known

    def most(self, resource: str) -> int:
        """An upper bound of how many slices of this resource the GPU could give, were nothing else asked of it."""
        if resource not in self._most:
            self._most[resource] = self._count_most(resource)
        return self._most[resource]

    def _count_most(self, resource: str) -> int:
        profile = self.table.profile_for(resource)
        if profile is None:
            return 0
        firm = sum(each.profile_id == profile.id for each in self.spare - self.loose)
        return firm + self.table.most_of(profile.id, self.layout - self.loose)

    def nearest(self, resource: str) -> tuple[int, Cut] | None:
        """The placement with the fewest slots covered by slices that must stay, and how many these are."""
        profile = self.table.profile_for(resource)
        if profile is None:
            return None
        busy = self.table.mask(self.layout - self.loose)
        cuts = self.table.by_profile[profile.id]
        return min((((cut.mask & busy).bit_count(), cut) for cut in cuts), key=lambda each: each[0], default=None)

    def _reuses(self, profile_id: int) -> Iterator[Option]:
        for each in self.spare:
            if each.profile_id == profile_id:
                cut = self.table.cuts[each]
                yield Option((0, 0, int(each in self.coming), 0, 0), cut, reuse=True)

    def _creates(self, profile_id: int) -> Iterator[Option]:
        for cut in self.table.by_profile[profile_id]:
            for destroyed in self._ways_to_clear(cut):
                left = self.layout - destroyed
                after = left | {cut.placement}
                lost = len(self.table.addable(left)) - len(self.table.addable(after))
                score = self.table.free_slots(after) + lost
                slots = self.table.mask(destroyed).bit_count()
                yield Option((slots, 1, 0, score, cut.rank), cut, reuse=False, destroyed=destroyed)

    def _ways_to_clear(self, cut: Cut) -> list[Layout]:
        """The smallest sets of loose slices whose end makes this placement possible."""
        if cut.placement in self.table.addable(self.layout):
            return [EMPTY]
        cuts = self.table.cuts
        under = frozenset(each for each in self.layout if cuts[each].mask & cut.mask)
        if not under <= self.loose or cut.placement not in self.table.addable(self.layout - self.loose):
            return []
        ways: list[Layout] = []
        rest: list[Placement] = sorted(self.loose - under)
        for size in range(len(rest) + 1):
            for more in combinations(rest, size):
                destroyed = under.union(more)
                if any(way <= destroyed for way in ways):
                    continue
                if cut.placement in self.table.addable(self.layout - destroyed):
                    ways.append(destroyed)
        return ways


class Shapes:
    """All shapes of one plan, each kept once: two equal shapes are the same object."""

    def __init__(self) -> None:
        self._known: dict[tuple[CardTable, Layout, Layout, Layout, Layout], Shape] = {}

    def of(self, table: CardTable, layout: Layout, spare: Layout, loose: Layout, coming: Layout) -> Shape:
        """The shape with these parts."""
        key = (table, layout, spare, loose, coming)
        shape = self._known.get(key)
        if shape is None:
            shape = self._known[key] = Shape(*key)
        return shape

    def empty(self, table: CardTable) -> Shape:
        """The shape of a GPU without any slice."""
        return self.of(table, EMPTY, EMPTY, EMPTY, EMPTY)

    def after(self, shape: Shape, option: Option) -> Shape:
        """What the GPU is once the option was taken: the slice given is in the layout and somebody's."""
        given = frozenset((option.cut.placement,))
        gone = option.destroyed | given
        return self.of(
            shape.table,
            (shape.layout - option.destroyed) | given,
            shape.spare - gone,
            shape.loose - gone,
            (shape.coming - option.destroyed) if option.reuse else (shape.coming - option.destroyed) | given,
        )
