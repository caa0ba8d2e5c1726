"""A Pod's or Node's JSON -> PodInfo or NodeInfo.

Only the fields named here are decoded; the rest of an object (most of it) never becomes a Python object. Every
field may be missing or null: an odd object should still say what it can. Only a value of a wrong type or a
quantity that is none raises (msgspec.ValidationError, ValueError), and the reflector then keeps it out.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from datetime import datetime
from functools import lru_cache

import msgspec

from cdmo.kube.quantity import amount
from cdmo.model.cluster import NodeInfo, PodInfo, Requirement, SelectorTerm, Taint, Toleration
from cdmo.model.demand import ContainerAsk, pod_requests
from cdmo.model.gpu import PodKey

Amounts = dict[str, str | int | float]


class _Lenient(msgspec.Struct, frozen=True, rename="camel"):
    """Base of what is decoded: unknown fields are skipped."""


class _Metadata(_Lenient, frozen=True):
    name: str
    namespace: str | None = None
    uid: str | None = None
    labels: dict[str, str | None] | None = None
    creation_timestamp: datetime | None = None
    deletion_timestamp: str | None = None


class _Resources(_Lenient, frozen=True):
    requests: Amounts | None = None


class _Container(_Lenient, frozen=True):
    resources: _Resources | None = None
    restart_policy: str | None = None


class _Expression(_Lenient, frozen=True):
    key: str
    operator: str
    values: list[str] | None = None


class _Term(_Lenient, frozen=True):
    match_expressions: list[_Expression] | None = None
    match_fields: list[_Expression] | None = None


class _NodeSelector(_Lenient, frozen=True):
    node_selector_terms: list[_Term] | None = None


class _NodeAffinity(_Lenient, frozen=True):
    required: _NodeSelector | None = msgspec.field(
        name="requiredDuringSchedulingIgnoredDuringExecution", default=None
    )


class _Affinity(_Lenient, frozen=True):
    node_affinity: _NodeAffinity | None = None


class _Toleration(_Lenient, frozen=True):
    key: str | None = None
    operator: str | None = None
    value: str | None = None
    effect: str | None = None


class _PodSpec(_Lenient, frozen=True):
    containers: list[_Container] | None = None
    init_containers: list[_Container] | None = None
    overhead: Amounts | None = None
    resources: _Resources | None = None
    priority: int | None = None
    node_name: str | None = None
    scheduler_name: str | None = None
    scheduling_gates: list[msgspec.Raw] | None = None
    node_selector: dict[str, str | None] | None = None
    affinity: _Affinity | None = None
    tolerations: list[_Toleration] | None = None


class _Condition(_Lenient, frozen=True):
    type: str | None = None
    status: str | None = None
    reason: str | None = None


class _Health(_Lenient, frozen=True):
    resource_id: str | None = msgspec.field(name="resourceID", default=None)


class _ResourceStatus(_Lenient, frozen=True):
    name: str | None = None
    resources: list[_Health] | None = None


class _ContainerStatus(_Lenient, frozen=True):
    allocated_resources_status: list[_ResourceStatus] | None = None


class _PodStatus(_Lenient, frozen=True):
    phase: str | None = None
    conditions: list[_Condition] | None = None
    nominated_node_name: str | None = None
    container_statuses: list[_ContainerStatus] | None = None
    init_container_statuses: list[_ContainerStatus] | None = None


class _Pod(_Lenient, frozen=True):
    metadata: _Metadata
    spec: _PodSpec | None = None
    status: _PodStatus | None = None


class _Taint(_Lenient, frozen=True):
    key: str
    value: str | None = None
    effect: str | None = None


class _NodeSpec(_Lenient, frozen=True):
    taints: list[_Taint] | None = None
    unschedulable: bool | None = None


class _NodeStatus(_Lenient, frozen=True):
    allocatable: Amounts | None = None
    capacity: Amounts | None = None
    conditions: list[_Condition] | None = None


class _Node(_Lenient, frozen=True):
    metadata: _Metadata
    spec: _NodeSpec | None = None
    status: _NodeStatus | None = None


_decode_pod = msgspec.json.Decoder(_Pod).decode
_decode_node = msgspec.json.Decoder(_Node).decode


def pod_info(raw: bytes | msgspec.Raw) -> PodInfo:
    """A Pod as planning and the fence see it. Raises msgspec.ValidationError or ValueError."""
    pod = _decode_pod(raw)
    meta, spec, status = pod.metadata, pod.spec or _PodSpec(), pod.status or _PodStatus()
    return PodInfo(
        key=PodKey(sys.intern(meta.namespace or ""), meta.name, meta.uid or ""),
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
        node_selector=tuple(
            sorted((sys.intern(k), sys.intern(v or "")) for k, v in (spec.node_selector or {}).items())
        ),
        node_affinity=_required_terms(spec.affinity),
        tolerations=tuple(
            _toleration(one.key or "", one.operator or "Equal", one.value or "", one.effect or "")
            for one in spec.tolerations or ()
        ),
        devices=_devices([*(status.container_statuses or ()), *(status.init_container_statuses or ())]),
    )


def node_info(raw: bytes | msgspec.Raw) -> NodeInfo:
    """A Node as planning and the fence see it. Raises msgspec.ValidationError or ValueError."""
    node = _decode_node(raw)
    meta, spec, status = node.metadata, node.spec or _NodeSpec(), node.status or _NodeStatus()
    return NodeInfo(
        name=meta.name,
        uid=meta.uid or "",
        labels={sys.intern(key): sys.intern(value or "") for key, value in (meta.labels or {}).items()},
        taints=tuple(Taint(one.key, one.value or "", one.effect or "") for one in spec.taints or ()),
        unschedulable=bool(spec.unschedulable),
        ready=_is(status.conditions, "Ready", "True"),
        allocatable=_amounts(status.allocatable),
        capacity=_amounts(status.capacity),
    )


def _amounts(quantities: Amounts | None) -> dict[str, int]:
    return {sys.intern(name): amount(name, str(text)) for name, text in (quantities or {}).items()}


def _requests(resources: _Resources | None) -> dict[str, int]:
    return _amounts(resources.requests) if resources else {}


def _pod_requests(spec: _PodSpec) -> dict[str, int]:
    """What the scheduler counts: containers, then what is set for the pod as a whole, then its overhead."""
    app = [ContainerAsk(_requests(one.resources)) for one in spec.containers or ()]
    init = [
        ContainerAsk(_requests(one.resources), sidecar=one.restart_policy == "Always")
        for one in spec.init_containers or ()
    ]
    total = pod_requests(app, init)
    # Pod-level resources stand in the place of the containers' sums; the API allows them for these alone.
    for name, count in _requests(spec.resources).items():
        if name in ("cpu", "memory") or name.startswith("hugepages-"):
            total[name] = count
    for name, count in _amounts(spec.overhead).items():
        total[name] = total.get(name, 0) + count
    return total


def _required_terms(affinity: _Affinity | None) -> tuple[SelectorTerm, ...] | None:
    node_affinity = affinity.node_affinity if affinity else None
    required = node_affinity.required if node_affinity else None
    if required is None:
        return None
    return tuple(
        SelectorTerm(_requirements(term.match_expressions), _requirements(term.match_fields))
        for term in required.node_selector_terms or ()
    )


def _requirements(expressions: list[_Expression] | None) -> tuple[Requirement, ...]:
    return tuple(Requirement(one.key, one.operator, tuple(one.values or ())) for one in expressions or ())


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
