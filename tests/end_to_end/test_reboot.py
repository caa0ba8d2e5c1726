"""A node reboots: its slices are gone, on Hopper its MIG mode too, and both come back."""

from __future__ import annotations

import asyncio

import pytest

from tests.end_to_end.bed import LABELLED, SOON, Bed

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(120)]


async def reboot(bed: Bed, name: str) -> None:
    """As a boot does it: nothing is told, kubelet and plugin start, then the agent."""
    await asyncio.to_thread(bed.cluster.stop_agent, name, grace=0)
    await asyncio.to_thread(bed.cluster.nodes[name].reboot)
    assert not bed.slices(name)
    await asyncio.to_thread(bed.cluster.start_agent, name)


@pytest.mark.parametrize(
    ("name", "keeps_mode"), [("gpu-1", False), ("gpu-2", True)], ids=["Hopper-loses-its-mode", "Ampere-keeps-it"]
)
async def test_after_a_reboot_the_wanted_layout_comes_back(name: str, keeps_mode: bool, bed: Bed) -> None:
    layouts = ([(9, 4), (19, 0), (19, 1)], [(5, 0)])
    await bed.lay_out(name, *layouts)
    wanted = bed.slices(name).keys()
    ended = await bed.submit("ended", "3g.40gb", node=name, run_seconds=0.2)
    await bed.view.wait("a pod has used it", lambda: bed.view.pods[ended].phase == "Succeeded", limit=SOON)
    boot = bed.view.mignodes[name].status.agent.boot_id

    await reboot(bed, name)
    driver = bed.cluster.nodes[name].driver
    assert [each.mig_enabled for each in driver.snapshot()] == [keeps_mode] * 2
    await bed.view.wait(
        "the layout is back", lambda: bed.slices(name).keys() == wanted and bed.settled(name), limit=30.0
    )
    assert all(each.mig_enabled for each in driver.snapshot())
    assert bed.view.mignodes[name].status.agent.boot_id != boot
    pod = await bed.running(await bed.submit("after", "3g.40gb", node=name))
    assert bed.slice_of(pod).start == 4


async def test_a_gpu_that_was_not_cut_gets_its_mode_back_too_and_can_be_cut(bed: Bed) -> None:
    await reboot(bed, "gpu-1")
    await bed.running(await bed.submit("next", "7g.80gb", 2, node="gpu-1"), limit=30.0)


async def test_a_pod_that_ran_when_the_node_went_down_does_not_keep_others_from_its_slices(bed: Bed) -> None:
    """It is lost whatever CDMO does: the kubelet admits it anew before anybody can have cut its slice again, or finds
    its container dead first and does not try."""
    async with bed.extra_node("gpu-r", "H100-SXM5-80GB", may_lose_pods=True) as node:
        await asyncio.to_thread(node.enable_mig, 0)
        await bed.view.label_node("gpu-r", LABELLED)
        await asyncio.to_thread(bed.cluster.start_agent, "gpu-r")
        ran = await bed.submit("ran", "7g.80gb", node="gpu-r")
        await bed.running(ran)
        await reboot(bed, "gpu-r")
        await bed.view.wait("the pod is lost", lambda: bed.view.pods[ran].phase == "Failed", limit=SOON)
        next_one = await bed.submit("next", "3g.40gb", 2, node="gpu-r")
        await bed.running(next_one)
        assert node.counters().started_on_dead_device == 0
        assert sum(node.counters().admission_failures.values()) <= 1
