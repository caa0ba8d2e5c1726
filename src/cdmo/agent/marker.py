"""The label that keeps the agent's pod on a node which lost the administrator's label, until it is left clean.

The DaemonSet wants either label. Without this one, a label that is taken off in the middle of a change would take the
agent away with it, and nobody would lower the fence.
"""

from __future__ import annotations

from cdmo.kube.port import FenceApi
from cdmo.model.cluster import NodeInfo, carries_fence, labelled
from cdmo.model.names import MANAGED_LABEL

_MARKED = "true"


class Marker:
    """Of one node. Writes only when something is to change."""

    def __init__(self, api: FenceApi) -> None:
        self._api = api

    async def keep(self, node: NodeInfo, *, owes: bool) -> None:
        """Put the label on a node that CDMO may change; take it off, as the last act, from one that it may not
        change any more and to which it `owes` nothing. Raises ClusterError."""
        marked = node.labels.get(MANAGED_LABEL) == _MARKED
        if labelled(node):
            if not marked:
                await self._api.set_labels(node.name, {MANAGED_LABEL: _MARKED})
        elif MANAGED_LABEL in node.labels and not owes and not carries_fence(node):
            await self._api.set_labels(node.name, {MANAGED_LABEL: None})
