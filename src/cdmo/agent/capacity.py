"""Keeps the Node's counts right between changes: the kubelet's status period sets them back, windows move them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from cdmo.agent.change import NodeChange
from cdmo.agent.observe import Observation
from cdmo.agent.offer import offer_of
from cdmo.api.convert import Withheld
from cdmo.model.cluster import NodeInfo, PodInfo, labelled


class CapacityKeeper:
    """Writes the counts again when they differ, but never ahead of the kubelet."""

    def __init__(self, change: NodeChange) -> None:
        self._change = change
        self.lowered = False  # the Node shows less than there is, by our hand

    async def keep(
        self,
        node: NodeInfo,
        observation: Observation,
        listed: Mapping[str, frozenset[str]],
        withheld: Withheld,
        bound: Iterable[PodInfo],
    ) -> None:
        """Have the Node show its offer, if the kubelet lists (`listed`: its devices by resource) what was observed.

        On a node without the label only what was lowered here is put right. Raises ClusterError.
        """
        if not labelled(node):
            if not self.lowered:
                return
            withheld = {}
        offer = offer_of(observation, withheld, bound)
        if not offer.shown_by(node):
            if observation.disagreement(listed):
                return
            await self._change.publish(offer)
        self.lowered = labelled(node) and offer.lowered
