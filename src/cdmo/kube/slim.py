"""A Pod's or Node's JSON -> PodInfo or NodeInfo.

Only the fields named here are decoded; the rest of an object (most of it) never becomes a Python object. Every
field may be missing or null: an odd object should still say what it can. Only a value of a wrong type or a
quantity that is none raises (msgspec.ValidationError, ValueError), and the reflector then keeps it out.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from functools import lru_cache

import msgspec

from cdmo.api.decoding import decoder
from cdmo.kube.lenient import (
    Amounts,
    Int32,
    Labels,
    Lenient,
    Metadata,
    Port,
    amounts,
    label_map,
    pairs,
    shared,
    terms,
)
from cdmo.kube.slim_relations import Affinity, SpreadConstraint, node_terms_of, pod_terms_of, spread_rules_of
from cdmo.model.cluster import ANY_ADDRESS, HostPort, NodeInfo, PodInfo, Taint, Toleration
from cdmo.model.demand import ContainerAsk, pod_requests
from cdmo.model.gpu import PodKey
from cdmo.model.names import MIG_MODE_ANNOTATION


class _Resources(Lenient, frozen=True):
    requests: Amounts | None = None


class _Port(Lenient, frozen=True):
    container_port: Port | None = None
    host_port: Port | None = None
    protocol: str | None = None
    host_ip: str | None = msgspec.field(name="hostIP", default=None)


class _Container(Lenient, frozen=True):
    resources: _Resources | None = None
    restart_policy: str | None = None
    ports: list[_Port] | None = None

    @property
    def sidecar(self) -> bool:
        return self.restart_policy == "Always"


class _ClaimSource(Lenient, frozen=True):
    claim_name: str | None = None


class _Volume(Lenient, frozen=True):
    name: str | None = None
    persistent_volume_claim: _ClaimSource | None = None
    ephemeral: Lenient | None = None


class _Toleration(Lenient, frozen=True):
    key: str | None = None
    operator: str | None = None
    value: str | None = None
    effect: str | None = None


class _PodSpec(Lenient, frozen=True):
    containers: list[_Container] | None = None
    init_containers: list[_Container] | None = None
    overhead: Amounts | None = None
    resources: _Resources | None = None
    priority: Int32 | None = None
    node_name: str | None = None
    scheduler_name: str | None = None
    scheduling_gates: list[msgspec.Raw] | None = None
    node_selector: Labels | None = None
    affinity: Affinity | None = None
    tolerations: list[_Toleration] | None = None
    topology_spread_constraints: list[SpreadConstraint] | None = None
    volumes: list[_Volume] | None = None
    host_network: bool | None = None


class _Condition(Lenient, frozen=True):
    type: str | None = None
    status: str | None = None
    reason: str | None = None


class _Health(Lenient, frozen=True):
    resource_id: str | None = msgspec.field(name="resourceID", default=None)


class _ResourceStatus(Lenient, frozen=True):
    name: str | None = None
    resources: list[_Health] | None = None


class _ContainerStatus(Lenient, frozen=True):
    allocated_resources_status: list[_ResourceStatus] | None = None


class _PodStatus(Lenient, frozen=True):
    phase: str | None = None
    conditions: list[_Condition] | None = None
    nominated_node_name: str | None = None
    container_statuses: list[_ContainerStatus] | None = None
    init_container_statuses: list[_ContainerStatus] | None = None


class _Pod(Lenient, frozen=True):
    metadata: Metadata
    spec: _PodSpec | None = None
    status: _PodStatus | None = None


class _Taint(Lenient, frozen=True):
    key: str
    value: str | None = None
    effect: str | None = None


class _NodeAnnotations(msgspec.Struct, frozen=True):
    mig_mode: str | None = msgspec.field(name=MIG_MODE_ANNOTATION, default=None)


class _NodeMetadata(Metadata, frozen=True):
    annotations: _NodeAnnotations | None = None


class _NodeSpec(Lenient, frozen=True):
    taints: list[_Taint] | None = None
    unschedulable: bool | None = None


class _NodeStatus(Lenient, frozen=True):
    allocatable: Amounts | None = None
    capacity: Amounts | None = None
    conditions: list[_Condition] | None = None


class _Node(Lenient, frozen=True):
    metadata: _NodeMetadata
    spec: _NodeSpec | None = None
    status: _NodeStatus | None = None


_decode_pod = decoder(_Pod)
_decode_node = decoder(_Node)


def pod_info(raw: bytes | msgspec.Raw) -> PodInfo:
    """A Pod as planning and the fence see it. Raises msgspec.ValidationError or ValueError."""
    pod = _decode_pod(raw)
    meta, spec, status = pod.metadata, pod.spec or _PodSpec(), pod.status or _PodStatus()
    namespace, labels = sys.intern(meta.namespace or ""), label_map(meta.labels)
    affinity, anti_affinity = pod_terms_of(spec.affinity, namespace, labels)
    claims = _claims(meta.name, spec.volumes)
    return PodInfo(
        key=PodKey(namespace, meta.name, meta.uid or ""),
        created=meta.creation_timestamp.timestamp() if meta.creation_timestamp else 0.0,
        priority=spec.priority or 0,
        phase=sys.intern(status.phase or "Pending"),
        node_name=sys.intern(spec.node_name or ""),
        nominated_node=sys.intern(status.nominated_node_name or ""),
        scheduler_name=sys.intern(spec.scheduler_name or "default-scheduler"),
        gated=bool(spec.scheduling_gates),
        unschedulable=_is(status.conditions, "PodScheduled", "False", "Unschedulable"),
        terminating=meta.deletion_timestamp is not None,
        requests=_pod_requests(spec),
        node_selector=shared(pairs(spec.node_selector)),
        node_affinity=shared(terms(node_terms_of(spec.affinity))),
        tolerations=shared(
            tuple(
                _toleration(one.key or "", one.operator or "Equal", one.value or "", one.effect or "")
                for one in spec.tolerations or ()
            )
        ),
        labels=shared(pairs(meta.labels)),
        host_ports=shared(_host_ports(spec)),
        spread=shared(spread_rules_of(spec.topology_spread_constraints, labels)),
        affinity=shared(affinity),
        anti_affinity=shared(anti_affinity),
        claims=tuple(name for name, _ in claims),
        own_claims=tuple(name for name, own in claims if own),
        devices=_devices([*(status.container_statuses or ()), *(status.init_container_statuses or ())]),
    )


def node_info(raw: bytes | msgspec.Raw) -> NodeInfo:
    """A Node as planning and the fence see it. Raises msgspec.ValidationError or ValueError."""
    node = _decode_node(raw)
    meta, spec, status = node.metadata, node.spec or _NodeSpec(), node.status or _NodeStatus()
    return NodeInfo(
        name=meta.name,
        uid=meta.uid or "",
        labels=label_map(meta.labels),
        taints=shared(tuple(Taint(one.key, one.value or "", one.effect or "") for one in spec.taints or ())),
        unschedulable=bool(spec.unschedulable),
        ready=_is(status.conditions, "Ready", "True"),
        allocatable=amounts(status.allocatable),
        capacity=amounts(status.capacity),
        mig_mode=(meta.annotations.mig_mode or "") if meta.annotations else "",
    )


def _requests(resources: _Resources | None) -> dict[str, int]:
    return _sound(amounts(resources.requests)) if resources else {}


def _sound(requests: dict[str, int]) -> dict[str, int]:
    """The API server takes no request below zero: one that came all the same would make room where there is none."""
    for resource, count in requests.items():
        if count < 0:
            raise ValueError(f"its requests of {resource} are below zero")
    return requests


def _pod_requests(spec: _PodSpec) -> dict[str, int]:
    """What the scheduler counts: containers, then what is set for the pod as a whole, then its overhead."""
    app = [ContainerAsk(_requests(one.resources)) for one in spec.containers or ()]
    init = [ContainerAsk(_requests(one.resources), sidecar=one.sidecar) for one in spec.init_containers or ()]
    total = pod_requests(app, init)
    # Pod-level resources stand in the place of the containers' sums; the API allows them for these alone.
    for name, count in _requests(spec.resources).items():
        if name in ("cpu", "memory") or name.startswith("hugepages-"):
            total[name] = count
    for name, count in _sound(amounts(spec.overhead)).items():
        total[name] = total.get(name, 0) + count
    return _one_of(tuple(total.items()))


@lru_cache(maxsize=16384)
def _one_of(requests: tuple[tuple[str, int], ...]) -> dict[str, int]:
    """One mapping for all pods with equal requests; nobody may change it, as PodInfo's type says."""
    return dict(requests)


