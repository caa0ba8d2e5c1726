"""Slices that somebody cut by hand are reported, kept and used."""

from __future__ import annotations

import asyncio

import pytest
from cdmo_harness.driver import SliceSnapshot
from cdmo_harness.gpu_node import GpuNode

from tests.end_to_end.bed import LABELLED, SOON, Bed, Where

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(120)]


async def cut_by_hand(bed: Bed, node: GpuNode, *slices: Where) -> None:
    """As an administrator does it before CDMO comes: nvidia-smi, then the device plugin is told.

    Not in the plugin's first look: it would register the slices twice in a row, which a kubelet 1.37 can answer with
    "already connected" for good.
    """
    name, whole = node.setup.name, len(node.driver.snapshot())
    await bed.view.wait(
        f"the plugin of {name} has looked once",
        lambda: bed.view.nodes[name].allocatable.get("nvidia.com/gpu") == whole,
        limit=SOON,
    )
    await asyncio.to_thread(node.cut, *slices)
    await asyncio.to_thread(node.reload_plugin)


async def hand_over(bed: Bed, name: str) -> dict[Where, SliceSnapshot]:
    """Label the node and start its agent; returns what it is cut into once the agent has reported it."""
    there = bed.slices(name)
    await bed.view.label_node(name, LABELLED)
    await asyncio.to_thread(bed.cluster.start_agent, name)
    await bed.view.wait(
        f"{name} is reported as it is",
        lambda: bed.condition(name).status == "True" and bed.settled(name),
        limit=SOON,
    )
    return there


async def test_slices_cut_before_cdmo_came_are_reported_kept_and_given_to_pods_as_they_are(bed: Bed) -> None:
    async with bed.extra_node("gpu-a", "H100-SXM5-80GB", "H100-SXM5-80GB") as node:
        await cut_by_hand(bed, node, (0, 9, 4), (0, 19, 0), (1, 0, 0))
        there = await hand_over(bed, "gpu-a")
        assert there.keys() == {(0, 9, 4), (0, 19, 0), (1, 0, 0)}
        assert bed.slices("gpu-a") == there
        assert bed.view.mignodes["gpu-a"].status.summary.slices == "0/3"

        pods = [
            await bed.running(await bed.submit(f"adopter-{profile[0]}", profile, node="gpu-a"))
            for profile in ("3g.40gb", "1g.10gb", "7g.80gb")
        ]
        assert [pod.devices[0] for pod in pods] == [there[w].uuid for w in ((0, 9, 4), (0, 19, 0), (1, 0, 0))]
        assert bed.changes("gpu-a") == 0
        assert node.driver.counters().gpu_instances_destroyed == 0


async def test_an_adopted_slice_in_use_stays_when_the_gpu_is_cut_further(bed: Bed) -> None:
    async with bed.extra_node("gpu-b", "H100-SXM5-80GB") as node:
        await cut_by_hand(bed, node, (0, 14, 2))
        node.driver.add_process(next(iter(bed.slices("gpu-b").values())).uuid, 4_000_000)
        there = await hand_over(bed, "gpu-b")

        await bed.running(await bed.submit("beside", "3g.40gb", node="gpu-b"))
        assert bed.slices("gpu-b")[0, 14, 2] == there[0, 14, 2]
        await bed.submit("too-big", "7g.80gb", node="gpu-b")
        await bed.view.wait("the pod is told why it waits", lambda: bool(bed.waiting_events("too-big")), limit=SOON)
        assert bed.slices("gpu-b")[0, 14, 2] == there[0, 14, 2]


async def test_a_slice_cut_by_hand_while_cdmo_runs_is_adopted_and_served_after_one_reload(bed: Bed) -> None:
    async with bed.extra_node("gpu-c", "H100-SXM5-80GB") as node:
        await asyncio.to_thread(node.enable_mig, 0)
        await hand_over(bed, "gpu-c")
        await bed.running(await bed.submit("first", "1g.10gb", node="gpu-c"))
        before, changes = bed.slices("gpu-c"), bed.changes("gpu-c")

        assert before.keys() == {(0, 19, 6)}
        await asyncio.to_thread(node.cut, (0, 9, 0))  # nobody tells the plugin
        await bed.view.wait(
            "the slice cut by hand is offered",
            lambda: bed.view.nodes["gpu-c"].allocatable.get("nvidia.com/mig-3g.40gb") == 1 and bed.settled("gpu-c"),
            limit=30.0,
        )
        cut = bed.slices("gpu-c")
        assert cut.keys() == before.keys() | {(0, 9, 0)}
        assert bed.changes("gpu-c") == changes + 1  # the plugin's reload, behind the fence

        pod = await bed.running(await bed.submit("second", "3g.40gb", node="gpu-c"))
        assert pod.devices == (cut[0, 9, 0].uuid,)
        assert bed.changes("gpu-c") == changes + 1
        assert node.driver.counters().gpu_instances_destroyed == 0


async def test_a_node_that_is_labelled_before_its_agent_starts_loses_nothing_to_pods_that_wait(bed: Bed) -> None:
    """The pod that waits wants all of the GPU on which a slice is in use: the agent's first look comes first."""
    async with bed.extra_node("gpu-d", "H100-SXM5-80GB") as node:
        await cut_by_hand(bed, node, (0, 19, 3))
        holder = await bed.running(await bed.submit("holder", "1g.10gb", node="gpu-d"))
        before = bed.slice_of(holder)
        await bed.submit("big", "7g.80gb", node="gpu-d")
        await bed.submit("small", "2g.20gb", node="gpu-d")
        await hand_over(bed, "gpu-d")
        await bed.running("default/small")
        assert bed.slice_of(holder) == before
        assert bed.view.pods["default/big"].phase == "Pending"
        assert node.driver.counters().gpu_instances_destroyed == 0
