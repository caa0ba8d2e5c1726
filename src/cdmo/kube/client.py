"""Everything of the Kubernetes port over one connection: what a process' wiring needs to know."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

import msgspec

from cdmo.api.v1alpha1 import MigNode
from cdmo.kube.access_review import KubeAccessReview
from cdmo.kube.connect import Connection
from cdmo.kube.fence_api import KubeFence
from cdmo.kube.lease import LeaseElector
from cdmo.kube.mignode_api import KubeMigNodes, mig_node
from cdmo.kube.port import FenceApi, MigNodeApi, WitnessApi
from cdmo.kube.recorder import Recorder
from cdmo.kube.reflector import OnChange, Reflector
from cdmo.kube.resources import CLAIM, MIG_NODE, NAMESPACE, NODE, POD, STORAGE_CLASS, VOLUME, Kind
from cdmo.kube.slim import node_info, pod_info
from cdmo.kube.slim_storage import claim_info, class_info, namespace_labels, volume_info
from cdmo.kube.witness import KubeWitness
from cdmo.model.cluster import NodeInfo, PodInfo
from cdmo.model.storage import ClaimInfo, ClassInfo, VolumeInfo
from cdmo.runtime.clock import Clock

T = TypeVar("T")


class KubeClient:
    """Makes the parts of the port; each is then run or called by whoever wired it."""

    def __init__(self, connection: Connection, clock: Clock, random: Callable[[], float]) -> None:
        self._connection = connection
        self._clock = clock
        self._random = random

    def fence(self) -> FenceApi:
        """What a change to a node needs."""
        return KubeFence(self._connection, self._clock, self._random)

    def own_node(self, name: str, on_change: OnChange[NodeInfo]) -> tuple[Reflector[NodeInfo], FenceApi]:
        """A mirror of one node, and what a change to it needs: each write is made from the latest that was heard."""
        fence = KubeFence(self._connection, self._clock, self._random)
        return self._mirror(NODE, fence.watched, on_change, field_selector=f"metadata.name={name}"), fence

    def witness(self, namespace: str, scheduler: str) -> WitnessApi:
        """Asks this scheduler whether it has heard of changes, by pods in CDMO's own namespace."""
        return KubeWitness(self._connection, namespace, scheduler)

    def mig_nodes(self) -> MigNodeApi:
        """Reads and writes of MigNodes."""
        return KubeMigNodes(self._connection)

    def access_review(self) -> KubeAccessReview:
        """Who may see what this process serves."""
        return KubeAccessReview(self._connection)

    def recorder(self, component: str, instance: str) -> Recorder:
        """Events in the name of this component."""
        return Recorder(self._connection, component, instance, clock=self._clock, random=self._random)

    def elector(self, namespace: str, name: str, identity: str) -> LeaseElector:
        """One participant of an election."""
        return LeaseElector(self._connection, namespace, name, identity, clock=self._clock, random=self._random)

    def _mirror(
        self,
        kind: Kind,
        convert: Callable[[msgspec.Raw], T],
        on_change: OnChange[T],
        field_selector: str = "",
    ) -> Reflector[T]:
        return Reflector(
            self._connection,
            kind,
            convert,
            on_change,
            clock=self._clock,
            random=self._random,
            field_selector=field_selector,
        )

    def claims(self, on_change: OnChange[ClaimInfo]) -> Reflector[ClaimInfo]:
        """A mirror of the PersistentVolumeClaims of all namespaces."""
        return self._mirror(CLAIM, claim_info, on_change)

    def volumes(self, on_change: OnChange[VolumeInfo]) -> Reflector[VolumeInfo]:
        """A mirror of the PersistentVolumes."""
        return self._mirror(VOLUME, volume_info, on_change)

    def storage_classes(self, on_change: OnChange[ClassInfo]) -> Reflector[ClassInfo]:
        """A mirror of the StorageClasses."""
        return self._mirror(STORAGE_CLASS, class_info, on_change)

    def namespaces(self, on_change: OnChange[Mapping[str, str]]) -> Reflector[Mapping[str, str]]:
        """A mirror of the namespaces' labels."""
        return self._mirror(NAMESPACE, namespace_labels, on_change)

    def pods(self, on_change: OnChange[PodInfo], *, field_selector: str = "") -> Reflector[PodInfo]:
        """A mirror of the pods of all namespaces (`spec.nodeName=…` selects one node's)."""
        return self._mirror(POD, pod_info, on_change, field_selector=field_selector)

    def nodes(self, on_change: OnChange[NodeInfo]) -> Reflector[NodeInfo]:
        """A mirror of the nodes."""
        return self._mirror(NODE, node_info, on_change)

    def mig_node_mirror(self, on_change: OnChange[MigNode], *, field_selector: str = "") -> Reflector[MigNode]:
        """A mirror of the MigNodes (`metadata.name=…` selects one)."""
        return self._mirror(MIG_NODE, mig_node, on_change, field_selector=field_selector)
