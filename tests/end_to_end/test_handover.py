"""An administrator gives a node to CDMO, works with it, and takes it back: the guide's way from end to end."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from cdmo_harness.gpu_node import GpuNode
from cdmo_harness.local_cluster import CDMO

from cdmo.model.names import CHANGE_LABEL, MANAGED_LABEL, PARTITIONING_LABEL
from tests.end_to_end.bed import SOON, Bed

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(180)]

NODE = "gpu-h"
WHOLE = "nvidia.com/gpu"
QUEUES = ("1g.10gb", "2g.20gb", "4g.40gb", "7g.80gb")  # of slice-1, slice-2, slice-4, slice-7


async def cdmo(bed: Bed, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The real command, as the administrator."""
    kubeconfig = str(bed.cluster.control_plane.admin_kubeconfig)
    command = [str(CDMO), *arguments, "--kubeconfig", kubeconfig]
    return await asyncio.to_thread(
        subprocess.run, command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=120, check=False
    )


@asynccontextmanager
async def fresh_node(bed: Bed, *cards: str) -> AsyncIterator[GpuNode]:
    """A node as it comes: MIG off, no label. The agent is there, as the DaemonSet starts it with the label."""
    async with bed.extra_node(NODE, *cards) as node:
        await asyncio.to_thread(bed.cluster.start_agent, NODE)
        await bed.view.wait("it offers whole GPUs", lambda: whole(bed) == len(cards), limit=SOON)
        yield node


def whole(bed: Bed) -> int:
    """How many whole GPUs the node offers."""
    return bed.view.nodes[NODE].allocatable.get(WHOLE, 0)


def modes(node: GpuNode) -> list[bool]:
    return [each.mig_enabled for each in node.driver.snapshot()]


async def test_enable_four_queues_disable_and_whole_gpus_are_back(bed: Bed) -> None:
    async with fresh_node(bed, "H100-SXM5-80GB", "H100-SXM5-80GB") as node:
        enabled = await cdmo(bed, "enable", NODE)
        assert (enabled.returncode, enabled.stderr) == (0, "")
        assert enabled.stdout.endswith(f"{NODE}: MIG mode is on on 2 of 2 GPUs\n")
        assert (modes(node), whole(bed)) == ([True, True], 0)

        keys = [await bed.submit(f"queue-{each[0]}", each, node=NODE) for each in QUEUES]
        for each in keys:
            await bed.running(each)

        refused = await cdmo(bed, "disable", NODE)
        assert refused.returncode == 1
        assert (
            f"error: pods use the GPUs of node {NODE}: default/queue-1 (1 nvidia.com/mig-1g.10gb)" in refused.stderr
        )
        assert "hint: end them, or wait for them with --wait" in refused.stderr
        assert modes(node) == [True, True]

        await bed.end(*keys)
        disabled = await cdmo(bed, "disable", NODE)
        assert (disabled.returncode, disabled.stderr) == (0, "")
        assert f"{NODE}: offers 2 whole GPUs" in disabled.stdout
        assert "cdmo gpu-operator values --off" in disabled.stdout
        assert (modes(node), bed.slices(NODE)) == ([False, False], {})
        await bed.view.wait("its labels are gone", lambda: not labels(bed), limit=SOON)
        await bed.running(await bed.submit_asking("whole", {WHOLE: 2}, node=NODE))


def labels(bed: Bed) -> set[str]:
    """Those of CDMO that the Node carries."""
    return {PARTITIONING_LABEL, MANAGED_LABEL, CHANGE_LABEL} & bed.view.nodes[NODE].labels.keys()


async def test_with_wait_the_pods_on_slices_end_in_peace_while_nobody_new_gets_one(bed: Bed) -> None:
    async with fresh_node(bed, "H100-SXM5-80GB") as node:
        assert (await cdmo(bed, "enable", NODE)).returncode == 0
        runs = await bed.submit("runs", "3g.40gb", node=NODE)
        await bed.running(runs)
        leaving = asyncio.create_task(cdmo(bed, "disable", NODE, "--wait"))
        await bed.view.wait(
            "its slices are offered to nobody",
            lambda: bed.view.nodes[NODE].allocatable.get("nvidia.com/mig-3g.40gb", 0) == 0,
            limit=SOON,
        )
        assert bed.view.pods[runs].phase == "Running"
        assert modes(node) == [True]
        await bed.end(runs)
        done = await leaving
        assert (done.returncode, done.stderr, modes(node)) == (0, "", [False])


async def test_with_drain_they_are_evicted(bed: Bed) -> None:
    async with fresh_node(bed, "H100-SXM5-80GB") as node:
        assert (await cdmo(bed, "enable", NODE)).returncode == 0
        await bed.running(await bed.submit("runs", "3g.40gb", node=NODE))
        done = await cdmo(bed, "disable", NODE, "--drain")
        assert (done.returncode, done.stderr, modes(node)) == (0, "", [False])


async def test_the_pages_commands_by_hand_do_the_same(bed: Bed) -> None:
    """`nvidia-smi -mig 1`, the label; later the label off, `nvidia-smi mig -dci`, `-dgi`, `nvidia-smi -mig 0`."""
    async with fresh_node(bed, "H100-SXM5-80GB") as node:
        await asyncio.to_thread(node.enable_mig, 0)
        await bed.view.label_node(NODE, {PARTITIONING_LABEL: "mig"})
        runs = await bed.submit("runs", "7g.80gb", node=NODE)
        await bed.running(runs)
        assert whole(bed) == 0
        await bed.end(runs)
        await bed.view.label_node(NODE, {PARTITIONING_LABEL: None})
        await bed.view.wait("its labels are gone", lambda: not labels(bed), limit=SOON)
        assert len(bed.slices(NODE)) == 1, "without the label nothing is changed any more"


async def test_ampere_is_switched_by_a_reset_where_that_is_allowed_and_not_before(bed: Bed) -> None:
    async with fresh_node(bed, "A100-SXM4-80GB") as node:
        refused = await cdmo(bed, "enable", NODE)
        assert (refused.returncode, modes(node)) == (1, [False])
        assert "hint: allow the reset (`--reset`)" in refused.stderr
        enabled = await cdmo(bed, "enable", NODE, "--reset")
        assert (enabled.returncode, enabled.stderr, modes(node)) == (0, "", [True])
        runs = await bed.submit("runs", "3g.40gb", node=NODE)
        await bed.running(runs)
        await bed.end(runs)
        waits = await cdmo(bed, "disable", NODE)
        assert waits.returncode == 1
        assert "hint: reboot the node, or have its GPUs reset (`--reset`); then run the same command" in waits.stderr
        assert (modes(node), bed.slices(NODE)) == ([True], {})
        done = await cdmo(bed, "disable", NODE, "--reset")
        assert (done.returncode, done.stderr, modes(node)) == (0, "", [False])


async def test_a_node_without_mig_cards_is_not_labelled(bed: Bed) -> None:
    async with fresh_node(bed, "L40S-48GB"):
        refused = await cdmo(bed, "enable", NODE)
        assert (refused.returncode, labels(bed) - {MANAGED_LABEL}) == (1, set())
        assert f"error: no GPU of node {NODE} can be cut into MIG slices" in refused.stderr


@pytest.mark.parametrize("verb", ["enable", "disable"])
async def test_a_node_that_does_not_exist_is_told_in_a_sentence_and_a_hint(verb: str, bed: Bed) -> None:
    refused = await cdmo(bed, verb, "gpu-1", "nowhere")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr == "error: there is no node nowhere\nhint: `kubectl get nodes` lists them\n"
