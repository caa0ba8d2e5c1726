"""What the agent does about a difference between spec and hardware."""

from __future__ import annotations

import pytest

from cdmo.agent.modes import ModeWish
from cdmo.agent.steps import Action, SeenGpu, SeenInstance, Step, Steps, steps_for
from cdmo.errors import BadSpec
from cdmo.model.gpu import MigMode, Placement
from tests.agent.cards import BUS, H100, OTHER_BUS

THREE_LOW, THREE_HIGH = Placement(9, 0), Placement(9, 4)
ONE_AT_6 = Placement(19, 6)


def gpu(*instances: SeenInstance, mode: MigMode = MigMode.ENABLED, **more: object) -> SeenGpu:
    return SeenGpu(BUS, mode, H100, instances, **more)  # type: ignore[arg-type]


def seen(placement: Placement, revision: int = 1, **more: bool) -> SeenInstance:
    return SeenInstance(placement, revision, **more)


def test_nothing_is_done_when_the_layout_is_there() -> None:
    assert steps_for({BUS: (THREE_HIGH,)}, (gpu(seen(THREE_HIGH)),), 1).steps == ()


def test_a_gpu_that_the_spec_does_not_name_is_left_as_it_is() -> None:
    assert steps_for({}, (gpu(seen(THREE_HIGH)),), 9).steps == ()


def test_destroys_come_before_creates() -> None:
    steps = steps_for({BUS: (THREE_LOW, THREE_HIGH)}, (gpu(seen(Placement(0, 0))),), 1).steps
    assert [(each.action, each.placement) for each in steps] == [
        (Action.DESTROY, Placement(0, 0)),
        (Action.CREATE, THREE_LOW),
        (Action.CREATE, THREE_HIGH),
    ]


def test_an_instance_the_controller_had_not_seen_is_adopted() -> None:
    found = steps_for({BUS: (THREE_LOW,)}, (gpu(seen(ONE_AT_6, revision=7)),), observed_revision=6)
    assert found.steps == (Step(Action.CREATE, BUS, THREE_LOW),)


def test_a_create_that_would_overlap_an_adopted_instance_is_held_back_with_the_reason() -> None:
    found = steps_for({BUS: (THREE_HIGH,)}, (gpu(seen(ONE_AT_6, revision=7)),), observed_revision=6)
    assert found.steps == ()
    assert found.held_back == (
        f"GPU {BUS}: profile 9 at slot 4 waits, the controller has not yet seen profile 19 at slot 6",
    )


def test_an_instance_the_controller_has_seen_and_left_out_is_destroyed() -> None:
    found = steps_for({BUS: (THREE_HIGH,)}, (gpu(seen(ONE_AT_6, revision=6)),), observed_revision=6)
    assert found.steps == (Step(Action.DESTROY, BUS, ONE_AT_6), Step(Action.CREATE, BUS, THREE_HIGH))


def test_a_half_made_instance_of_our_own_is_made_anew() -> None:
    found = steps_for({BUS: (THREE_HIGH,)}, (gpu(seen(THREE_HIGH, broken=True, ours=True)),), 0)
    assert found.steps == (Step(Action.DESTROY, BUS, THREE_HIGH), Step(Action.CREATE, BUS, THREE_HIGH))


def test_a_half_made_instance_of_somebody_else_is_left_alone() -> None:
    assert steps_for({BUS: (THREE_HIGH,)}, (gpu(seen(THREE_HIGH, broken=True)),), 9).steps == ()


def test_after_a_reboot_the_mode_comes_back_before_the_layout() -> None:
    found = steps_for({BUS: (THREE_HIGH,)}, (gpu(mode=MigMode.DISABLED, wish=ModeWish(True)),), 1)
    assert found.steps == (Step(Action.ENABLE_MIG, BUS), Step(Action.CREATE, BUS, THREE_HIGH))


@pytest.mark.parametrize("layouts", [{}, {BUS: ()}], ids=["not-named", "empty"])
def test_after_a_reboot_the_mode_comes_back_where_no_slice_is_wanted(
    layouts: dict[str, tuple[Placement, ...]],
) -> None:
    found = steps_for(layouts, (gpu(mode=MigMode.DISABLED, wish=ModeWish(True)),), 1)
    assert found == Steps((Step(Action.ENABLE_MIG, BUS),))


def test_mig_mode_is_not_switched_on_where_no_reboot_took_it() -> None:
    found = steps_for({BUS: (THREE_HIGH,)}, (gpu(mode=MigMode.DISABLED),), 1)
    assert found.steps == ()
    assert found.held_back == (f"GPU {BUS}: MIG mode is Disabled",)


def test_a_gpu_with_a_problem_is_left_alone() -> None:
    found = steps_for({BUS: (THREE_HIGH,)}, (gpu(problem="it fell off the bus"),), 1)
    assert found.steps == ()
    assert found.held_back == (f"GPU {BUS}: it fell off the bus",)


def test_a_gpu_that_is_not_there_is_named() -> None:
    with pytest.raises(BadSpec, match="this node has no GPU") as caught:
        steps_for({OTHER_BUS: ()}, (gpu(),), 1)
    assert BUS in caught.value.hint


@pytest.mark.parametrize(
    ("layout", "why"),
    [
        ((Placement(77, 0),), "profile 77"),
        ((Placement(9, 2),), "slot 2"),
        ((Placement(0, 0), ONE_AT_6), "1g.10gb"),
    ],
)
def test_a_layout_that_cannot_exist_is_refused_whole(layout: tuple[Placement, ...], why: str) -> None:
    with pytest.raises(BadSpec, match="cannot exist") as caught:
        steps_for({BUS: layout}, (gpu(seen(THREE_LOW)),), 9)
    assert why in str(caught.value)


def test_every_step_but_the_mode_has_an_undo_that_undoes_it() -> None:
    create = Step(Action.CREATE, BUS, THREE_LOW)
    destroy = Step(Action.DESTROY, BUS, THREE_LOW)
    assert (create.undo, destroy.undo) == (destroy, create)
    assert Step(Action.ENABLE_MIG, BUS).undo is None


@pytest.mark.parametrize("layouts", [{}, {BUS: (THREE_LOW,)}])
@pytest.mark.parametrize("revision", [1, 9])
def test_an_unhealthy_slice_is_cut_anew_where_it_is_though_nobody_plans_that(
    layouts: dict[str, tuple[Placement, ...]], revision: int
) -> None:
    found = steps_for(layouts, (gpu(seen(THREE_LOW, revision, unhealthy=True)),), observed_revision=1)
    assert found.steps == (Step(Action.DESTROY, BUS, THREE_LOW), Step(Action.CREATE, BUS, THREE_LOW))


def test_an_unhealthy_slice_that_nobody_wants_any_more_is_only_destroyed() -> None:
    found = steps_for({BUS: (THREE_HIGH,)}, (gpu(seen(THREE_LOW, unhealthy=True), seen(THREE_HIGH)),), 1)
    assert found.steps == (Step(Action.DESTROY, BUS, THREE_LOW),)


def test_nothing_is_cut_on_a_gpu_in_trouble() -> None:
    found = steps_for({}, (gpu(seen(THREE_LOW, unhealthy=True), problem="XID 95: reset it"),), 1)
    assert (found.steps, found.held_back) == ((), (f"GPU {BUS}: XID 95: reset it",))
