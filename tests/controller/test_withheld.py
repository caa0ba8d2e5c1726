"""What a window keeps from the scheduler, as it stands in MigNode specs."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from cdmo.api.convert import Withheld, withheld_from_spec
from cdmo.api.v1alpha1 import AgentInfo, GpuLayout, MigNodeSpec, PlacedProfile
from cdmo.controller.publish import Publisher
from cdmo.model.gpu import Placement
from cdmo.model.plan import GpuChange, Plan, Window
from tests.builders import BUS, IDLE, assigned, at, h100, key, node, pod
from tests.controller.bench import Bench, mignode_of
from tests.fakes.mignodes import FakeMigNodes

SMALL, WIDE, WHOLE = at("1g.10gb@0"), at("3g.40gb@4"), at("7g.80gb@0")
BUSY = h100(slices={"1g.10gb@0": "ml/small", "3g.40gb@4": "ml/wide"}, desired=["1g.10gb@0", "3g.40gb@4"])


def window(*in_the_way: Placement, name: str = "gpu-1", gpu: str = BUS[0]) -> Window:
    return Window(key("train"), name, ((gpu, WHOLE),), tuple((gpu, each) for each in in_the_way))


async def publish(api: FakeMigNodes, plan: Plan, *withholding: str) -> frozenset[str]:
    return await Publisher(api).publish(plan, dict(api.nodes).get, withholding, ())


def withheld(api: FakeMigNodes, name: str = "gpu-1") -> Withheld:
    return withheld_from_spec(api.nodes[name])


def writes(api: FakeMigNodes) -> list[str]:
    return [each for each in api.calls if each.startswith("write_spec")]


async def test_what_is_in_the_way_of_a_window_is_withheld_although_no_layout_changes() -> None:
    api = FakeMigNodes(mignode_of(node("gpu-1", [BUSY, h100(desired=["7g.80gb@0"])])))
    before = api.nodes["gpu-1"].spec
    assert not await publish(api, Plan(windows=(window(SMALL, WIDE),)))
    assert withheld(api) == {BUS[0]: tuple(sorted((SMALL, WIDE)))}
    assert [each.layout for each in api.nodes["gpu-1"].spec.gpus] == [each.layout for each in before.gpus]
    assert api.nodes["gpu-1"].spec.observed_revision == 7


async def test_a_window_that_stays_as_it_is_is_written_once() -> None:
    api = FakeMigNodes(mignode_of(node("gpu-1", [BUSY])))
    await publish(api, Plan(windows=(window(SMALL, WIDE),)))
    await publish(api, Plan(windows=(window(WIDE, SMALL),)), "gpu-1")
    assert writes(api) == ["write_spec gpu-1"]


async def test_a_window_that_moved_or_ended_leaves_nothing_behind() -> None:
    api = FakeMigNodes(mignode_of(node("gpu-1", [BUSY])), mignode_of(node("gpu-2", [BUSY])))
    await publish(api, Plan(windows=(window(SMALL),)))
    await publish(api, Plan(windows=(window(WIDE, name="gpu-2"),)), "gpu-1")
    assert (withheld(api), withheld(api, "gpu-2")) == ({}, {BUS[0]: (WIDE,)})
    await publish(api, Plan(), "gpu-2")
    assert withheld(api, "gpu-2") == {}
    assert [each.layout for each in api.nodes["gpu-2"].spec.gpus] == [
        (PlacedProfile(profile_id=9, start=4), PlacedProfile(profile_id=19, start=0))
    ]


async def test_a_change_and_what_is_withheld_are_one_write() -> None:
    api = FakeMigNodes(mignode_of(node("gpu-1", [BUSY, h100()])))
    changes = (
        GpuChange("gpu-1", BUS[0], (WIDE,), create=(), destroy=(SMALL,)),
        GpuChange("gpu-1", BUS[1], (WHOLE,), create=(WHOLE,), destroy=()),
    )
    await publish(api, Plan(changes=changes, windows=(window(WIDE),)))
    assert writes(api) == ["write_spec gpu-1"]
    assert withheld(api) == {BUS[0]: (WIDE,)}
    assert [len(each.layout) for each in api.nodes["gpu-1"].spec.gpus] == [1, 1]


async def test_a_gpu_that_was_left_as_it_is_gets_the_layout_of_what_is_there() -> None:
    there = h100(slices={"1g.10gb@0": "ml/small", "3g.40gb@4": "ml/wide"})
    api = FakeMigNodes(mignode_of(node("gpu-1", [there, h100()])))
    await publish(api, Plan(windows=(window(SMALL, WIDE),)))
    (gpu,) = api.nodes["gpu-1"].spec.gpus
    assert (gpu.pci_bus_id, gpu.layout, gpu.withheld) == (BUS[0], gpu.withheld, gpu.layout)
    assert len(gpu.layout) == 2


async def test_a_slice_that_the_plan_gives_to_a_pod_is_not_withheld_from_it() -> None:
    api = FakeMigNodes(mignode_of(node("gpu-1", [BUSY])))
    given = assigned("older", "gpu-1", "1g.10gb@0", action="reuse")
    await publish(api, Plan(placements=(given,), windows=(window(SMALL, WIDE),)))
    assert withheld(api) == {BUS[0]: (WIDE,)}


async def test_what_the_layout_lacks_is_not_withheld() -> None:
    api = FakeMigNodes(mignode_of(node("gpu-1", [BUSY])))
    await publish(api, Plan(windows=(window(SMALL, at("1g.10gb@1")),)))
    assert withheld(api) == {BUS[0]: (SMALL,)}


async def test_a_window_is_written_only_onto_what_it_was_planned_from() -> None:
    api = FakeMigNodes(mignode_of(node("gpu-1", [BUSY])))
    seen = dict(api.nodes)
    agent = AgentInfo(version="1", heartbeat="2026-01-01T00:00:10Z")
    api.set_status("gpu-1", replace(api.nodes["gpu-1"].status, agent=agent))
    plan = Plan(windows=(window(SMALL),))
    assert await Publisher(api).publish(plan, seen.get, (), ()) == frozenset()  # a heartbeat alone
    api.set_status("gpu-1", mignode_of(node("gpu-1", [h100(slices={"1g.10gb@0": IDLE})])).status)
    moved = Plan(windows=(window(WIDE),))
    assert await Publisher(api).publish(moved, seen.get, ["gpu-1"], ()) == {"gpu-1"}
    assert withheld(api) == {BUS[0]: (SMALL,)}


async def test_a_hand_written_contradiction_is_written_over() -> None:
    bench = Bench(node("gpu-1", [BUSY]))
    (gpu,) = bench.api.nodes["gpu-1"].spec.gpus
    bad = GpuLayout(pci_bus_id=BUS[0], layout=gpu.layout, withheld=(PlacedProfile(profile_id=19, start=6),))
    bench.api.set_spec("gpu-1", MigNodeSpec(observed_revision=7, gpus=(bad,)))
    await bench.loop.round()
    assert bench.api.nodes["gpu-1"].spec == MigNodeSpec(observed_revision=7, gpus=(gpu,))


async def window_bench() -> Bench:
    """A controller that keeps a window for a pod that has waited for a thousand seconds."""
    bench = Bench(node("gpu-1", [BUSY]))
    bench.pods["ml/train"] = pod("train", "7g.80gb", created=bench.clock.now() - 1000)
    await bench.loop.round()
    assert withheld(bench.api) == {BUS[0]: tuple(sorted((SMALL, WIDE)))}
    return bench


async def test_a_pod_that_waited_for_long_has_what_is_in_its_way_withheld_until_it_goes() -> None:
    bench = await window_bench()
    await bench.loop.round()
    assert writes(bench.api) == ["write_spec gpu-1"]
    bench.pods.clear()
    await bench.loop.round()
    assert withheld(bench.api) == {}
    await bench.loop.round()
    assert writes(bench.api) == ["write_spec gpu-1"] * 2


async def test_a_new_leader_finds_what_an_earlier_one_withheld() -> None:
    bench = await window_bench()
    after = Bench(node("gpu-1", [BUSY]))
    after.api.set_spec("gpu-1", bench.api.nodes["gpu-1"].spec)
    await after.loop.round()
    assert withheld(after.api) == {}


async def test_a_slice_that_ended_in_a_window_is_destroyed_and_the_rest_stays_withheld() -> None:
    bench = await window_bench()
    ended = mignode_of(node("gpu-1", [h100(slices={"1g.10gb@0": IDLE, "3g.40gb@4": "ml/wide"})]))
    bench.api.set_status("gpu-1", ended.status)
    await bench.loop.round()
    assert bench.specs()["gpu-1"] == {BUS[0]: [(9, 4)]}
    assert withheld(bench.api) == {BUS[0]: (WIDE,)}


@pytest.mark.parametrize("lost", ["mignode", "label"])
async def test_a_node_that_is_gone_or_was_taken_back_stops_no_round(lost: str) -> None:
    bench = await window_bench()
    if lost == "mignode":
        bench.api.nodes.clear()
        bench.nodes.clear()
    else:
        bench.nodes["gpu-1"] = node("gpu-1", labels={"cdmo.clear.ml/gpu-partitioning": ""}).node
    await bench.loop.round()
    await bench.loop.round()
    assert all(not withheld(bench.api, name) for name in bench.api.nodes)
