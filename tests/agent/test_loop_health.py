"""The agent's rounds on a node where GPUs or slices go wrong."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cdmo.model.reasons import EventReason
from tests.agent.bench import AgentBench
from tests.agent.nodes import BUS, THREE, THREE_HIGH, THREE_LOW, pod


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[AgentBench]:
    """Two slices, as the spec wants them."""
    made = AgentBench(tmp_path, THREE_LOW, THREE_HIGH)
    yield made
    made.rig.worker.close()


@pytest.fixture
async def settled(bench: AgentBench) -> AgentBench:
    """The same after some rounds."""
    await bench.round()
    bench.want(THREE_LOW, THREE_HIGH)
    await bench.round(after=10)
    bench.node.calls.clear()
    bench.events.events.clear()
    return bench


def hit(bench: AgentBench, *instances: int) -> None:
    """An error hits these slices, and the device plugin takes them out of use."""
    gpu = bench.gpus.gpu(BUS)
    for each in instances:
        gpu.slice_faults[each] = "XID 94 (contained memory error)"
    bench.node.hold_unhealthy(*(gpu.slice_uuid(each) for each in instances))


def reasons(bench: AgentBench) -> list[str]:
    return [each.reason for each in bench.events.events]


async def test_a_slice_in_use_is_left_alone_and_counts_for_nobody_without_any_alarm(settled: AgentBench) -> None:
    settled.node.admit(pod("train", {THREE: 1}), {THREE: [settled.rig.uuids[THREE_LOW]]})
    hit(settled, 1)
    for _ in range(5):
        await settled.round(after=30)
    assert settled.fences() == 0, "no reload for what the plugin holds unhealthy"
    assert settled.condition().status == "True"
    assert settled.condition("GpusHealthy").status == "False"
    assert settled.node.info.allocatable[THREE] == 1
    assert settled.node.info.capacity[THREE] == 2
    assert reasons(settled) == [EventReason.GPU_UNHEALTHY, EventReason.GPU_UNHEALTHY]
    assert [each.involved.name for each in settled.events.events] == ["gpu-1", "train"]


async def test_an_idle_one_is_cut_anew_and_used_again(settled: AgentBench) -> None:
    hit(settled, 1)
    await settled.round()
    assert settled.gpus.gpu(BUS).slice_faults == {}
    assert settled.gpus.calls.count(f"destroy {BUS}") == settled.gpus.calls.count(f"create {BUS}") - 2 == 1
    assert [each.state for each in settled.status.gpus[0].devices] == ["Idle", "Idle"]
    assert settled.node.info.allocatable[THREE] == 2
    assert reasons(settled)[0] == EventReason.GPU_UNHEALTHY
    assert reasons(settled)[-1] == EventReason.GPU_RECOVERED
    await settled.round(after=30)
    assert settled.fences() == 1, "and that is all"


async def test_it_is_cut_anew_once_its_pod_is_gone(settled: AgentBench) -> None:
    settled.node.admit(pod("train", {THREE: 1}), {THREE: [settled.rig.uuids[THREE_LOW]]})
    hit(settled, 1)
    await settled.round()
    settled.node.pods.clear()
    settled.node.shown.clear()
    settled.gpus.add_process(settled.rig.uuids[THREE_LOW], 17)  # force-deleted: its process runs on
    await settled.round(after=30)
    assert settled.fences() == 0
    settled.gpus.remove_process(17)
    await settled.round(after=30)
    assert settled.gpus.gpu(BUS).slice_faults == {}


async def test_a_gpu_in_trouble_is_not_touched_and_offers_nothing(settled: AgentBench) -> None:
    hit(settled, 1)
    settled.gpus.gpu(BUS).faults = ("XID 95 (uncontained memory error): reset it",)
    settled.want(THREE_LOW)
    for _ in range(3):
        await settled.round(after=30)
    assert settled.fences() == 0
    assert settled.rig.layout() == {THREE_LOW, THREE_HIGH}
    assert settled.node.info.allocatable[THREE] == 0
    assert "XID 95" in settled.condition().message
    settled.gpus.gpu(BUS).faults = ()
    await settled.round(after=120)
    assert settled.rig.layout() == {THREE_LOW}
    assert settled.node.info.allocatable[THREE] == 1


async def test_while_a_gpu_does_not_answer_nothing_is_changed_and_no_plugin_reloaded(settled: AgentBench) -> None:
    settled.node.admit(pod("train", {THREE: 1}), {THREE: [settled.rig.uuids[THREE_LOW]]})
    await settled.round()
    settled.gpus.gpu(BUS).lost = True
    settled.node.listed = {}  # what the plugin makes of it
    settled.want(THREE_LOW)
    for _ in range(4):
        await settled.round(after=30)
    assert settled.fences() == 0
    assert settled.condition().reason == "GpuDoesNotAnswer"
    assert len(settled.status.gpus[0].devices) == 2
    assert [each.involved.name for each in settled.events.events] == ["gpu-1", "train"]
    settled.gpus.gpu(BUS).lost = False
    await settled.round(after=30)
    await settled.round(after=30)
    assert settled.condition().status == "True"
    assert settled.rig.layout() == {THREE_LOW}
    assert settled.node.listed == {THREE: frozenset({settled.rig.uuids[THREE_LOW]})}
    assert EventReason.GPU_RECOVERED in reasons(settled)


async def test_a_device_that_the_plugin_alone_holds_unhealthy_makes_it_look_again_once(settled: AgentBench) -> None:
    """As for an XID that the plugin takes for serious and NVIDIA does not."""
    settled.node.hold_unhealthy(settled.rig.uuids[THREE_LOW])
    for _ in range(4):
        await settled.round(after=10)
    assert settled.fences() == 1
    assert settled.node.listed == {THREE: frozenset(settled.rig.uuids.values())}


async def test_on_a_node_that_is_not_labelled_nothing_is_cut_anew(settled: AgentBench) -> None:
    settled.label()
    hit(settled, 1)
    for _ in range(3):
        await settled.round(after=30)
    assert settled.fences() == 0
    assert settled.status.gpus[0].devices[0].state == "Unhealthy"
