"""What one GPU can give, and which of its ways is the cheapest: by how much room there is."""

from __future__ import annotations

import pytest

from cdmo.planner.placement import EMPTY, Layout, table_of
from cdmo.planner.shape import Mode, Option, Shape, Shapes
from tests.builders import at, card, resource

H100 = table_of(card("h100"))


def layout(*names: str) -> Layout:
    return frozenset(map(at, names))


def shape(busy: tuple[str, ...] = (), idle: tuple[str, ...] = (), coming: tuple[str, ...] = ()) -> Shape:
    """An H100 with these slices: busy, idle and to be had, on their way for nobody."""
    spare = layout(*idle, *coming)
    return Shapes().of(H100, layout(*busy) | spare, spare, spare, layout(*coming))


def best(of: Shape, profile: str, mode: Mode) -> Option | None:
    found = of.best(resource(profile), mode)
    return None if found is None else found[1]


def told(option: Option | None) -> str:
    """`reuse 4`, or `create 4` with the starts of what is destroyed for it."""
    if option is None:
        return "nothing"
    gone = "".join(f" -{each.start}" for each in sorted(option.destroyed, key=lambda each: each.start))
    return f"{'reuse' if option.reuse else 'create'} {option.cut.placement.start}{gone}"


def test_while_there_is_plenty_an_idle_slice_is_reused_wherever_it_lies() -> None:
    for slot in range(7):
        there = shape(idle=(f"1g.10gb@{slot}",))
        assert told(best(there, "1g.10gb", Mode.PLENTY)) == f"reuse {slot}"


def test_while_there_is_plenty_free_slots_go_before_idle_slices() -> None:
    there = shape(busy=("1g.10gb@6",), idle=("1g.10gb@0", "1g.10gb@4"))
    assert told(best(there, "2g.20gb", Mode.PLENTY)) == "create 2"


def test_where_room_is_scarce_a_slice_that_spoils_a_window_is_not_reused() -> None:
    # The idle slice lies in the half that is whole; the other half is spoiled already.
    there = shape(busy=("1g.10gb@4",), idle=("1g.10gb@1",))
    assert told(best(there, "1g.10gb", Mode.PLENTY)) == "reuse 1"
    assert told(best(there, "1g.10gb", Mode.SCARCE)) == "create 5"


def test_where_room_is_scarce_a_slice_in_a_good_place_is_reused() -> None:
    there = shape(busy=("1g.10gb@4",), idle=("1g.10gb@5",))
    assert told(best(there, "1g.10gb", Mode.SCARCE)) == "reuse 5"


@pytest.mark.parametrize("mode", [Mode.TIGHT, Mode.BULKY])
def test_in_a_tight_place_the_last_slot_is_left_to_whoever_can_use_it(mode: Mode) -> None:
    # Of the eight slots the last is covered by 1g.20gb, 3g.40gb and 7g.80gb alone.
    assert told(best(shape(), "1g.20gb", mode)) == "create 6"
    assert told(best(shape(), "3g.40gb", mode)) == "create 4"
    assert told(best(shape(busy=("4g.40gb@0",)), "1g.20gb", mode)) == "create 6"


@pytest.mark.parametrize("mode", [Mode.TIGHT, Mode.BULKY])
def test_in_a_tight_place_idle_slices_are_free_slots(mode: Mode) -> None:
    there = shape(busy=("4g.40gb@0",), idle=("1g.10gb@4", "1g.10gb@5"))
    assert told(best(there, "3g.40gb", mode)) == "create 4 -4 -5"


@pytest.mark.parametrize("mode", list(Mode))
def test_what_is_busy_is_never_destroyed_nor_covered(mode: Mode) -> None:
    busy = ("1g.10gb@0", "1g.10gb@5")
    there = shape(busy=busy, idle=("2g.20gb@2",))
    for profile in H100.model.profiles:
        for cost, option in there.ranked(profile.resource, mode):
            assert not option.destroyed & layout(*busy)
            assert H100.is_legal(there.after(option).layout)
            assert there.cost(option, mode) == cost


def test_a_slice_that_was_given_is_nobodys_any_more() -> None:
    there = shape(idle=("3g.40gb@4",))
    option = best(there, "3g.40gb", Mode.PLENTY)
    assert option is not None
    after = there.after(option)
    assert (after.layout, after.spare, after.loose) == (layout("3g.40gb@4"), EMPTY, EMPTY)
    assert told(best(after, "3g.40gb", Mode.PLENTY)) == "create 0"
    assert best(after, "7g.80gb", Mode.PLENTY) is None


def test_a_slice_on_its_way_is_taken_after_one_that_is_there() -> None:
    there = shape(idle=("1g.10gb@5",), coming=("1g.10gb@4",))
    assert told(best(there, "1g.10gb", Mode.PLENTY)) == "reuse 5"
    assert told(best(shape(coming=("1g.10gb@4",)), "1g.10gb", Mode.PLENTY)) == "reuse 4"


def test_equal_shapes_are_one_object_and_taking_the_same_leads_to_the_same() -> None:
    shapes = Shapes()
    one, other = shapes.empty(H100), shapes.empty(H100)
    assert one is other
    first, second = (found[1] for found in one.ranked(resource("1g.10gb"), Mode.PLENTY)[:2])
    assert one.after(first) is other.after(first)
    assert one.after(first) is not one.after(second)


def test_how_many_slices_a_gpu_could_give_counts_idle_ones_that_may_not_go() -> None:
    assert shape().most(resource("1g.10gb")) == 7
    assert shape(busy=("4g.40gb@0",)).most(resource("1g.10gb")) == 3
    held_back = Shapes().of(H100, layout("1g.10gb@0"), layout("1g.10gb@0"), EMPTY, EMPTY)
    assert held_back.most(resource("1g.10gb")) == 7
    assert shape(busy=("7g.80gb@0",)).most(resource("1g.10gb")) == 0


def test_the_nearest_place_has_the_fewest_slots_that_must_stay() -> None:
    found = shape(busy=("1g.10gb@0", "1g.10gb@1", "1g.10gb@6")).nearest(resource("3g.40gb"))
    assert found is not None
    assert (found[0], found[1].placement) == (1, at("3g.40gb@4"))


def test_what_a_card_does_not_offer_is_given_in_no_way() -> None:
    assert shape().options("nvidia.com/mig-9g.999gb") == ()
    assert shape().nearest("nvidia.com/mig-9g.999gb") is None
    assert shape().most("nvidia.com/mig-9g.999gb") == 0
