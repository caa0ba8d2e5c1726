"""`cdmo status`: a row a GPU, and a drawing of its memory slots."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from cdmo.api.v1alpha1 import GpuLayout, MigNode, ObservedDevice, PlacedProfile
from cdmo.cli._output import print_table
from cdmo.cli.status import COLUMNS, rows, slots
from cdmo.model.gpu import MigMode
from tests.builders import BUS, IDLE, IN_USE, Card, a30, h100, node, rtx_pro_6000
from tests.controller.bench import mignode_of


def cut(*cards: Card, name: str = "gpu-node-1") -> MigNode:
    return mignode_of(node(name, list(cards)))


@pytest.mark.parametrize(
    ("card", "drawn"),
    [
        (h100(), "........"),
        (h100(slices={"7g.80gb@0": IN_USE}), "########"),
        (h100(slices={"3g.40gb@4": "ml/train", "1g.10gb@0": IDLE}), "o...####"),
        (a30(slices={"2g.12gb@2": IDLE}), "..oo"),
        (rtx_pro_6000(), "............"),
    ],
    ids=["empty", "full", "mixed", "A30", "RTX-PRO"],
)
def test_slots_are_drawn_a_letter_each(card: Card, drawn: str) -> None:
    mignode = cut(card)
    assert slots(mignode, mignode.status.gpus[0]) == drawn


def test_slices_that_are_withheld_from_new_pods_are_told_from_other_busy_ones() -> None:
    mignode = cut(h100(slices={"3g.40gb@4": "ml/train", "1g.10gb@0": "ml/small", "1g.10gb@1": IDLE}))
    small = PlacedProfile(profile_id=19, start=0)
    gone = PlacedProfile(profile_id=19, start=1)
    spec = replace(
        mignode.spec,
        gpus=(
            GpuLayout(pci_bus_id=BUS[1]),
            GpuLayout(pci_bus_id=BUS[0], layout=(small, gone), withheld=(small, gone)),
        ),
    )
    assert slots(replace(mignode, spec=spec), mignode.status.gpus[0]) == "wo..####"


def test_what_is_out_of_use_is_drawn_and_the_reason_stands_beside_it() -> None:
    mignode = cut(h100(slices={"3g.40gb@4": "ml/train", "1g.10gb@0": IDLE}))
    (gpu,) = mignode.status.gpus
    devices = tuple(replace(each, problem="XID 94" if each.start == 4 else "") for each in gpu.devices)
    mignode = replace(mignode, status=replace(mignode.status, gpus=(replace(gpu, devices=devices),)))
    assert slots(mignode, mignode.status.gpus[0]) == "o...xxxx"
    (row,) = rows([mignode])
    assert row[-1].splitlines() == ["3g.40gb (ml/train) ! XID 94", "1g.10gb"]
    mignode = replace(mignode, status=replace(mignode.status, gpus=(replace(gpu, problem="XID 95"),)))
    assert slots(mignode, mignode.status.gpus[0]) == "x...xxxx"
    (row,) = rows([mignode])
    assert row[-1].splitlines()[0] == "! XID 95"


def test_a_gpu_of_an_unreported_model_has_no_drawing_and_an_unknown_product() -> None:
    mignode = cut(h100())
    mignode = replace(mignode, status=replace(mignode.status, models=()))
    assert slots(mignode, mignode.status.gpus[0]) == ""
    assert [row[2] for row in rows([mignode])] == ["unknown"]


def test_an_instance_of_an_unlisted_profile_is_named_by_its_number() -> None:
    mignode = cut(h100())
    device = ObservedDevice(profile_id=77, start=9)
    gpu = replace(mignode.status.gpus[0], devices=(device,))
    mignode = replace(mignode, status=replace(mignode.status, gpus=(gpu,)))
    (row,) = rows([mignode])
    assert (row[4], row[5]) == ("........", "77")


def test_a_node_that_has_not_reported_yet_has_no_row() -> None:
    assert list(rows([MigNode()])) == []


def test_the_table_of_usual_nodes_fits_80_columns(capsys: pytest.CaptureFixture[str]) -> None:
    nodes = [
        cut(h100(slices={"3g.40gb@4": "ml/train-1", "1g.10gb@0": IDLE}), h100(mig_mode=MigMode.DISABLED)),
        cut(a30(slices={"4g.24gb@0": "ml/large"}), name="gpu-node-2"),
    ]
    print_table(COLUMNS, rows(nodes))
    assert [line.rstrip() for line in capsys.readouterr().out.splitlines()] == [
        "NODE        GPU      PRODUCT         MIG       SLOTS     SLICES (pod)",
        "gpu-node-1  10:00.0  H100 80GB HBM3  Enabled   o...####  3g.40gb (ml/train-1)",
        "                                                         1g.10gb",
        "gpu-node-1  20:00.0  H100 80GB HBM3  Disabled  ........",
        "gpu-node-2  10:00.0  A30             Enabled   ####      4g.24gb (ml/large)",
    ]


def test_a_card_with_more_slots_than_any_has_is_drawn_as_far_as_is_believed() -> None:
    node = cut(h100())
    absurd = replace(node.status.models[0], memory_slots=10**15)
    node = replace(node, status=replace(node.status, models=(absurd,)))
    assert slots(node, node.status.gpus[0]) == "." * 64
