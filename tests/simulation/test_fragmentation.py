"""Stranded slots by hand: what the next pod of the workload could not use."""

from __future__ import annotations

import pytest

from cdmo.planner.placement import table_of
from cdmo.simulation.fragmentation import Stranded
from tests.builders import at, card, resource

EVEN = {resource("1g.10gb"): 0.5, resource("3g.40gb"): 0.25, resource("7g.80gb"): 0.25}


@pytest.mark.parametrize(
    ("in_use", "stranded"),
    [
        ([], 0.0),  # everything fits an empty card
        (["7g.80gb@0"], 0.0),  # nothing is free, so nothing is stranded
        (["3g.40gb@4"], 0.25 * 4),  # 7g is lost on the 4 free slots, 1g and 3g are not
        (["1g.10gb@2"], 0.25 * 7),  # 3g still fits at 4
        (["1g.10gb@2", "1g.10gb@5"], 0.5 * 6),  # neither 3g nor 7g
        (["3g.40gb@0", "2g.20gb@4", "1g.10gb@6"], 1.0 * 1),  # slot 7 is nobody's: 1g has no start there
    ],
)
def test_free_slots_are_stranded_for_profiles_that_fit_nowhere_on_the_gpu(in_use: list[str], stranded: float) -> None:
    layout = frozenset(at(each) for each in in_use)
    assert Stranded(EVEN).of(table_of(card("h100")), layout) == pytest.approx(stranded)


def test_a_profile_that_the_card_does_not_have_strands_all_of_it() -> None:
    assert Stranded({resource("1g.6gb"): 1.0}).of(table_of(card("h100")), frozenset()) == 8.0


def test_equal_layouts_of_different_cards_are_told_apart() -> None:
    stranded = Stranded({resource("1g.6gb"): 1.0})
    assert [stranded.of(table_of(card(name)), frozenset()) for name in ("h100", "a30", "h100")] == [8.0, 0.0, 8.0]
