"""What a card can be cut into: slot masks, legal placements, legal layouts. Computed once per GPU model.

A layout is legal when no two instances share a memory slot and no total is exceeded: instances per profile,
compute slices, media engines. NVML answers NVML_ERROR_INSUFFICIENT_RESOURCES to anything else.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache

from msgspec import structs

from cdmo.model.gpu import Placement
from cdmo.model.profile import Engines, GpuModel, Profile

Layout = frozenset[Placement]
EMPTY: Layout = frozenset()

MOST_SLOTS = 64  # of a card that is believed; today's have at most 12
_HIGH_STARTS_FIRST = (1, 3)  # compute slices of the profiles that keep big windows whole from the high end


@dataclass(frozen=True, slots=True)
class Cut:
    """A placement of a profile that the card allows, with the memory slots it covers."""

    placement: Placement
    profile: Profile
    mask: int  # bit n is memory slot n
    rank: int  # 0 is the start to try first
    crowd: int = 0  # how many placements of the card share slots with it, then its rank: small ones hurt least


@dataclass(frozen=True, slots=True)
class _Used:
    """What a layout takes of a card."""

    mask: int
    compute_slices: int
    engines: tuple[int, ...]
    instances: dict[int, int]  # by profile id


class CardTable:
    """The precomputed table of one GPU model. Get it from `table_of`."""

    def __init__(self, model: GpuModel) -> None:
        model = _distinct(model)
        self.model = model
        self.memory_slots = model.memory_slots
        self.key = (model.product, repr(model.profiles))  # orders tables the same way in every run
        self.by_profile: dict[int, tuple[Cut, ...]] = _all_cuts(model)
        self.placements = {
            profile_id: frozenset(cut.placement for cut in cuts) for profile_id, cuts in self.by_profile.items()
        }
        self.cuts: dict[Placement, Cut] = {cut.placement: cut for cuts in self.by_profile.values() for cut in cuts}
        self._numbers = {each: 1 << number for number, each in enumerate(sorted(self.cuts))}
        self._bits: dict[Layout, int] = {}
        self._by_resource = {each.resource: each for each in reversed(model.profiles)}
        self._counted = _counted_engines(model)
        self._engines = tuple(_engine_counts(model.engines)[index] for index in self._counted)
        self._overlapping = {
            mask: frozenset(each.placement for each in self.cuts.values() if each.mask & mask)
            for mask in {cut.mask for cut in self.cuts.values()}
        }
        self._addable: dict[Layout, Layout] = {}
        self._fits: dict[Layout, tuple[int, ...]] = {}
        self._kinds = _different(model)
        self._ascending: dict[Layout, tuple[Placement, ...]] = {}

    def profile_for(self, resource: str) -> Profile | None:
        """The profile that the device plugin advertises under this resource, or None."""
        return self._by_resource.get(resource)

    def layout(self, placements: Iterable[Placement]) -> Layout:
        """The placements as a set of the table's own values: sets of identical objects compare fastest."""
        return frozenset(self.cuts[each].placement if each in self.cuts else each for each in placements)

    def resource_at(self, placement: Placement) -> str:
        """The extended resource of the profile placed there."""
        return self.cuts[placement].profile.resource

    def bits(self, layout: Layout) -> int:
        """The layout as a number, a bit for each placement: it orders layouts the same way in every run."""
        known = self._bits.get(layout)
        if known is None:
            known = self._bits[layout] = sum([self._numbers[each] for each in layout])
        return known

    def ascending(self, layout: Layout) -> tuple[Placement, ...]:
        """The layout's placements in order; worked out once for each layout."""
        known = self._ascending.get(layout)
        if known is None:
            known = self._ascending[layout] = tuple(sorted(layout))
        return known

    def knows(self, placements: Iterable[Placement]) -> bool:
        """Whether the card's table lists every one of them."""
        return all(each in self.cuts for each in placements)

    def overlaps(self, placements: Iterable[Placement]) -> bool:
        """Whether two of these known placements share a memory slot."""
        covered = 0
        for each in placements:
            mask = self.cuts[each].mask
            if covered & mask:
                return True
            covered |= mask
        return False

    def mask(self, placements: Iterable[Placement]) -> int:
        """The memory slots that known placements cover together."""
        covered = 0
        for each in placements:
            covered |= self.cuts[each].mask
        return covered

    def free_slots(self, layout: Layout) -> int:
        """Memory slots that no instance of the layout covers."""
        return self.memory_slots - self.mask(layout).bit_count()

    def bulk(self, profile: Profile) -> int:
        """The share of the card that an instance leaves to no other, in thousandths: of memory or of decoders.

        An instance with all engines of the card is as bulky as one with all of its memory: hardly anything fits
        beside it.
        """
        decoders = self.model.engines.decoder
        of_engines = profile.engines.decoder * 1000 // decoders if decoders else 0
        return max(profile.size * 1000 // max(1, self.memory_slots), of_engines)

    def overlapping(self, cut: Cut) -> Layout:
        """The card's placements that share memory slots with this one, itself among them."""
        return self._overlapping[cut.mask]

    def addable(self, layout: Layout) -> Layout:
        """The placements that could still be created beside all of the layout."""
        known = self._addable.get(layout)
        if known is None:
            used = self._used(layout)
            known = frozenset(cut.placement for cut in self.cuts.values() if not self._obstacle(used, cut))
            self._addable[layout] = known
        return known

    def fault(self, placements: Iterable[Placement]) -> str:
        """Why these placements cannot exist together, one sentence; empty when they can."""
        layout: list[Placement] = []
        for each in sorted(placements):
            cut = self.cuts.get(each)
            if cut is None:
                return f"{self.model.product} has no placement of profile {each.profile_id} at slot {each.start}"
            obstacle = self._obstacle(self._used(layout), cut)
            if obstacle:
                return f"{cut.profile.name} at slot {each.start}: {obstacle}"
            layout.append(each)
        return ""

    def is_legal(self, placements: Iterable[Placement]) -> bool:
        """Whether these placements can exist together."""
        return not self.fault(placements)

    def most_of(self, profile_id: int, beside: Layout = EMPTY) -> int:
        """How many instances of one profile could be created beside the layout, at most.

        Starts of one profile are intervals of one length, so taking them in ascending order is optimal.
        """
        layout = beside
        for cut in sorted(self.by_profile[profile_id], key=lambda each: each.placement.start):
            if cut.placement in self.addable(layout):
                layout |= {cut.placement}
        return len(layout) - len(beside)

    def fits(self, layout: Layout) -> tuple[int, ...]:
        """How many more of each different profile could be created, were no other asked for; the largest first."""
        known = self._fits.get(layout)
        if known is None:
            known = self._fits[layout] = tuple(self.most_of(each.id, layout) for each in self._kinds)
        return known

    def fits_lost(self, layout: Layout, cut: Cut, *, by_bulk: bool) -> int:
        """How much of `fits` a slice takes, in slots, of profiles that are no larger, or no bulkier, than its own."""
        before, after = self.fits(layout), self.fits(layout | {cut.placement})
        profile = cut.profile
        most = self.bulk(profile)
        return sum(
            (one - two) * each.size
            for one, two, each in zip(before, after, self._kinds, strict=True)
            if (self.bulk(each) <= most if by_bulk else each.size <= profile.size)
        )

    def _used(self, placements: Iterable[Placement]) -> _Used:
        cuts = [self.cuts[each] for each in placements]
        instances: dict[int, int] = {}
        for cut in cuts:
            instances[cut.profile.id] = instances.get(cut.profile.id, 0) + 1
        mask = 0
        for cut in cuts:
            mask |= cut.mask
        engines = [_engine_counts(cut.profile.engines) for cut in cuts]
        return _Used(
            mask=mask,
            compute_slices=sum(cut.profile.compute_slices for cut in cuts),
            engines=tuple(sum(each[index] for each in engines) for index in self._counted),
            instances=instances,
        )

    def _obstacle(self, used: _Used, cut: Cut) -> str:
        profile = cut.profile
        if used.mask & cut.mask:
            return "its memory slots are taken"
        if used.instances.get(profile.id, 0) >= profile.max_instances:
            return f"the card holds at most {profile.max_instances} of this profile"
        if used.compute_slices + profile.compute_slices > self.model.compute_slices:
            return f"the card has {self.model.compute_slices} compute slices"
        wanted = _engine_counts(profile.engines)
        for index, taken, total in zip(self._counted, used.engines, self._engines, strict=True):
            if taken + wanted[index] > total:
                return "the card's media engines are taken"
        return ""


@lru_cache(maxsize=256)
def table_of(model: GpuModel) -> CardTable:
    """The table of a model. Hashing a model costs microseconds: keep the table, do not ask again per decision."""
    return CardTable(model)


def _distinct(model: GpuModel) -> GpuModel:
    """The model; of profiles with one id, which no driver reports and nobody could tell apart, the first counts."""
    first = {each.id: each for each in reversed(model.profiles)}
    if len(first) == len(model.profiles):
        return model
    return structs.replace(model, profiles=tuple(first[each] for each in sorted(first)))


def _all_cuts(model: GpuModel) -> dict[int, tuple[Cut, ...]]:
    found = {each.id: _cuts(model, each) for each in model.profiles}
    masks = [cut.mask for cuts in found.values() for cut in cuts]
    return {
        profile_id: tuple(
            replace(cut, crowd=sum(1 for mask in masks if mask & cut.mask) * 64 + cut.rank) for cut in cuts
        )
        for profile_id, cuts in found.items()
    }


def _cuts(model: GpuModel, profile: Profile) -> tuple[Cut, ...]:
    """A profile's placements. What makes no sense, and no driver reports, is left out."""
    if not 0 < profile.size <= model.memory_slots <= MOST_SLOTS:
        return ()
    starts = sorted({each for each in profile.starts if 0 <= each <= model.memory_slots - profile.size})
    if profile.compute_slices in _HIGH_STARTS_FIRST:
        starts.reverse()
    slots = (1 << profile.size) - 1
    return tuple(
        Cut(Placement(profile.id, start), profile, slots << start, rank) for rank, start in enumerate(starts)
    )


def _different(model: GpuModel) -> tuple[Profile, ...]:
    """One profile of each size and set of starts, the largest first."""
    found: dict[tuple[object, ...], Profile] = {}
    for each in model.profiles:
        found.setdefault((each.size, each.starts, each.max_instances, each.engines.decoder), each)
    return tuple(sorted(found.values(), key=lambda each: (-each.size, each.id)))


def _engine_counts(engines: Engines) -> tuple[int, ...]:
    return (engines.decoder, engines.encoder, engines.jpeg, engines.ofa)


def _counted_engines(model: GpuModel) -> tuple[int, ...]:
    """The kinds of engine that are given out for good, as indexes into `_engine_counts`.

    Some tables promise more than the card has: seven 1g.10gb on an A100 report one decoder each, the whole card
    five. Such an engine is shared and limits nothing, so a kind counts only if no profile's own maximum exceeds it.
    """
    totals = _engine_counts(model.engines)
    return tuple(
        index
        for index, total in enumerate(totals)
        if all(_engine_counts(each.engines)[index] * each.max_instances <= total for each in model.profiles)
    )
