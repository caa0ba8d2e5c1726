"""Cutting slices on a node's one GPU, and looking at them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from cdmo_harness.gpu_node import GpuNode

from tests.harness.kubelet.cluster import LIMIT, Kubelet

ONE_G, THREE_G = "nvidia.com/mig-1g.10gb", "nvidia.com/mig-3g.40gb"
THREE_G_AT_4, ONE_G_AT_0, ONE_G_AT_1 = (0, 9, 4), (0, 19, 0), (0, 19, 1)


async def with_slices(node: GpuNode, *slices: tuple[int, int, int]) -> list[str]:
    """Cut slices and let the plugin register them, each resource once: a reload would be a window for failures."""
    node.wait_for_plugin()
    node.stop_plugin()
    await Kubelet(node).until_allocatable({})
    uuids = node.cut(*slices)
    node.start_plugin()
    await Kubelet(node).until_allocatable(existing(node))
    return uuids


def existing(node: GpuNode) -> dict[str, set[str]]:
    """The slices there are, by resource."""
    found: dict[str, set[str]] = {}
    for piece in node.driver.snapshot()[0].slices:
        found.setdefault(f"nvidia.com/mig-{piece.profile}", set()).add(piece.uuid)
    return found


def processes(node: GpuNode, uuid: str) -> int:
    """How many processes are on a slice."""
    return next(piece.processes for piece in node.driver.snapshot()[0].slices if piece.uuid == uuid)


async def until(holds: Callable[[], bool]) -> None:
    """Wait for something on disk, which tells nobody when it changes."""
    async with asyncio.timeout(LIMIT):
        while not holds():  # noqa: ASYNC110
            await asyncio.sleep(0.02)
