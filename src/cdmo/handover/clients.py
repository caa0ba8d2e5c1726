"""Stopping NVIDIA's own programs on a node, so that its GPUs can be reset, and starting them again.

The gpu-operator runs each of them where a label of the Node is `true`, and leaves any other value alone: that is how
its own MIG manager and its driver upgrades pause them too (gpu-operator, controllers/state_manager.go). Elsewhere
there is no such label, and nothing is stopped.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from cdmo.errors import ChangeStuck, ClusterError
from cdmo.handover.port import HandoverApi, NodePod
from cdmo.handover.waiting import Tell
from cdmo.model.cluster import NodeInfo
from cdmo.runtime.clock import Clock

_PREFIX = "nvidia.com/gpu.deploy."
# In the order in which they start again: what offers devices first, what looks at them after it.
_ORDER = tuple(_PREFIX + each for each in ("device-plugin", "gpu-feature-discovery", "dcgm", "dcgm-exporter", "nvsm"))
_RUNS, _PAUSED = "true", "paused-for-cdmo"
_PAUSE = 1.0  # seconds between two looks


class Clients:
    """NVIDIA's programs on one node."""

    def __init__(self, api: HandoverApi, clock: Clock, tell: Tell, node: str, limit: float) -> None:
        """`limit`: seconds for their pods to go."""
        self._api = api
        self._clock = clock
        self._tell = tell
        self._node = node
        self._limit = limit

    @asynccontextmanager
    async def stopped(self, node: NodeInfo | None) -> AsyncIterator[None]:
        """Inside the block they are stopped, where `node` is given; after it they run, whatever happened.

        Raises ChangeStuck when they do not go, ClusterError.
        """
        try:
            if node is not None:
                await self.stop(node)
            yield
        except BaseException:
            try:
                await self.start()
            except ClusterError as error:  # what came first says more to whoever has to act
                self._tell(f"{self._node}: NVIDIA's programs are still paused ({error}): run the command again")
            raise
        await self.start()

    async def stop(self, node: NodeInfo) -> None:
        """Stop those that run, and wait until their pods are gone. Raises ChangeStuck, ClusterError."""
        running = [each for each in _ORDER if node.labels.get(each) == _RUNS]
        if running:
            await self._api.mark_node(self._node, dict.fromkeys(running, _PAUSED), {})
        for each in running:
            self._tell(f"{self._node}: {each} is paused")
        # Also those that a command has paused which was interrupted before they were gone.
        going = [*running, *(each for each in _ORDER if node.labels.get(each) == _PAUSED)]
        deadline = self._clock.monotonic() + self._limit
        while left := _pods_of(going, await self._api.pods_on(self._node)):
            if self._clock.monotonic() >= deadline:
                raise ChangeStuck(
                    f"pods that have the GPUs of node {self._node} open do not go: {', '.join(left[:5])}",
                    hint="they are started again now; find out why they do not end",
                )
            await self._clock.sleep(_PAUSE)

    async def start(self) -> None:
        """Start what was stopped here, by this command or by one that was interrupted."""
        node = await self._api.node(self._node)
        for each in _ORDER:
            if node is not None and node.labels.get(each) == _PAUSED:
                await self._api.mark_node(self._node, {each: _RUNS}, {})


def _pods_of(labels: Iterable[str], pods: Iterable[NodePod]) -> list[str]:
    """The pods that run where one of these labels is."""
    wanted = frozenset(labels)
    return sorted(
        str(each.pod.key)
        for each in pods
        if not each.pod.finished and any(key in wanted for key, _ in each.pod.node_selector)
    )
