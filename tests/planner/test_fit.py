"""Several slices at once on the GPUs of one node: found if they exist, and never searched for without end."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import pytest

from cdmo.planner.fit import Answer, Fitter
from cdmo.planner.placement import EMPTY, Layout, table_of
from cdmo.planner.shape import Mode, Shape, Shapes
from tests.builders import at, card, resource

H100 = table_of(card("h100"))
SHAPES = Shapes()
BLANK = SHAPES.empty(H100)
SMALL = resource("1g.10gb")


def busy(*names: str) -> Shape:
    layout: Layout = frozenset(map(at, names))
    return SHAPES.of(H100, layout, EMPTY, EMPTY, EMPTY)


def idle(*names: str) -> Shape:
    layout: Layout = frozenset(map(at, names))
    return SHAPES.of(H100, layout, layout, EMPTY, EMPTY)  # nobody's, and not to be destroyed


def fit(gpus: list[Shape], limits: Mapping[str, int] = MappingProxyType({}), **asks: int) -> Answer:
    """The answer for profiles written as words: g3_40=2 asks for two of 3g.40gb."""
    names = {"g1_10": "1g.10gb", "g2_20": "2g.20gb", "g3_40": "3g.40gb", "g4_40": "4g.40gb", "g7_80": "7g.80gb"}
    demand = tuple(sorted((resource(names[name]), count) for name, count in asks.items()))
    return Fitter().fit(demand, gpus, limits)


def test_every_slice_of_a_demand_is_picked_once_and_no_two_overlap() -> None:
    choice = fit([BLANK, BLANK], g3_40=2, g1_10=4, g4_40=1).choice
    assert choice is not None
    given = [(pick.gpu, pick.option.cut.placement) for pick in choice.picks]
    assert len(given) == len(set(given)) == 7
    for gpu in (0, 1):
        assert H100.is_legal(placement for number, placement in given if number == gpu)


@pytest.mark.parametrize(
    ("gpus", "asks", "fits"),
    [
        ([BLANK], {"g1_10": 7}, True),
        ([BLANK], {"g1_10": 8}, False),
        ([BLANK], {"g3_40": 2}, True),
        ([BLANK], {"g3_40": 2, "g1_10": 1}, False),
        ([BLANK, busy("3g.40gb@4")], {"g3_40": 3}, True),
        ([busy("1g.10gb@0"), busy("1g.10gb@5")], {"g4_40": 2}, False),
        ([busy("1g.10gb@0"), busy("1g.10gb@5")], {"g4_40": 1, "g3_40": 1}, True),
        ([busy("7g.80gb@0")] * 8, {"g1_10": 1}, False),
        ([busy("7g.80gb@0")] * 7 + [BLANK], {"g7_80": 1}, True),
    ],
)
def test_a_demand_fits_if_its_slices_do(gpus: list[Shape], asks: dict[str, int], fits: bool) -> None:
    answer = fit(gpus, {}, **asks)
    assert (answer.choice is not None) is fits
    assert not answer.exhausted


def test_no_more_idle_slices_are_reused_than_bound_pods_leave() -> None:
    gpus = [idle("1g.10gb@5", "1g.10gb@6")]
    for limit in (0, 1, 2):
        choice = fit(gpus, {SMALL: limit}, g1_10=2).choice
        assert choice is not None
        assert sum(pick.option.reuse for pick in choice.picks) == limit


def test_what_would_destroy_what_has_to_stay_is_refused() -> None:
    assert fit([idle("1g.10gb@0", "1g.10gb@5")], g3_40=1).choice is None


def test_a_hopeless_search_gives_up_and_says_so() -> None:
    gpus = [busy("3g.40gb@4"), busy("1g.10gb@6"), busy("1g.10gb@0"), *[BLANK] * 5]
    answer = fit(gpus, g3_40=9, g2_20=14)
    assert answer.choice is None
    assert answer.exhausted


def test_the_same_question_has_the_same_answer_however_often_it_is_asked_and_whatever_else_was() -> None:
    fitter = Fitter()
    gpus = [busy("1g.10gb@0"), BLANK]
    demand = ((SMALL, 3), (resource("3g.40gb"), 2))
    first = fitter.fit(demand, gpus, {})
    for mode in Mode:
        fitter.begin(mode)
        for count in range(1, 5):
            fitter.fit(((SMALL, count),), gpus, {})
    fitter.begin(Mode.PLENTY)
    assert fitter.fit(demand, gpus, {}) == first == Fitter().fit(demand, gpus, {})
