"""Shapes: what one GPU's layout lets a plan do next. Equal GPUs share one shape, so every answer is worked out once.

A shape is a value; taking an option leads to another shape. Nothing is copied or undone when a search backtracks.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum
from itertools import combinations

import msgspec

from cdmo.model.gpu import Placement
from cdmo.planner.placement import EMPTY, CardTable, Cut, Layout
from cdmo.planner.worth import CREATE, DESTROY, Worth

Cost = tuple[int, int, int, int, int]  # compared from the left
Kept = tuple[tuple[Placement, tuple[Placement, ...]], ...]  # windows: what is to be cut, what has to end before
Parts = tuple[CardTable, Layout, Layout, Layout, Layout, Kept]


class Mode(IntEnum):
    """What counts when places are compared."""

    PLENTY = 0  # there is room: reuse, else create in free slots, else destroy; among such the least loss of worth
    SCARCE = 1  # room is short: the least loss of worth, in which a change has its price
    TIGHT = 2  # not everybody can be served: idle slices are free slots, and what smaller slices could use is kept
    BULKY = 3  # the same, with what takes most of a card's memory or engines for the larger


class Option(msgspec.Struct, frozen=True, eq=False):
    """One way to give a slice of a profile on a GPU. A shape has each of its options once."""

    cut: Cut
    reuse: bool
    loss: int  # of worth, see `worth`
    destroyed: Layout = EMPTY
    slots: int = 0  # memory slots of what is destroyed
    coming: bool = False  # the slice is still on its way


class Shape:
    """One GPU's layout and how firmly each slice of it stands. Get it from `Shapes`."""

    __slots__ = (
        "_after",
        "_best",
        "_firm",
        "_most",
        "_nearest",
        "_options",
        "_ranked",
        "_shapes",
        "coming",
        "kept",
        "key",
        "layout",
        "loose",
        "spare",
        "table",
    )

    def __init__(self, shapes: Shapes, parts: Parts) -> None:
        self._shapes = shapes
        self.table, self.layout, self.spare, self.loose, self.coming, self.kept = parts
        # layout: everything that is to exist
        # spare: of these, nobody's: a pod may be given them
        # loose: of the spare ones, those that may be destroyed
        # coming: of the layout, not yet real
        # kept: windows in which nobody may be given anything
        bits = self.table.bits
        self.key = (
            self.table.key,
            bits(self.layout),
            bits(self.spare),
            bits(self.loose),
            bits(self.coming),
            self.kept,
        )
        self._firm = self.layout - self.loose if self.loose else self.layout  # what stays whatever happens
        self._options: dict[str, tuple[Option, ...]] = {}
        self._best: dict[tuple[str, Mode], tuple[Cost, Option] | None] = {}
        self._ranked: dict[tuple[str, Mode], tuple[tuple[Cost, Option], ...]] = {}
        self._most: dict[str, int] = {}
        self._nearest: dict[str, tuple[int, Cut] | None] = {}
        self._after: dict[Option, Shape] = {}

    def options(self, resource: str) -> tuple[Option, ...]:
        """Every way to give one slice of this resource."""
        known = self._options.get(resource)
        if known is None:
            profile = self.table.profile_for(resource)
            if profile is not None:
                known = (*self._reuses(profile.id), *self._creates(profile.id))
            self._options[resource] = known = known or ()
        return known

    def best(self, resource: str, mode: Mode) -> tuple[Cost, Option] | None:
        """The cheapest way to give one slice of this resource, and what it costs."""
        asked = (resource, mode)
        try:
            return self._best[asked]
        except KeyError:
            found = [(self.cost(each, mode), each) for each in self.options(resource)]
            best = min(found, key=_rank) if len(found) > 1 else found[0] if found else None
            self._best[asked] = best
            return best

    def ranked(self, resource: str, mode: Mode) -> tuple[tuple[Cost, Option], ...]:
        """Every way to give one slice of this resource with what it costs, the cheapest first."""
        asked = (resource, mode)
        known = self._ranked.get(asked)
        if known is None:
            found = [(self.cost(each, mode), each) for each in self.options(resource)]
            known = self._ranked[asked] = tuple(sorted(found, key=_rank))
        return known

    def cost(self, option: Option, mode: Mode) -> Cost:
        """What an option costs."""
        cut, created = option.cut, not option.reuse
        if mode is Mode.PLENTY:
            return (option.slots, created, option.coming, option.loss, cut.crowd)
        if mode is Mode.SCARCE:
            price = option.loss + created * CREATE + len(option.destroyed) * DESTROY
            return (price, option.coming, cut.rank, 0, 0)
        firm = self._firm - {cut.placement}
        lost = self.table.fits_lost(firm, cut, by_bulk=mode is Mode.BULKY)
        return (lost, self.table.free_slots(firm), cut.rank, created, option.slots)

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
        """Of the placements that cannot be had the one with the fewest slots in the way, and how many these are."""
        if resource not in self._nearest:
            profile = self.table.profile_for(resource)
            busy = self.table.mask(self._firm) | self.table.mask(each for each, _ in self.kept)
            cuts = self.table.by_profile[profile.id] if profile is not None else ()
            free = self.table.addable(self._firm)
            found = [((cut.mask & busy).bit_count(), cut) for cut in cuts]
            shut = [each for each in found if each[0] or each[1].placement not in free]
            self._nearest[resource] = min(shut, key=lambda each: each[0], default=None)
        return self._nearest[resource]

    def _reuses(self, profile_id: int) -> Iterator[Option]:
        for each in self.spare:
            cut = self.table.cuts[each]
            if each.profile_id == profile_id and not self._in_a_window(cut):
                loss = self._worth.loss(self._firm - {each}, cut)
                yield Option(cut, True, loss, coming=each in self.coming)

    def _creates(self, profile_id: int) -> Iterator[Option]:
        table = self.table
        cuts = table.by_profile[profile_id]
        addable = table.addable(self.layout)
        if not self.loose and addable.isdisjoint(table.placements[profile_id]):
            return
        loss, firm = self._worth.loss, self._firm
        for cut in cuts:
            if self.kept and self._in_a_window(cut):
                continue
            if cut.placement in addable:
                yield Option(cut, False, loss(firm, cut))
            elif self.loose:
                for destroyed in self._ways_to_clear(cut):
                    yield Option(cut, False, loss(firm, cut), destroyed, table.mask(destroyed).bit_count())

    def _in_a_window(self, cut: Cut) -> bool:
        """Whether a slice would take slots, or engines, that a window kept here needs."""
        for placement, ending in self.kept:
            if cut.mask & self.table.cuts[placement].mask:
                return True
            if placement not in self.table.addable((self._firm - frozenset(ending)) | {cut.placement}):
                return True
        return False

    @property
    def _worth(self) -> Worth:
        return self._shapes.worth_of(self.table)

    def _ways_to_clear(self, cut: Cut) -> list[Layout]:
        """The smallest sets of loose slices whose end makes this placement possible, when it is not so."""
        addable, layout = self.table.addable, self.layout
        under = layout & self.table.overlapping(cut)
        if not under <= self.loose:
            return []
        if cut.placement in addable(layout - under):
            return [under]
        if cut.placement not in addable(layout - self.loose):
            return []
        ways: list[Layout] = []
        rest: list[Placement] = sorted(self.loose - under)
        for size in range(len(rest) + 1):
            for more in combinations(rest, size):
                destroyed = under.union(more)
                if any(way <= destroyed for way in ways):
                    continue
                if cut.placement in addable(layout - destroyed):
                    ways.append(destroyed)
        return ways

    def after(self, option: Option) -> Shape:
        """What the GPU is once one of its options was taken: the slice given is in the layout and somebody's."""
        known = self._after.get(option)
        if known is None:
            given = frozenset((option.cut.placement,))
            gone = option.destroyed | given
            coming = self.coming - option.destroyed
            known = self._after[option] = self._shapes.of(
                self.table,
                (self.layout - option.destroyed) | given,
                self.spare - gone,
                self.loose - gone,
                coming if option.reuse else coming | given,
                self.kept,
            )
        return known


class Shapes:
    """All shapes that were met, each kept once: two equal shapes are the same object."""

    def __init__(self) -> None:
        self._known: dict[Parts, Shape] = {}
        self._worths: dict[CardTable, Worth] = {}

    def worth_of(self, table: CardTable) -> Worth:
        """What places on this card are worth."""
        worth = self._worths.get(table)
        if worth is None:
            worth = self._worths[table] = Worth(table)
        return worth

    def __len__(self) -> int:
        return len(self._known)

    def of(
        self, table: CardTable, layout: Layout, spare: Layout, loose: Layout, coming: Layout, kept: Kept = ()
    ) -> Shape:
        """The shape with these parts."""
        parts = (table, layout, spare, loose, coming, kept)
        shape = self._known.get(parts)
        if shape is None:
            shape = self._known[parts] = Shape(self, parts)
        return shape

    def empty(self, table: CardTable) -> Shape:
        """The shape of a GPU without any slice."""
        return self.of(table, EMPTY, EMPTY, EMPTY, EMPTY)


def _rank(found: tuple[Cost, Option]) -> tuple[Cost, Placement, list[Placement]]:
    cost, option = found
    return cost, option.cut.placement, sorted(option.destroyed)
