"""MigNode to model and back."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from cdmo.api.convert import (
    MOST_MODELS,
    MOST_PLACEMENTS,
    gpus_from_api,
    layouts_from_spec,
    layouts_to_spec,
    model_from_api,
    model_to_api,
    models_from_api,
    withheld_from_spec,
)
from cdmo.api.v1alpha1 import GpuLayout, Metadata, MigNode, MigNodeSpec, ObservedDevice, PlacedProfile
from cdmo.errors import BadSpec
from cdmo.model.gpu import DeviceState, MigMode, Placement
from tests.builders import BUS, CARDS, card, gpu_of, h100, node
from tests.controller.bench import mignode_of
from tests.fakes import cards as simulated

MODELS = [card(name) for name in CARDS] + [simulated.card(key).model for key in simulated.card_keys()]
PLACEMENTS = st.builds(Placement, st.integers(0, 1023), st.integers(0, 31))


def wired(mignode: MigNode) -> MigNode:
    """The object after a way over the wire."""
    return msgspec.json.decode(msgspec.json.encode(mignode), type=MigNode)


def with_spec(*gpus: GpuLayout) -> MigNode:
    return MigNode(metadata=Metadata(name="gpu-1"), spec=MigNodeSpec(gpus=gpus))


def layout(bus: str, *placed: tuple[int, int]) -> GpuLayout:
    return GpuLayout(
        pci_bus_id=bus, layout=tuple(PlacedProfile(profile_id=profile, start=start) for profile, start in placed)
    )


@pytest.mark.parametrize("model", MODELS, ids=lambda each: each.product)
def test_every_cards_profile_table_survives_the_way_over_the_wire(model: object) -> None:
    observed = model_to_api(model)  # type: ignore[arg-type]
    assert model_from_api(msgspec.json.decode(msgspec.json.encode(observed), type=type(observed))) == model


@given(st.dictionaries(st.sampled_from(BUS), st.frozensets(PLACEMENTS, max_size=16)))
def test_layouts_survive_the_way_over_the_wire(layouts: dict[str, frozenset[Placement]]) -> None:
    wanted = {bus: tuple(sorted(placements)) for bus, placements in layouts.items()}
    assert layouts_from_spec(wired(with_spec(*layouts_to_spec(wanted, {})))) == wanted


def test_layouts_are_written_in_one_order_whatever_the_mapping() -> None:
    one = layouts_to_spec({BUS[1]: (), BUS[0]: (Placement(9, 0),)}, {})
    assert one == layouts_to_spec({BUS[0]: (Placement(9, 0),), BUS[1]: ()}, {})
    assert [each.pci_bus_id for each in one] == [BUS[0], BUS[1]]


def test_gpus_survive_the_way_over_the_wire() -> None:
    view = node(
        "gpu-1",
        [
            h100(slices={"3g.40gb@4": "ml/old", "1g.10gb@0": DeviceState.IDLE, "1g.10gb@1": DeviceState.BROKEN}),
            gpu_of("a30", mig_mode=MigMode.ENABLE_PENDING),
            h100(problem="the GPU is lost"),
        ],
    )
    assert gpus_from_api(wired(mignode_of(view))) == view.gpus


def test_an_unknown_device_state_counts_as_in_use() -> None:
    mignode = mignode_of(node("gpu-1", [h100()]))
    device = ObservedDevice(profile_id=9, start=0, uuid="MIG-1", state="Resting")
    gpus = (replace(mignode.status.gpus[0], devices=(device,)),)
    (gpu,) = gpus_from_api(wired(replace(mignode, status=replace(mignode.status, gpus=gpus))))
    assert gpu.slices[0].state is DeviceState.IN_USE


def test_an_unknown_mig_mode_counts_as_unsupported() -> None:
    mignode = mignode_of(node("gpu-1", [h100()]))
    gpus = (replace(mignode.status.gpus[0], mig_mode="Perhaps"),)
    (gpu,) = gpus_from_api(replace(mignode, status=replace(mignode.status, gpus=gpus)))
    assert gpu.mig_mode is MigMode.UNSUPPORTED


def test_a_gpu_whose_model_is_not_reported_is_not_healthy() -> None:
    mignode = mignode_of(node("gpu-1", [h100()]))
    (gpu,) = gpus_from_api(replace(mignode, status=replace(mignode.status, models=())))
    assert not gpu.healthy


def test_a_gpu_with_a_problem_is_not_healthy() -> None:
    (gpu,) = gpus_from_api(mignode_of(node("gpu-1", [h100(problem="the GPU is lost")])))
    assert (gpu.healthy, gpu.problem) == (False, "the GPU is lost")


def test_a_gpu_listed_twice_is_a_bad_spec_that_names_the_field() -> None:
    sentence = rf"MigNode gpu-1 spec\.gpus\[1\]\.pciBusId: {BUS[0]} is listed twice"
    with pytest.raises(BadSpec, match=sentence) as raised:
        layouts_from_spec(with_spec(layout(BUS[0]), layout(BUS[0], (9, 0))))
    assert raised.value.hint


def test_a_placement_listed_twice_is_a_bad_spec_that_names_the_field() -> None:
    with pytest.raises(BadSpec, match=r"spec\.gpus\[1\]\.layout: the same placement is listed twice") as raised:
        layouts_from_spec(with_spec(layout(BUS[0]), layout(BUS[1], (19, 0), (9, 4), (19, 0))))
    assert raised.value.hint


@given(st.dictionaries(st.sampled_from(BUS), st.frozensets(PLACEMENTS, max_size=16)), st.data())
def test_what_is_withheld_survives_the_way_over_the_wire(
    layouts: dict[str, frozenset[Placement]], data: st.DataObject
) -> None:
    wanted = {bus: tuple(sorted(placements)) for bus, placements in layouts.items()}
    some = {bus: data.draw(st.frozensets(st.sampled_from(each))) for bus, each in wanted.items() if each}
    withheld = {bus: tuple(sorted(each)) for bus, each in some.items() if each}
    sent = wired(with_spec(*layouts_to_spec(wanted, withheld)))
    assert withheld_from_spec(sent) == withheld
    assert layouts_from_spec(sent) == wanted


def test_only_slices_of_the_layout_are_withheld() -> None:
    (gpu,) = layouts_to_spec({BUS[0]: (Placement(9, 0),)}, {BUS[0]: (Placement(9, 4), Placement(9, 0)), BUS[1]: ()})
    assert gpu.withheld == (PlacedProfile(profile_id=9, start=0),)


def test_a_withheld_slice_that_the_layout_lacks_is_a_bad_spec_that_names_the_field() -> None:
    foreign = replace(layout(BUS[1], (19, 0)), withheld=(PlacedProfile(profile_id=19, start=1),))
    sentence = r"MigNode gpu-1 spec\.gpus\[1\]\.withheld: profile 19 at slot 1 is not part of the layout"
    with pytest.raises(BadSpec, match=sentence) as raised:
        withheld_from_spec(with_spec(layout(BUS[0], (19, 1)), foreign))
    assert raised.value.hint


def test_a_card_with_more_placements_than_any_has_is_not_believed() -> None:
    model = model_to_api(card("rtx_pro_6000"))
    assert sum(len(each.starts) for each in model.profiles) <= MOST_PLACEMENTS / 2
    profile = replace(model.profiles[0], starts=tuple(range(32)))
    assert model_from_api(replace(model, profiles=(profile,) * 2)).profiles
    absurd = model_from_api(replace(model, profiles=(profile,) * 3))
    assert (absurd.product, absurd.memory_slots, absurd.profiles) == (model.product, 0, ())


def test_of_more_models_than_a_node_has_the_first_ones_are_believed() -> None:
    model = model_to_api(card("h100"))
    many = models_from_api(tuple(replace(model, product=f"card {number}") for number in range(12)))
    assert [bool(each.profiles) for each in many] == [True] * MOST_MODELS + [False] * (12 - MOST_MODELS)
