"""What holds for every plan, over random snapshots, and against brute force on one or two cards."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cdmo.model.gpu import Placement
from cdmo.model.policy import Policy
from cdmo.model.snapshot import Snapshot
from cdmo.planner import plan
from cdmo.planner.check import violations
from cdmo.planner.placement import CardTable, Layout, table_of
from tests.builders import CARDS, IDLE, Card, card, node, pod, resource, snapshot
from tests.planner.strategies import cut_cards, demands, shuffled, snapshots

# How fast it is on a busy machine is not what these tests are about.
EXAMPLES = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@EXAMPLES
@given(snapshots())
def test_no_plan_breaks_a_rule(question: Snapshot) -> None:
    assert violations(question, plan(question, Policy())) == ()


@EXAMPLES
@given(st.data())
def test_the_order_of_the_question_does_not_change_the_answer(data: st.DataObject) -> None:
    question = data.draw(snapshots())
    assert plan(data.draw(shuffled(question)), Policy()) == plan(question, Policy())


@EXAMPLES
@given(snapshots())
def test_a_plan_that_was_published_is_kept_in_the_next_round(question: Snapshot) -> None:
    first = plan(question, Policy())
    asked = {(each.node, each.gpu): each.layout for each in first.changes}
    nodes = tuple(
        replace(
            view,
            desired={
                **view.desired,
                **{bus: layout for (name, bus), layout in asked.items() if name == view.node.name},
            },
        )
        for view in question.nodes
    )
    second = plan(replace(question, nodes=nodes, assignments=first.placements), Policy())
    assert second.changes == ()
    assert second.placements == first.placements


@EXAMPLES
@given(st.data())
def test_one_pod_is_placed_if_and_only_if_some_legal_layout_holds_it(data: st.DataObject) -> None:
    model = data.draw(st.sampled_from(CARDS))
    cards = [data.draw(cut_cards(model, with_past=False)) for _ in range(data.draw(st.integers(1, 2)))]
    asks = data.draw(demands((model,)))
    question = snapshot([node("gpu-1", cards)], [pod("train", asks)])
    answer = plan(question, Policy())
    wanted = [resource(name) for name, count in asks.items() for _ in range(count)]
    assert bool(answer.placements) == can_hold(table_of(card(model)), [held(each) for each in cards], wanted)
    assert violations(question, answer) == ()


def held(of: Card) -> Layout:
    """The placements on a card that are not idle."""
    gpu = of.gpu("gpu-1", 0, 0)
    return frozenset(each.placement for each in gpu.slices if each.state is not IDLE)


def can_hold(table: CardTable, layouts: list[Layout], wanted: list[str]) -> bool:
    """Whether all the wanted slices fit beside the layouts of these cards, by trying every way."""
    seen: set[tuple[tuple[Placement, ...], ...]] = set()

    def holds(now: list[Layout], left: list[str]) -> bool:
        if not left:
            return True
        state = tuple(sorted(tuple(sorted(each)) for each in now))
        if state in seen:
            return False
        seen.add(state)
        for index, layout in enumerate(now):
            for placement, cut in table.cuts.items():
                if (
                    cut.profile.resource == left[0]
                    and placement not in layout
                    and table.is_legal([*layout, placement])
                ):
                    after = [*now[:index], layout | {placement}, *now[index + 1 :]]
                    if holds(after, left[1:]):
                        return True
        return False

    return holds(layouts, wanted)
