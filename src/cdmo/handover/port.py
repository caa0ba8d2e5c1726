"""What enabling and disabling a node asks of the Kubernetes API; kube/handover_api.py has the adapter.

Failures are those of `cdmo.errors.ClusterError`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from cdmo.api.v1alpha1 import MigNode, Mode
from cdmo.errors import BadInput
from cdmo.model.cluster import NodeInfo, PodInfo
from cdmo.model.gpu import PodKey


@dataclass(frozen=True, slots=True)
class NodePod:
    """A pod on a node, and what its eviction depends on."""

    pod: PodInfo
    owner: str = ""  # kind of its controller: a DaemonSet makes it anew on the same node


class HandoverApi(Protocol):
    """The cluster, with an administrator's rights."""

    async def node(self, name: str) -> NodeInfo | None:
        """The Node; None: there is none."""
        ...

    async def mignode(self, name: str) -> MigNode | None:
        """The node's MigNode; None: there is none."""
        ...

    async def pods_on(self, node: str) -> tuple[NodePod, ...]:
        """Every pod that is bound to the node."""
        ...

    async def mark_node(
        self, name: str, labels: Mapping[str, str | None], annotations: Mapping[str, str | None]
    ) -> None:
        """Merge labels and annotations into the Node's; None removes one."""
        ...

    async def set_mode(self, name: str, mode: Mode) -> MigNode:
        """Set `spec.mode` of the MigNode, and forget the layouts that the controller planned before."""
        ...

    async def evict(self, pod: PodKey) -> None:
        """Evict a pod through the eviction API. Raises ClusterUnavailable while a PodDisruptionBudget forbids it,
        NotFound when it is gone."""
        ...


async def existing_node(api: HandoverApi, name: str) -> NodeInfo:
    """The Node. Raises BadInput where there is none, ClusterError."""
    node = await api.node(name)
    if node is None:
        raise BadInput(f"there is no node {name}", hint="`kubectl get nodes` lists them")
    return node
