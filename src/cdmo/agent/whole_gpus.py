"""Keeps the fence up until the scheduler counts no more whole GPUs than the kubelet has.

CDMO writes the counts of slices only; that of whole GPUs is the kubelet's, which reports it every ten seconds. After
a GPU's MIG mode was switched on, a pod that asks for a whole one could be bound by the old count, and would be
failed. It is rare: only whoever changes the mode waits for that report.
"""

from __future__ import annotations

from collections.abc import Mapping

from cdmo.kube.port import FenceApi
from cdmo.kubelet.port import PodResources
from cdmo.model.cluster import NodeInfo
from cdmo.model.names import is_whole_gpu_resource
from cdmo.runtime.clock import Clock
from cdmo.runtime.pauses import growing

_FIRST_PAUSE = 0.02  # seconds; the plugin registers whole GPUs within the same milliseconds as slices
_LONGEST_PAUSE = 0.5
_GROWTH = 1.5


class WholeGpus:
    """Those of one node."""

    def __init__(self, node: str, api: FenceApi, pods: PodResources, clock: Clock) -> None:
        self._node = node
        self._api = api
        self._pods = pods
        self._clock = clock

    async def settled(self, node: NodeInfo) -> None:
        """Return when they are. `node`: as it was just now. The caller limits how long. Raises ClusterError and
        KubeletError."""
        pauses = growing(_FIRST_PAUSE, _GROWTH, _LONGEST_PAUSE)
        while _promised(node) and _too_many(node, await self._pods.allocatable()):
            await self._clock.sleep(next(pauses))
            node = await self._api.node(self._node)


def _promised(node: NodeInfo) -> bool:
    return any(count and is_whole_gpu_resource(name) for name, count in node.allocatable.items())


def _too_many(node: NodeInfo, listed: Mapping[str, frozenset[str]]) -> bool:
    return any(
        count > len(listed.get(name, ())) for name, count in node.allocatable.items() if is_whole_gpu_resource(name)
    )
