"""The worth of places: which of two a slice should rather have."""

from __future__ import annotations

import pytest

from cdmo.planner.placement import EMPTY, CardTable, Layout, table_of
from cdmo.planner.worth import CREATE, DESTROY, FREE_SLOT, Worth
from tests.builders import CARDS, at, card

H100 = table_of(card("h100"))


def layout(*names: str) -> Layout:
    return frozenset(map(at, names))


def loss(name: str, busy: Layout = EMPTY) -> int:
    """What a slice costs on an H100 on which this is busy."""
    return Worth(H100).loss(busy, H100.cuts[at(name)])


def best(name: str, busy: Layout = EMPTY) -> set[str]:
    """The places of a profile that cost least."""
    places = [each for each in H100.addable(busy) if H100.cuts[each].profile.name == name]
    losses = {f"{name}@{each.start}": loss(f"{name}@{each.start}", busy) for each in places}
    return {each for each, value in losses.items() if value == min(losses.values())}


def test_as_many_windows_reach_into_each_slot_of_an_empty_card() -> None:
    assert best("1g.10gb") == {f"1g.10gb@{slot}" for slot in range(7)}


def test_a_second_small_slice_lies_in_the_window_that_is_spoiled_already() -> None:
    assert best("1g.10gb", layout("1g.10gb@0")) <= {"1g.10gb@1", "1g.10gb@2", "1g.10gb@3"}
    assert best("1g.10gb", layout("1g.10gb@6")) <= {"1g.10gb@4", "1g.10gb@5"}


def test_a_half_lies_beside_what_leaves_room_for_the_larger_half() -> None:
    assert best("3g.40gb") == {"3g.40gb@4"}


def test_a_slice_costs_less_on_a_card_that_is_nearly_full_than_on_an_empty_one() -> None:
    assert loss("1g.10gb@6", layout("4g.40gb@0", "2g.20gb@4")) < loss("1g.10gb@6")
    assert loss("3g.40gb@4", layout("4g.40gb@0")) < loss("3g.40gb@4")


def test_the_last_window_costs_what_it_was_worth_and_no_free_slots() -> None:
    full = loss("7g.80gb@0")
    assert full > 0
    assert loss("1g.10gb@6", layout("4g.40gb@0", "2g.20gb@4")) < full


@pytest.mark.parametrize("name", CARDS)
def test_losses_are_whole_numbers_above_what_stays_free(name: str) -> None:
    table: CardTable = table_of(card(name))
    worth = Worth(table)
    for first in sorted(table.cuts):
        busy = frozenset((first,))
        for each in sorted(table.addable(busy)):
            cut = table.cuts[each]
            found = worth.loss(busy, cut)
            assert type(found) is int
            assert found > FREE_SLOT * (table.free_slots(busy) - cut.profile.size)


def test_destroying_an_idle_slice_costs_more_than_creating_one_and_both_less_than_a_whole_window() -> None:
    assert 0 < CREATE < DESTROY < loss("7g.80gb@0")
