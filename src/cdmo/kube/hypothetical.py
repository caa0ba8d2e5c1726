"""Pods and Nodes as somebody writes them for a what-if: without what the cluster would have filled in.

The API server sets a pod's priority, namespace, creation time and requests (from limits), the scheduler its
PodScheduled condition, the kubelet a Node's readiness, CDMO's agent a whole MigNode. Where a file leaves these out,
they are supplied here. What admission plugins of a cluster would add (LimitRange, RuntimeClass) is not known.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import msgspec

from cdmo.api.decoding import decoder
from cdmo.kube.lenient import Int32
from cdmo.kube.slim import node_info, pod_info
from cdmo.model.cluster import NodeInfo, PodInfo
from cdmo.model.gpu import Gpu, MigMode
from cdmo.model.names import is_mig_resource
from cdmo.model.profile import GpuModel
from cdmo.model.snapshot import MigNodeView

# Labels of NVIDIA's GPU Feature Discovery; the product with dashes where the driver's name has spaces.
PRODUCT_LABEL = "nvidia.com/gpu.product"
COUNT_LABEL = "nvidia.com/gpu.count"
GPU_LIMIT = 32  # GPUs of one node, as in a MigNode

DEFAULT_NAMESPACE = "default"

# Every cluster has these two (Kubernetes, pkg/apis/scheduling/types.go); a file need not list them.
_BUILT_IN = {"system-cluster-critical": 2_000_000_000, "system-node-critical": 2_000_001_000}


class PriorityClass(msgspec.Struct, frozen=True, rename="camel"):
    """What counts of a scheduling.k8s.io PriorityClass."""

    value: Int32
    global_default: bool | None = None


class _Condition(msgspec.Struct, frozen=True):
    type: str | None = None
    status: str | None = None
    reason: str | None = None


class _Status(msgspec.Struct, frozen=True):
    conditions: list[_Condition] | None = None


class _PodSpec(msgspec.Struct, frozen=True, rename="camel"):
    priority: Int32 | None = None
    priority_class_name: str | None = None


class _Pod(msgspec.Struct, frozen=True):
    spec: _PodSpec | None = None
    status: _Status | None = None


class _Node(msgspec.Struct, frozen=True):
    status: _Status | None = None


priority_class = decoder(PriorityClass)
_decode_pod = decoder(_Pod)
_decode_node = decoder(_Node)


class Priorities:
    """What a priority class stands for."""

    def __init__(self, classes: Mapping[str, PriorityClass]) -> None:
        self._values = {**_BUILT_IN, **{name: each.value for name, each in classes.items()}}
        # With several defaults the API server takes the lowest.
        self._default = min((each.value for each in classes.values() if each.global_default), default=0)

    def of(self, name: str | None) -> int | None:
        """The priority of pods of this class, of the default class without a name; None for an unknown class."""
        return self._values.get(name) if name else self._default


@dataclass(frozen=True, slots=True)
class FilePod:
    """A pod of a file: the value, whether it waits for slices as far as the scheduler goes, and what is odd about its
    priority class."""

    info: PodInfo
    waits: bool
    problem: str = ""


def in_namespace(raw: bytes | msgspec.Raw) -> bytes:
    """A namespaced object that names no namespace, in the one that kubectl would take."""
    try:
        whole = msgspec.json.decode(raw)
        whole["metadata"]["namespace"] = DEFAULT_NAMESPACE
        return msgspec.json.encode(whole)
    except (msgspec.MsgspecError, ValueError, RecursionError):  # whoever reads the object will say what is wrong
        return bytes(raw)


def _with_requests(raw: bytes | msgspec.Raw) -> bytes:
    """A readable Pod that no API server has seen yet: what is limited and not requested is requested by its limit."""
    whole = msgspec.json.decode(raw)
    spec = whole.get("spec") or {}
    for each in (spec, *(spec.get("containers") or ()), *(spec.get("initContainers") or ())):
        resources = each.get("resources")
        if isinstance(resources, dict) and isinstance(resources.get("limits"), dict):
            resources["requests"] = {**resources["limits"], **(resources.get("requests") or {})}
    return msgspec.json.encode(whole)


def pod_of_file(raw: bytes | msgspec.Raw, newest: float, priorities: Priorities) -> FilePod:
    """A Pod, complete. `newest`: creation time of one that has none. Raises as `pod_info` does."""
    info = pod_info(raw)
    if not (info.created and info.key.uid):
        raw = _with_requests(raw)
        info = pod_info(raw)
    if not info.created:
        info = replace(info, created=newest)
    if not info.key.uid and info.own_claims:  # claims that will be made with the pod; it cannot be said yet how
        info = replace(info, claims=tuple(each for each in info.claims if each not in info.own_claims), own_claims=())
    if info.node_name or not info.demand:
        return FilePod(info, waits=False)
    pod = _decode_pod(raw)
    problem = ""
    spec = pod.spec or _PodSpec()
    if spec.priority is None:
        value = priorities.of(spec.priority_class_name)
        info = replace(info, priority=value or 0)
        if value is None:
            problem = f"there is no PriorityClass {spec.priority_class_name}; priority 0 counts"
    return FilePod(info, info.unschedulable or not _failed_otherwise(pod.status), problem)


def _failed_otherwise(status: _Status | None) -> bool:
    """Whether the scheduler met an error of its own. Everything else that is not bound waits: unjudged pods have no
    condition yet, and one copied from a pod with gates or a node carries a condition that is over."""
    return any(
        one.type == "PodScheduled"
        and one.status == "False"
        and one.reason not in ("Unschedulable", "SchedulingGated")
        for one in (status.conditions if status else None) or ()
    )


def node_of_file(raw: bytes | msgspec.Raw) -> NodeInfo:
    """A Node; one that says nothing of its readiness is ready. Raises as `node_info` does."""
    node = node_info(raw)
    if not node.ready:
        status = _decode_node(raw).status
        if not any(one.type == "Ready" for one in (status.conditions if status else None) or ()):
            return replace(node, ready=True)
    return node


class Cards:
    """What known products can be cut into, by the names their nodes are labelled with."""

    def __init__(self, models: Iterable[GpuModel]) -> None:
        self._models = {each.product.replace(" ", "-"): each for each in models}

    def view(self, node: NodeInfo, pods: tuple[PodInfo, ...]) -> MigNodeView | str:
        """A labelled Node without MigNode as if its agent reported MIG on and nothing cut; or why that cannot be."""
        missing = "it is labelled for CDMO, but there is no MigNode of this name"
        product, count = node.labels.get(PRODUCT_LABEL, ""), node.labels.get(COUNT_LABEL, "")
        if not product or any(is_mig_resource(name) and number for name, number in node.allocatable.items()):
            return f"{missing}; nothing is planned on it"
        model = self._models.get(product)
        if model is None:
            return f"{missing}, and {PRODUCT_LABEL} {product[:80]!r} is no card that CDMO knows"
        if not (count.isascii() and count.isdigit() and len(count) < 4 and 0 < int(count) <= GPU_LIMIT):
            return f"{missing}, and {COUNT_LABEL} {count[:80]!r} is no number from 1 to {GPU_LIMIT}"
        gpus = tuple(
            Gpu(f"00000000:{number:02X}:00.0", f"GPU-{node.name}-{number}", 0, MigMode.ENABLED)
            for number in range(1, int(count) + 1)
        )
        return MigNodeView(node, (model,), gpus, pods=pods)
