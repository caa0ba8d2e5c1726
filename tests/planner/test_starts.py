"""How a GPU starts a plan: worked out once for all that look alike, and never for one that does not."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from cdmo.model.gpu import MigMode
from cdmo.planner.shape import Shapes
from cdmo.planner.standing import tables_of
from cdmo.planner.starts import Start, Starts
from tests.builders import BROKEN, BUS, IDLE, Card, a30, at, h100, node, resource

NOTHING: Counter[str] = Counter()


def start(card: Card, starts: Starts | None = None, missing: Counter[str] = NOTHING) -> Start | str:
    """The start of GPU 0 of a node with this card; `missing`: slices that its bound pods are about to take."""
    view = node("gpu-1", [card])
    gpu, tables = view.gpus[0], tables_of(view)
    return (starts or Starts(Shapes())).of(gpu, tables[0], view.desired.get(BUS[0]), missing, frozenset())


def test_a_start_tells_what_is_there_what_was_asked_for_and_what_is_held() -> None:
    found = start(h100({"1g.10gb@0": "ml/x", "1g.10gb@6": BROKEN, "1g.10gb@5": IDLE}, desired=["1g.10gb@0"]))
    assert not isinstance(found, str)
    observed, asked, held, shape = found[:4]
    assert observed == {at("1g.10gb@0"), at("1g.10gb@6"), at("1g.10gb@5")}
    assert asked == {at("1g.10gb@0")}
    assert held == {at("1g.10gb@0"), at("1g.10gb@6")}
    assert shape.layout == observed
    assert shape.spare == shape.loose == {at("1g.10gb@5")}


def test_what_bound_pods_are_about_to_take_is_to_be_had_and_not_to_be_destroyed() -> None:
    found = start(h100({"1g.10gb@5": IDLE, "2g.20gb@0": IDLE}), missing=Counter({resource("1g.10gb"): 1}))
    assert not isinstance(found, str)
    assert found[3].spare == {at("1g.10gb@5"), at("2g.20gb@0")}
    assert found[3].loose == {at("2g.20gb@0")}


@pytest.mark.parametrize(
    ("card", "problem"),
    [
        (h100(problem="Xid 79"), "Xid 79"),
        (h100(mig_mode=MigMode.DISABLED), "its MIG mode is Disabled"),
        (h100({"1g.10gb@0": IDLE}, mig_mode=MigMode.ENABLE_PENDING), "its MIG mode is EnablePending"),
    ],
)
def test_a_gpu_that_takes_no_part_says_why(card: Card, problem: str) -> None:
    assert start(card) == problem


def test_a_gpu_of_an_unknown_model_says_so() -> None:
    view = node("gpu-1", [h100()])
    gpu = replace(view.gpus[0], model=7)
    assert Starts(Shapes()).of(gpu, None, None, NOTHING, frozenset()) == "its model is not reported"


def test_gpus_that_look_alike_have_one_start_and_others_their_own() -> None:
    starts = Starts(Shapes())
    cards = [
        h100(),
        h100({"1g.10gb@0": IDLE}),
        h100({"1g.10gb@0": "ml/x"}),
        h100({"1g.10gb@0": IDLE}, desired=[]),
        h100({"1g.10gb@0": IDLE}, desired=["1g.10gb@0", "3g.40gb@4"]),
        a30(),
    ]
    found = [start(each, starts) for each in cards]
    again = [start(each, starts) for each in cards]
    assert all(one is other for one, other in zip(found, again, strict=True))
    assert len({id(each) for each in found}) == len(cards)
