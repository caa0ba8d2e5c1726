"""Everything of the Kubernetes port over one connection: what a process' wiring needs to know."""

from __future__ import annotations

from collections.abc import Callable

from cdmo.api.v1alpha1 import MigNode
from cdmo.kube.connect import Connection
from cdmo.kube.fence_api import KubeFence
from cdmo.kube.lease import LeaseElector
from cdmo.kube.mignode_api import KubeMigNodes, mig_node
from cdmo.kube.port import FenceApi, MigNodeApi
from cdmo.kube.recorder import Recorder
from cdmo.kube.reflector import OnChange, Reflector
from cdmo.kube.resources import MIG_NODE, NODE, POD
from cdmo.kube.slim import node_info, pod_info
from cdmo.model.cluster import NodeInfo, PodInfo
from cdmo.runtime.clock import Clock


class KubeClient:
    """Makes the parts of the port; each is then run or called by whoever wired it."""

    def __init__(self, connection: Connection, clock: Clock, random: Callable[[], float]) -> None:
        self._connection = connection
        self._clock = clock
        self._random = random

    def fence(self) -> FenceApi:
        """What a change to a node needs."""
        return KubeFence(self._connection, self._clock, self._random)

    def mig_nodes(self) -> MigNodeApi:
        """Reads and writes of MigNodes."""
        return KubeMigNodes(self._connection)

    def recorder(self, component: str, instance: str) -> Recorder:
        """Events in the name of this component."""
        return Recorder(self._connection, component, instance, clock=self._clock, random=self._random)

    def elector(self, namespace: str, name: str, identity: str) -> LeaseElector:
        """One participant of an election."""
        return LeaseElector(self._connection, namespace, name, identity, clock=self._clock, random=self._random)

    def pods(self, on_change: OnChange[PodInfo], *, field_selector: str = "") -> Reflector[PodInfo]:
        """A mirror of the pods of all namespaces (`spec.nodeName=…` selects one node's)."""
        return Reflector(
            self._connection,
            POD,
            pod_info,
            on_change,
            clock=self._clock,
            random=self._random,
            field_selector=field_selector,
        )

    def nodes(
        self, on_change: OnChange[NodeInfo], *, label_selector: str = "", field_selector: str = ""
    ) -> Reflector[NodeInfo]:
        """A mirror of the nodes (`metadata.name=…` selects one)."""
        return Reflector(
            self._connection,
            NODE,
            node_info,
            on_change,
            clock=self._clock,
            random=self._random,
            label_selector=label_selector,
            field_selector=field_selector,
        )

    def mig_node_mirror(self, on_change: OnChange[MigNode], *, field_selector: str = "") -> Reflector[MigNode]:
        """A mirror of the MigNodes (`metadata.name=…` selects one)."""
        return Reflector(
            self._connection,
            MIG_NODE,
            mig_node,
            on_change,
            clock=self._clock,
            random=self._random,
            field_selector=field_selector,
        )