def _host_ports(spec: _PodSpec) -> tuple[HostPort, ...]:
    """Ports of the node that the pod takes as long as it runs: those of init containers that end are not its own."""
    staying = [*(one for one in spec.init_containers or () if one.sidecar), *(spec.containers or ())]
    found = []
    for port in (port for container in staying for port in container.ports or ()):
        # A pod in the host's network takes the node's ports under their own numbers (the API server fills them in).
        number = port.host_port or (port.container_port if spec.host_network else 0) or 0
        if number > 0:
            found.append(HostPort(number, port.protocol or "TCP", port.host_ip or ANY_ADDRESS))
    return tuple(found)


def _claims(pod: str, volumes: list[_Volume] | None) -> list[tuple[str, bool]]:
    """Names of claims, and whether Kubernetes makes the claim for this pod alone."""
    found = []
    for volume in volumes or ():
        if volume.persistent_volume_claim is not None:
            found.append((volume.persistent_volume_claim.claim_name or "", False))
        elif volume.ephemeral is not None:
            # https://kubernetes.io/docs/concepts/storage/ephemeral-volumes/#persistentvolumeclaim-naming
            found.append((f"{pod}-{volume.name or ''}", True))
    return found


@lru_cache(maxsize=1024)  # nearly every pod of a cluster carries the same two: shared, not repeated
def _toleration(key: str, operator: str, value: str, effect: str) -> Toleration:
    return Toleration(key, operator, value, effect)


def _is(conditions: list[_Condition] | None, kind: str, status: str, reason: str = "") -> bool:
    return any(
        one.type == kind and one.status == status and (not reason or one.reason == reason) for one in conditions or ()
    )


def _devices(statuses: Iterable[_ContainerStatus]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Device ids by extended resource; entries of DRA claims ("claim:…") are not device plugin devices."""
    held: dict[str, set[str]] = {}
    for status in statuses:
        for resource in status.allocated_resources_status or ():
            if resource.name and not resource.name.startswith("claim:"):
                ids = (health.resource_id for health in resource.resources or ())
                held.setdefault(resource.name, set()).update(one for one in ids if one)
    return tuple((name, tuple(sorted(ids))) for name, ids in sorted(held.items()))
