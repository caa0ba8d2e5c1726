"""A kubelet that was left broken by a registration that came too early: told, kept behind the fence, healed."""

from __future__ import annotations

import asyncio

import grpc.aio
import pytest
from cdmo_harness.gpu_node import GpuNode

from cdmo.model.cluster import carries_fence
from tests.end_to_end.bed import SOON, Bed
from tests.node_backends import NodeBackend
from tests.real_node.registration import register_again

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(240)]

NODE, RESOURCE = "gpu-3", "nvidia.com/mig-1g.6gb"
LONG = 90.0  # seconds: the agent tries again ever less often, up to once a minute


async def broken(node: GpuNode, minor: int) -> bool:
    """Whether the kubelet minded a second registration: the newest minor does, the others take it."""
    if minor < 37:
        await register_again(node, RESOURCE)
        return False
    with pytest.raises(grpc.aio.AioRpcError, match="already connected"):
        await register_again(node, RESOURCE)
    return True


async def test_a_broken_kubelet_is_told_and_kept_behind_the_fence_until_it_is_restarted(
    bed: Bed, node_backend: NodeBackend
) -> None:
    node, view = bed.cluster.nodes[NODE], bed.view
    await bed.lay_out(NODE, [(14, 0)])
    is_broken = await broken(node, node_backend.minor)

    waits = await bed.submit("waits", "2g.12gb", node=NODE)
    if is_broken:
        await view.wait("the agent tells", lambda: bed.condition(NODE).reason == "DevicePluginStuck", limit=SOON)
        assert bed.condition(NODE).status == "False"
        assert "restart the kubelet" in bed.condition(NODE).message
        await view.wait("its change is reported", lambda: bed.failed_change(NODE), limit=SOON)
        assert carries_fence(view.nodes[NODE])
        (told, *_) = await told_of(bed)
        assert "restart the kubelet" in told
        assert not view.pods[waits].info.node_name

        await asyncio.to_thread(node.restart_kubelet)
    await bed.running(waits, limit=LONG)
    await view.wait("nothing is under way", lambda: bed.settled(NODE), limit=LONG)
    assert bed.condition(NODE).status == "True"


async def told_of(bed: Bed) -> list[str]:
    """What Events of reason DevicePluginStuck say of the node, once there is one."""
    async with asyncio.timeout(SOON):
        while not (said := await asyncio.to_thread(bed.events_of_node, NODE, "DevicePluginStuck")):  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    return said
