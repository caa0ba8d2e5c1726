"""Fences that nobody will lower any more: the node's agent has been silent for long.

Only the agent can lower its fence knowing what it does; while it lives, however slow, it is left to it. A fence
whose agent is gone would keep the node from work for ever, so after `silent_seconds` it is lifted here.
"""

from __future__ import annotations

from dataclasses import dataclass

import structlog

from cdmo.controller.state import Heartbeats, Mirrors
from cdmo.errors import ClusterError
from cdmo.kube.port import Event, EventSink, FenceApi, Involved
from cdmo.model.cluster import NodeInfo, carries_fence
from cdmo.model.names import FENCE_LABEL, REPARTITIONING_TAINT
from cdmo.model.reasons import EventReason

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
        try:
            await self._api.set_labels(node.name, {FENCE_LABEL: None})
            await self._api.remove_taint(node.name, REPARTITIONING_TAINT)
        except ClusterError as error:
            logger.warning("a stale fence could not be lifted", node=node.name, error=str(error), hint=error.hint)
            return
        message = (
            f"the fence was lifted: the node's agent has been silent for {silent:.0f} s in the middle of a change"
        )
        self._sink.emit(
            Event(Involved("Node", node.name, uid=node.uid), EventReason.FENCE_LAPSED, message, warning=True)
        )
