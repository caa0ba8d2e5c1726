"""What a card can be cut into, against an enumeration that knows nothing of the planner's table."""

from __future__ import annotations

from collections import Counter
from functools import lru_cache
from itertools import combinations

import pytest
from msgspec.structs import replace

from cdmo.model.gpu import Placement
from cdmo.model.profile import GpuModel
from cdmo.planner.placement import EMPTY, table_of
from tests.builders import CARDS, at, card

Layouts = frozenset[frozenset[Placement]]


@lru_cache
def disjoint_layouts(model: GpuModel, names: tuple[str, ...]) -> Layouts:
    """Every set of placements of the named profiles that share no memory slot, by plain enumeration."""
    spans = [
        (Placement(each.id, start), frozenset(range(start, start + each.size)))
        for each in model.profiles
        if each.name in names
        for start in each.starts
    ]
    found: set[frozenset[Placement]] = set()

    def extend(first: int, chosen: frozenset[Placement], taken: frozenset[int]) -> None:
        found.add(chosen)
        for index in range(first, len(spans)):
            placement, span = spans[index]
            if not span & taken:
                extend(index + 1, chosen | {placement}, taken | span)

    extend(0, EMPTY, frozenset())
    return frozenset(found)


def plain_names(model: GpuModel) -> tuple[str, ...]:
    """Profiles without a suffix: those that memory slots alone decide about."""
    return tuple(each.name for each in model.profiles if each.name.endswith("gb"))


def _by_profile(layout: frozenset[Placement]) -> tuple[tuple[int, int], ...]:
    return tuple(sorted(Counter(each.profile_id for each in layout).items()))


def complete(layouts: Layouts) -> Layouts:
    """The layouts to which none of the others adds anything."""
    grown = {layout - {each} for layout in layouts for each in layout}
    return frozenset(layout for layout in layouts if layout not in grown)


@pytest.mark.parametrize("name", CARDS)
def test_every_complete_layout_of_a_card_is_legal_and_takes_nothing_more_of_its_kind(name: str) -> None:
    model = card(name)
    table = table_of(model)
    plain = {each.id for each in model.profiles if each.name in plain_names(model)}
    for layout in complete(disjoint_layouts(model, plain_names(model))):
        assert table.fault(layout) == ""
        assert not [each for each in table.addable(layout) if each.profile_id in plain]


@pytest.mark.parametrize("name", CARDS)
def test_every_overlap_is_refused(name: str) -> None:
    model = card(name)
    table = table_of(model)
    for one, other in combinations(sorted(table.cuts), 2):
        if table.cuts[one].mask & table.cuts[other].mask:
            assert not table.is_legal([one, other])
            assert other not in table.addable(frozenset([one]))


def test_the_h100_has_the_layouts_that_were_counted_before() -> None:
    model = card("h100")
    layouts = disjoint_layouts(model, plain_names(model))
    whole = complete(layouts)
    masks = {table_of(model).mask(layout) for layout in layouts}
    counts = [Counter(dict(items)) for items in {_by_profile(layout) for layout in layouts}]
    largest = [one for one in counts if not any(one < other for other in counts)]
    assert (len(masks), len(layouts), len(whole), len(largest)) == (192, 723, 78, 28)


@pytest.mark.parametrize("name", CARDS)
def test_what_is_addable_is_exactly_what_stays_legal(name: str) -> None:
    model = card(name)
    table = table_of(model)
    for size in (0, 1, 2):
        for chosen in combinations(sorted(table.cuts), size):
            if table.is_legal(chosen):
                legal = {each for each in table.cuts if each not in chosen and table.is_legal([*chosen, each])}
                assert table.addable(frozenset(chosen)) == legal


def test_one_media_extension_a_card() -> None:
    for name, one, other in (
        ("h100", "1g.10gb+me@0", "1g.10gb+me@1"),
        ("a30", "1g.6gb+me@0", "2g.12gb+me@2"),
        ("rtx_pro_6000", "1g.24gb+me@0", "1g.24gb+me.all@3"),
    ):
        assert not table_of(card(name)).is_legal([at(one, name), at(other, name)])


def test_all_media_engines_in_one_instance_leave_room_for_instances_without_any() -> None:
    table = table_of(card("rtx_pro_6000"))
    first = at("1g.24gb+me.all@0", "rtx_pro_6000")
    assert table.fault([first, at("1g.24gb@3", "rtx_pro_6000")]).endswith("the card's media engines are taken")
    assert table.is_legal([first, at("1g.24gb-me@3", "rtx_pro_6000"), at("2g.48gb-me@6", "rtx_pro_6000")])


def test_seven_small_slices_fit_an_a100_though_its_table_counts_five_decoders() -> None:
    assert table_of(card("a100")).is_legal([at(f"1g.10gb@{slot}", "a100") for slot in range(7)])


def test_a_placement_that_the_card_does_not_have_is_named() -> None:
    table = table_of(card("h100"))
    assert table.fault([Placement(9, 2)]) == "NVIDIA H100 80GB HBM3 has no placement of profile 9 at slot 2"


def test_big_windows_are_kept_whole_by_the_order_of_starts() -> None:
    table = table_of(card("h100"))
    assert [each.placement.start for each in table.by_profile[19]] == [6, 5, 4, 3, 2, 1, 0]
    assert [each.placement.start for each in table.by_profile[9]] == [4, 0]
    assert [each.placement.start for each in table.by_profile[14]] == [0, 2, 4]


@pytest.mark.parametrize("name", CARDS)
def test_an_empty_card_holds_as_many_of_each_profile_as_its_driver_says(name: str) -> None:
    table = table_of(card(name))
    for profile in table.model.profiles:
        assert table.most_of(profile.id) == profile.max_instances


def test_of_profiles_with_one_id_the_first_counts_everywhere() -> None:
    model = card("h100")
    small, media = (next(each for each in model.profiles if each.name == name) for name in ("1g.10gb", "1g.10gb+me"))
    doubled = replace(
        model, profiles=(*model.profiles, replace(media, id=small.id, name="lie", resource="nvidia.com/lie"))
    )
    table = table_of(doubled)
    assert table.profile_for("nvidia.com/lie") is None
    assert {each.profile.name for each in table.by_profile[small.id]} == {"1g.10gb"}
    assert table.addable(EMPTY) == table_of(model).addable(EMPTY)
