"""Counts kept right between changes, seen through the agent's rounds: above all of slices withheld from new pods."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from cdmo.api.v1alpha1 import GpuLayout, Mode, PlacedProfile
from cdmo.errors import ClusterUnavailable
from cdmo.model.gpu import Placement
from cdmo.model.reasons import EventReason
from tests.agent.bench import NAME, AgentBench
from tests.agent.nodes import BUS, ONE, THREE, THREE_HIGH, pod

SMALL = tuple(Placement(19, start) for start in range(3))
LAYOUT = (*SMALL, THREE_HIGH)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[AgentBench]:
    """Three 1g slices with a pod each, and an idle 3g slice."""
    made = AgentBench(tmp_path, *LAYOUT)
    for number, each in enumerate(SMALL):
        made.node.admit(pod(f"small-{number}", {ONE: 1}), {ONE: [made.rig.uuids[each]]})
    yield made
    made.rig.worker.close()


async def withholding(bench: AgentBench) -> None:
    await bench.round()
    bench.want(*LAYOUT, withheld=SMALL)
    await bench.round()
    assert offered(bench) == 0


def offered(bench: AgentBench, resource: str = ONE) -> int:
    return bench.node.info.allocatable[resource]


async def test_withholding_is_a_lower_count_without_fence_change_or_reload(bench: AgentBench) -> None:
    await withholding(bench)
    assert (bench.node.info.capacity[ONE], offered(bench, THREE)) == (3, 1)
    assert (bench.fences(), bench.node.calls.count("reload")) == (0, 0)
    assert bench.rig.layout() == set(LAYOUT)
    assert bench.status.last_repartition is None
    assert {each.summary.phase for each in bench.api.statuses} == {"Ready"}
    assert not bench.events.events


async def test_a_count_that_is_right_is_not_written_again(bench: AgentBench) -> None:
    await withholding(bench)
    written = bench.node.calls.count("set_mig_capacity")
    await bench.round()
    await bench.round()
    assert bench.node.calls.count("set_mig_capacity") == written


async def test_what_the_kubelets_status_period_set_back_is_lowered_again(bench: AgentBench) -> None:
    await withholding(bench)
    await bench.node.set_mig_capacity(NAME, {ONE: 3}, {ONE: 3})
    await bench.round()
    assert (bench.node.info.capacity[ONE], offered(bench)) == (3, 0)


async def test_a_slice_whose_pod_ended_is_out_of_reach_until_the_next_plan_has_destroyed_it(
    bench: AgentBench,
) -> None:
    await withholding(bench)
    del bench.node.pods[("ml", "small-0")], bench.node.shown[("ml", "small-0")]
    await bench.round()
    assert offered(bench) <= 2 - 2
    bench.want(*LAYOUT[1:], withheld=SMALL[1:])
    await bench.round()
    assert bench.rig.layout() == set(LAYOUT[1:])
    assert (bench.node.info.capacity[ONE], offered(bench)) == (2, 0)
    assert bench.fences() == 1


async def test_when_nothing_is_withheld_any_more_the_real_count_is_back(bench: AgentBench) -> None:
    await withholding(bench)
    bench.want(*LAYOUT)
    await bench.round()
    assert offered(bench) == 3


async def test_the_real_count_waits_for_the_kubelets_devices(bench: AgentBench) -> None:
    await withholding(bench)
    bench.want(*LAYOUT)
    listed, bench.node.listed = bench.node.listed, {}
    await bench.round()
    assert offered(bench) == 0
    bench.node.listed = listed
    await bench.round()
    assert offered(bench) == 3


async def test_without_the_label_the_real_count_is_put_back_once_and_then_left_alone(bench: AgentBench) -> None:
    await withholding(bench)
    bench.label()
    await bench.round()
    assert offered(bench) == 3
    await bench.node.set_mig_capacity(NAME, {ONE: 3}, {ONE: 1})  # somebody else's business from now on
    await bench.round()
    assert offered(bench) == 1


async def test_a_count_that_could_not_be_put_back_when_the_label_went_is_put_back_later(bench: AgentBench) -> None:
    await withholding(bench)
    bench.label()
    bench.node.fails["set_mig_capacity"] = [ClusterUnavailable("no answer")]
    with pytest.raises(ClusterUnavailable):
        await bench.round()
    await bench.round()
    assert offered(bench) == 3


async def test_of_a_disabled_node_nothing_is_offered_any_more_though_a_pod_keeps_its_gpu_cut(
    bench: AgentBench,
) -> None:
    await withholding(bench)
    bench.node.admit(pod("train", {ONE: 1}), {ONE: [bench.rig.uuids[SMALL[0]]]})
    bench.want(*LAYOUT, withheld=SMALL, mode=Mode.DISABLED)
    await bench.round()
    assert (offered(bench), bench.fences()) == (0, 0)


async def test_a_withheld_slice_outside_the_layout_is_a_bad_spec_and_withholds_nothing(bench: AgentBench) -> None:
    await withholding(bench)
    spec = bench.api.nodes[NAME].spec
    (gpu,) = spec.gpus
    foreign = (*gpu.withheld, PlacedProfile(profile_id=19, start=6))
    bad = GpuLayout(pci_bus_id=BUS, layout=gpu.layout, withheld=foreign)
    bench.api.set_spec(NAME, replace(spec, gpus=(bad,)))
    await bench.round()
    assert (bench.condition().status, bench.condition().reason) == ("False", "BadSpec")
    assert "spec.gpus[0].withheld: profile 19 at slot 6 is not part of the layout" in bench.condition().message
    assert [each.reason for each in bench.events.events] == [EventReason.BAD_SPEC]
    assert (bench.rig.layout(), bench.fences(), offered(bench)) == (set(LAYOUT), 0, 3)


async def test_a_new_agent_goes_on_withholding(bench: AgentBench) -> None:
    await withholding(bench)
    await bench.node.set_mig_capacity(NAME, {ONE: 3}, {ONE: 3})
    bench.new_agent()
    await bench.round()
    assert offered(bench) == 0


async def test_a_pod_that_ends_during_the_look_does_not_raise_the_count(bench: AgentBench) -> None:
    """It is seen to hold its slice still, while the mirror of pods no longer shows it."""
    await withholding(bench)
    asked = 0

    def end_while_devices_are_asked_for(call: str) -> None:
        nonlocal asked
        asked += call == "get"
        if call == "get" and asked == len(SMALL):
            bench.node.pods.pop(("ml", "small-0"), None)

    bench.node.on_call = end_while_devices_are_asked_for
    await bench.round()
    assert asked == len(SMALL)
    assert offered(bench) == 0
