"""Fences that nobody will lower any more: the node's agent has been silent for long.

Only the agent can lower its fence knowing what it does; while it lives, however slow, it is left to it. A fence
whose agent is gone would keep the node from work for ever, so after `silent_seconds` it is lifted here, if the agent
had not come to the point where it touches something. From there on kubelet and hardware may disagree, and a pod that
is bound would be lost: that fence stays until the agent is back, and the Node's Events say so.
"""

from __future__ import annotations

from dataclasses import dataclass

import structlog

from cdmo.controller import events
from cdmo.controller.state import Heartbeats, Mirrors
from cdmo.errors import ClusterError
from cdmo.kube.port import EventSink, FenceApi
from cdmo.model.cluster import NodeInfo, carries_fence
from cdmo.model.names import FENCE_CHANGING, FENCE_LABEL, REPARTITIONING_TAINT

logger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class FenceSettings:
    """Seconds. Longer than any change can take, restarts of the agent included."""

    silent_seconds: float = 300.0


class StaleFences:
    """Lifts fences whose agent is silent."""

    def __init__(
        self, mirrors: Mirrors, heartbeats: Heartbeats, api: FenceApi, sink: EventSink, settings: FenceSettings
    ) -> None:
        self._mirrors = mirrors
        self._heartbeats = heartbeats
        self._api = api
        self._sink = sink
        self._settings = settings

    async def lift(self) -> None:
        """Look at every node once."""
        mignodes = self._mirrors.mignodes.items()
        for node in [each for each in self._mirrors.nodes.items().values() if carries_fence(each)]:
            mignode = mignodes.get(node.name)
            if mignode is None:
                continue
            silent = self._heartbeats.silent_for(mignode)
            if silent >= self._settings.silent_seconds:
                await self._lift(node, silent)

    async def _lift(self, node: NodeInfo, silent: float) -> None:
        value = node.labels.get(FENCE_LABEL)
        if value == FENCE_CHANGING:
            self._sink.emit(events.fence_stands(node, self._settings.silent_seconds))
            return
        try:
            # Over exactly this value, the taint with it: an agent that wakes up now either finds its fence gone, or
            # has made it its own, and then it stays.
            if not await self._api.take_off(node.name, FENCE_LABEL, value, REPARTITIONING_TAINT):
                return
        except ClusterError as error:
            logger.warning("a stale fence could not be lifted", node=node.name, error=str(error), hint=error.hint)
            return
        self._sink.emit(events.fence_lifted(node, silent))
