"""What is wanted of a node's GPUs: the Node's label and annotation, and the MigNode's spec."""

from __future__ import annotations

import pytest

from cdmo.agent.modes import STAYS, ModeWish
from cdmo.agent.observe import Observation
from cdmo.agent.steps import Action, SeenGpu, SeenInstance, Step
from cdmo.agent.wanted import Wanted, wanted_of, without_spec
from cdmo.api.v1alpha1 import GpuLayout, Metadata, MigNode, MigNodeSpec, Mode, PlacedProfile
from cdmo.errors import BadSpec
from cdmo.model.cluster import NodeInfo
from cdmo.model.gpu import MigMode, Placement
from cdmo.model.modes import ModePolicy
from cdmo.model.names import PARTITIONING_LABEL, PARTITIONING_VALUE
from cdmo.model.reasons import ModeReason
from tests.agent.cards import BUS, H100, OTHER_BUS
from tests.agent.nodes import THREE_HIGH, THREE_LOW
from tests.fakes.hardware import FakeGpus, fake_gpus

LABELS = {PARTITIONING_LABEL: PARTITIONING_VALUE}
ON, OFF = ModeWish(True), ModeWish(False)


def node(annotation: str = "", labels: dict[str, str] = LABELS) -> NodeInfo:
    return NodeInfo("gpu-1", labels=labels, mig_mode=annotation)


def layout(*placements: Placement, bus: str = BUS, withheld: tuple[Placement, ...] = ()) -> GpuLayout:
    return GpuLayout(pci_bus_id=bus, layout=_placed(*placements), withheld=_placed(*withheld))


def _placed(*placements: Placement) -> tuple[PlacedProfile, ...]:
    return tuple(PlacedProfile(profile_id=each.profile_id, start=each.start) for each in placements)


def mignode(*gpus: GpuLayout, mode: Mode = Mode.MANAGED, seen: int = 3) -> MigNode:
    return MigNode(metadata=Metadata(name="gpu-1"), spec=MigNodeSpec(mode=mode, observed_revision=seen, gpus=gpus))


def wanted(mine: MigNode, on: NodeInfo | None = None, default: ModePolicy = ModePolicy.MANUAL) -> Wanted:
    return wanted_of(on or node(), mine, default)


def seen(*instances: SeenInstance, wish: ModeWish = STAYS, bus: str = BUS) -> SeenGpu:
    return SeenGpu(bus, MigMode.ENABLED, H100, instances, wish=wish)


def observed(gpus: FakeGpus) -> Observation:
    return Observation(gpus.read(), {})


def test_the_controllers_layouts_are_wanted_and_what_it_has_not_seen_is_kept() -> None:
    steps = wanted(mignode(layout(THREE_HIGH))).steps((seen(SeenInstance(THREE_LOW, 3)),))
    assert steps.steps == (Step(Action.DESTROY, BUS, THREE_LOW), Step(Action.CREATE, BUS, THREE_HIGH))
    assert steps.take_back
    younger = wanted(mignode(layout(THREE_HIGH))).steps((seen(SeenInstance(THREE_LOW, 4)),))
    assert younger.steps == (Step(Action.CREATE, BUS, THREE_HIGH),)


def test_a_gpu_that_the_spec_does_not_name_stays_as_it_is() -> None:
    assert wanted(mignode()).steps((seen(SeenInstance(THREE_LOW, 1)),)).steps == ()


def test_disabled_wants_every_slice_gone_seen_by_the_controller_or_not_and_none_back() -> None:
    there = (
        seen(SeenInstance(THREE_LOW, 1), SeenInstance(THREE_HIGH, 9), wish=OFF),
        seen(SeenInstance(THREE_LOW, 12), wish=OFF, bus=OTHER_BUS),
    )
    steps = wanted(mignode(layout(THREE_LOW), mode=Mode.DISABLED, seen=0)).steps(there)
    assert steps.steps == (
        Step(Action.DESTROY, BUS, THREE_LOW),
        Step(Action.DESTROY, BUS, THREE_HIGH),
        Step(Action.DISABLE_MIG, BUS),
        Step(Action.DESTROY, OTHER_BUS, THREE_LOW),
        Step(Action.DISABLE_MIG, OTHER_BUS),
    )
    assert not steps.take_back


def test_disabled_tells_what_keeps_a_gpu_from_it() -> None:
    silent = SeenGpu(BUS, MigMode.ENABLED, H100, (SeenInstance(THREE_LOW, 1),), problem="it is lost", wish=OFF)
    steps = wanted(mignode(mode=Mode.DISABLED)).steps((silent,))
    assert (steps.steps, steps.held_back) == ((), (f"GPU {BUS}: it is lost",))


def test_disabled_on_a_node_without_gpus_is_nothing() -> None:
    assert wanted(mignode(mode=Mode.DISABLED)).steps(()).steps == ()


