"""What the two processes ask of the Kubernetes API.

Small protocols, defined where CDMO needs them; kube/client.py has the adapter. Failures are those of
`cdmo.errors.ClusterError`. Objects arrive as the frozen values of `cdmo.model.cluster` and `cdmo.api`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from cdmo.api.v1alpha1 import MigNode, MigNodeSpec, MigNodeStatus
from cdmo.model.cluster import NodeInfo, PodInfo
from cdmo.model.reasons import EventReason

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Involved:
    """The object an Event is about."""

    kind: str  # Pod | Node | MigNode
    name: str
    namespace: str = ""
    uid: str = ""


@dataclass(frozen=True, slots=True)
class Event:
    """An Event to write. The same (involved, reason, message) is not written again within the dedupe time."""

    involved: Involved
    reason: EventReason
    message: str
    warning: bool = False


@dataclass(frozen=True, slots=True)
class Mirror(Generic[T]):
    """A live copy of one kind of object, kept by a reflector. Keys are "namespace/name" or "name"."""

    items: Callable[[], Mapping[str, T]]  # what is there now: a view that changes whenever something is awaited
    synced: Callable[[], bool]  # whether a full list was seen since the last break
    changed: Callable[[], set[str]]  # keys of what came, changed or went since this was last called


class EventSink(Protocol):
    """Writes Events; never raises, never blocks the caller for long."""

    def emit(self, event: Event) -> None:
        """Queue the Event for writing; the queue is bounded and drops the oldest."""
        ...


LabelsBeside = Callable[[Mapping[str, str]], Mapping[str, str]]
"""From the labels that a Node has to those that it is to get."""


def no_labels(has: Mapping[str, str]) -> Mapping[str, str]:
    """None."""
    return {}


Provided = Callable[[NodeInfo], bool]


def in_any_case(node: NodeInfo) -> bool:
    """Whatever the Node is like."""
    return True


class FenceApi(Protocol):
    """All that a change to a node needs of the API server."""

    async def node(self, name: str) -> NodeInfo:
        """The Node as the API server has it now (a quorum read)."""
        ...

    async def set_taint(
        self, name: str, key: str, effect: str, beside: LabelsBeside = no_labels
    ) -> tuple[NodeInfo, int]:
        """Put the taint on the Node, once, and labels beside it in the same step. Returns the Node that has them, and
        its version. The list of taints is atomic: whole-list write with resourceVersion."""
        ...

    async def remove_taint(self, name: str, key: str) -> None:
        """Take every taint with this key off the Node; fine when there is none."""
        ...

    async def set_labels(self, name: str, labels: Mapping[str, str | None], provided: Provided = in_any_case) -> bool:
        """Merge labels into a Node that is as `provided`, in one step; None removes one. Returns whether it was."""
        ...

    async def swap_label(self, name: str, label: str, before: str, after: str, *, beside: str) -> bool:
        """Give the label another value if it has this one and the taint `beside` is there, in one step; returns
        whether that was so."""
        ...

    async def take_off(self, name: str, label: str, value: str | None, taint: str) -> bool:
        """Take the label and every taint with this key off, if the label has this value (None: is absent), in one
        step; returns whether it had."""
        ...

    async def api_servers(self) -> tuple[str, ...]:
        """Base URL of every API server (EndpointSlices of default/kubernetes), the configured one first."""
        ...

    async def refused_as_of(self, node: str, server: str) -> int | None:
        """The version of the Node for which this API server refuses bindings to it; None: it allows them.

        A dry-run Binding of a pod that never exists (names.PROBE_NAMESPACE/PROBE_POD) answers 403 from the fence
        policy when the fence is live and 404 when not. Any other answer raises: a 403 of RBAC is Denied, never a
        proof."""
        ...

    async def pods_on(self, node: str) -> tuple[PodInfo, ...]:
        """Every pod bound or nominated to the node, from a quorum read."""
        ...

    async def set_mig_capacity(
        self, node: str, capacity: Mapping[str, int], allocatable: Mapping[str, int]
    ) -> NodeInfo:
        """Write the MIG resources into the Node's status: how many there are, and how many of them the scheduler may
        give away. Those that the Node has and that are not named become 0. Returns the Node that has them so."""
        ...


class WitnessApi(Protocol):
    """Asking the scheduler whether it has heard of a change of a Node. Raises ClusterError."""

    async def call(self, node: str, change: str) -> None:
        """Ask, for the change whose word the Node carries (names.CHANGE_LABEL)."""
        ...

    async def has_heard(self, node: str, change: str) -> bool:
        """Whether it has shown that it has. Raises NotFound when the question is not there."""
        ...

    async def dismiss(self, node: str) -> None:
        """Take the question back; fine when there is none."""
        ...


class MigNodeApi(Protocol):
    """MigNodes, by node name."""

    async def get(self, name: str) -> MigNode: ...

    async def create(self, node: MigNode) -> MigNode: ...

    async def write_spec(self, name: str, spec: MigNodeSpec, resource_version: str) -> MigNode:
        """Replace `spec.gpus` and `spec.observedRevision` (never `spec.mode`, the administrator's).
        Raises Conflict when the object is no longer at `resource_version`."""
        ...

    async def write_status(self, name: str, status: MigNodeStatus) -> MigNode:
        """Replace the whole status (subresource)."""
        ...
