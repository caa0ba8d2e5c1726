"""Nodes that something is wrong with: each says what, its agent goes on, and works when it is put right."""

from __future__ import annotations

import asyncio

import pytest
from cdmo_harness.gpu_node import LIBRARY_FOLDER, POD_RESOURCES_SOCKET

from tests.end_to_end.bed import LABELLED, SOON, Bed

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(120)]


async def reports(bed: Bed, node: str, reason: str, *, limit: float = SOON) -> str:
    """Return the message of the Ready condition once its reason is this one."""
    await bed.view.wait(f"{node} reports {reason}", lambda: bed.condition(node).reason == reason, limit=limit)
    return bed.condition(node).message


async def start_labelled(bed: Bed, node: str) -> None:
    """Label the node and start its agent."""
    await bed.view.label_node(node, LABELLED)
    await asyncio.to_thread(bed.cluster.start_agent, node)


@pytest.mark.simulated_kubelet(reason="it is about the GPU and its driver alone")
async def test_a_card_without_mig_is_named_and_left_alone(bed: Bed) -> None:
    async with bed.extra_node("plain", "L40S-48GB") as node:
        await start_labelled(bed, "plain")
        assert "can be cut" in await reports(bed, "plain", "NoMigGpu")
        status = bed.view.mignodes["plain"].status
        assert (status.gpus[0].mig_mode, status.summary.gpus) == ("Unsupported", 0)
        assert "L40S" in status.models[0].product
        await bed.submit("waits", "1g.10gb", node="plain")
        await bed.view.wait("the pod is told", lambda: bool(bed.waiting_events("waits")), limit=SOON)
        assert bed.cluster.agents["plain"].running
        assert node.driver.counters().mode_changes == 0


@pytest.mark.simulated_kubelet(reason="it is about the GPU and its driver alone")
async def test_a_missing_driver_is_told_with_a_hint_and_the_node_works_once_it_is_there(bed: Bed) -> None:
    async with bed.extra_node("bare", "H100-SXM5-80GB") as node:
        await asyncio.to_thread(node.enable_mig, 0)
        library = node.root / LIBRARY_FOLDER / node.setup.library.name
        away = library.with_name("away")
        library.rename(away)
        await start_labelled(bed, "bare")
        message = await reports(bed, "bare", "DriverUnavailable")
        assert "libnvidia-ml.so.1" in message
        assert "install the NVIDIA driver" in message
        assert bed.cluster.agents["bare"].running

        away.rename(library)
        await reports(bed, "bare", "Ready")
        await bed.running(await bed.submit("served", "1g.10gb", node="bare"))


async def test_a_missing_kubelet_socket_is_told_and_the_node_works_once_it_is_there(bed: Bed) -> None:
    async with bed.extra_node("deaf", "H100-SXM5-80GB") as node:
        await asyncio.to_thread(node.enable_mig, 0)
        socket = node.root / POD_RESOURCES_SOCKET
        away = socket.with_name("away.sock")
        socket.rename(away)
        await start_labelled(bed, "deaf")
        message = await reports(bed, "deaf", "KubeletUnavailable")
        assert "the socket is not there" in message
        assert bed.cluster.agents["deaf"].running

        away.rename(socket)
        await reports(bed, "deaf", "Ready")
        await bed.running(await bed.submit("served", "1g.10gb", node="deaf"))