@pytest.mark.parametrize(
    ("annotation", "default", "lost", "wish"),
    [
        ("", ModePolicy.MANUAL, False, STAYS),
        ("", ModePolicy.MANUAL, True, ON),
        ("", ModePolicy.WHEN_IDLE, False, ON),
        ("manual", ModePolicy.WITH_RESET, False, STAYS),
        ("with-reset", ModePolicy.MANUAL, False, ModeWish(True, may_reset=True)),
        ("yes", ModePolicy.WITH_RESET, False, STAYS),
    ],
)
def test_the_mode_goes_by_the_annotation_and_else_by_the_agents_option(
    annotation: str, default: ModePolicy, lost: bool, wish: ModeWish
) -> None:
    (gpu,) = fake_gpus().read().gpus
    assert wanted(mignode(), node(annotation), default).wish(gpu, lost=lost) == wish


@pytest.mark.parametrize("policy", ["manual", "when-idle", "with-reset"])
def test_a_card_without_mig_is_left_as_it_is(policy: str) -> None:
    (gpu,) = fake_gpus("L40S-48GB").read().gpus
    assert wanted(mignode(), node(policy)).wish(gpu, lost=False) == STAYS


def test_disabled_wants_the_mode_off_even_where_a_reboot_took_it() -> None:
    (gpu,) = fake_gpus().read().gpus
    assert wanted(mignode(mode=Mode.DISABLED), node("with-reset")).wish(gpu, lost=True) == ModeWish(False, True)


def test_without_the_label_nothing_is_kept_from_the_scheduler() -> None:
    gpus = fake_gpus()
    gpus.create(BUS, THREE_LOW)
    for mode in Mode:
        asked = wanted(mignode(layout(THREE_LOW, withheld=(THREE_LOW,)), mode=mode), node(labels={}))
        assert (asked.managed, asked.withheld(observed(gpus))) == (False, {})


def test_what_the_spec_withholds_is_kept_from_the_scheduler() -> None:
    asked = wanted(mignode(layout(THREE_LOW, THREE_HIGH, withheld=(THREE_HIGH,)), layout(THREE_LOW, bus=OTHER_BUS)))
    assert asked.withheld(observed(fake_gpus())) == {BUS: (THREE_HIGH,)}


def test_disabled_keeps_every_slice_that_there_is_from_the_scheduler() -> None:
    gpus = fake_gpus("H100-SXM5-80GB", "H100-SXM5-80GB")
    gpus.create(BUS, THREE_LOW)
    gpus.create(BUS, THREE_HIGH)
    asked = wanted(mignode(layout(THREE_HIGH), mode=Mode.DISABLED))
    assert asked.withheld(observed(gpus)) == {BUS: (THREE_LOW, THREE_HIGH), OTHER_BUS: ()}


@pytest.mark.parametrize(
    "gpus",
    [
        (layout(THREE_LOW), layout(THREE_HIGH)),
        (layout(THREE_LOW, THREE_LOW),),
        (layout(THREE_LOW, withheld=(THREE_HIGH,)),),
    ],
    ids=["a GPU twice", "a placement twice", "withheld and not in the layout"],
)
def test_a_spec_that_contradicts_itself_is_told_and_keeps_nobody_from_disabling(gpus: tuple[GpuLayout, ...]) -> None:
    with pytest.raises(BadSpec, match=r"MigNode gpu-1 spec\.gpus\["):
        wanted(mignode(*gpus))
    assert wanted(mignode(*gpus, mode=Mode.DISABLED)).layouts == {}


def test_a_layout_that_cannot_exist_on_its_gpu_is_told_when_the_steps_are_made() -> None:
    with pytest.raises(BadSpec, match=f"this node has no GPU {OTHER_BUS}"):
        wanted(mignode(layout(THREE_LOW, bus=OTHER_BUS))).steps((seen(),))


def test_where_nothing_is_known_of_the_layouts_every_gpu_stays_as_it_is_and_its_mode_is_still_wanted() -> None:
    asked = without_spec(node("when-idle"), mignode(layout(THREE_LOW), layout(THREE_HIGH)), ModePolicy.MANUAL)
    assert (asked.managed, asked.policy, asked.observed_revision) == (True, ModePolicy.WHEN_IDLE, 3)
    assert asked.steps((seen(SeenInstance(THREE_LOW, 1)),)).steps == ()
    assert asked.withheld(observed(fake_gpus())) == {}


def test_what_is_told_of_the_modes_names_the_gpu_and_why_it_is_left_alone() -> None:
    busy = SeenGpu(BUS, MigMode.DISABLED, H100, wish=ON)
    told = wanted(mignode()).modes(
        (busy, seen(wish=ON, bus=OTHER_BUS)), [f"GPU {BUS} is held as a whole by pod ml/a"]
    )
    assert (told.reason, told.message) == (ModeReason.WAITING, f"GPU {BUS} is held as a whole by pod ml/a")
