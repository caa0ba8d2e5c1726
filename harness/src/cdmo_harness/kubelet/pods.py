"""The few fields of a pod that a kubelet's admission and the simulated run need."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .quantity import milli, whole

RUN_SECONDS = "cdmo-harness/run-seconds"
EXIT_CODE = "cdmo-harness/exit-code"
TERMINATE_SECONDS = "cdmo-harness/terminate-seconds"

Document = Mapping[str, Any]  # an API object as decoded from JSON


@dataclass(frozen=True, slots=True)
class Container:
    """One container; `sidecar` is an init container that keeps running (restartPolicy Always)."""

    name: str
    image: str
    requests: Mapping[str, int]  # cpu in thousandths, everything else in whole units
    limits: Mapping[str, int]
    sidecar: bool = False


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod as this node sees it; times of the simulated run in seconds, None meaning "until deleted"."""

    uid: str
    namespace: str
    name: str
    containers: tuple[Container, ...]
    init_containers: tuple[Container, ...] = ()
    overhead: Mapping[str, int] | None = None
    host_network: bool = False
    run_seconds: float | None = None
    exit_code: int = 0
    terminate_seconds: float = 0.0
    node_name: str = ""
    phase: str = "Pending"
    deletion_grace_seconds: int | None = None  # None while the pod is not being deleted
    created: str = ""
    restarts: bool = False  # its containers are started again whatever happens

    @property
    def terminal(self) -> bool:
        """Whether the API already calls the pod finished."""
        return self.phase in ("Succeeded", "Failed")

    @property
    def listed_containers(self) -> tuple[Container, ...]:
        """What PodResources shows: sidecars and application containers, no plain init containers."""
        return (*(c for c in self.init_containers if c.sidecar), *self.containers)


def parse(document: Document) -> Pod:
    """Read a Pod object of the API; raises ValueError when a quantity or an annotation makes no sense."""
    metadata, spec, status = document["metadata"], document["spec"], document.get("status") or {}
    notes: Mapping[str, str] = metadata.get("annotations") or {}
    deleting = metadata.get("deletionTimestamp") is not None
    return Pod(
        uid=metadata["uid"],
        namespace=metadata["namespace"],
        name=metadata["name"],
        containers=tuple(_container(c) for c in spec["containers"]),
        restarts=spec.get("restartPolicy", "Always") != "Never",
        init_containers=tuple(_container(c) for c in spec.get("initContainers") or ()),
        overhead=_amounts(spec.get("overhead")),
        host_network=bool(spec.get("hostNetwork", False)),
        run_seconds=float(notes[RUN_SECONDS]) if RUN_SECONDS in notes else None,
        exit_code=int(notes.get(EXIT_CODE, "0")),
        terminate_seconds=float(notes.get(TERMINATE_SECONDS, "0")),
        node_name=spec.get("nodeName", ""),
        phase=status.get("phase", "Pending"),
        deletion_grace_seconds=int(metadata.get("deletionGracePeriodSeconds") or 0) if deleting else None,
        created=metadata.get("creationTimestamp") or "",
    )


def demand(pod: Pod) -> dict[str, int]:
    """What the pod counts for on a node: the larger of all that run together and of any one init step."""
    together: dict[str, int] = {}
    largest_step: dict[str, int] = {}
    for container in pod.init_containers:
        if container.sidecar:
            _add(together, container.requests)
            step = dict(together)
        else:
            step = dict(together)
            _add(step, container.requests)
        for resource, amount in step.items():
            largest_step[resource] = max(largest_step.get(resource, 0), amount)
    for container in pod.containers:
        _add(together, container.requests)
    for resource, amount in largest_step.items():
        together[resource] = max(together.get(resource, 0), amount)
    _add(together, pod.overhead or {})
    return together


def total(pods: Iterable[Pod]) -> dict[str, int]:
    """The summed demand of several pods."""
    result: dict[str, int] = {}
    for pod in pods:
        _add(result, demand(pod))
    return result


def _add(into: dict[str, int], amounts: Mapping[str, int]) -> None:
    for resource, amount in amounts.items():
        into[resource] = into.get(resource, 0) + amount


def _container(document: Document) -> Container:
    resources = document.get("resources") or {}
    return Container(
        name=document["name"],
        image=document.get("image", ""),
        requests=_amounts(resources.get("requests")),
        limits=_amounts(resources.get("limits")),
        sidecar=document.get("restartPolicy") == "Always",
    )


def _amounts(resources: Mapping[str, str] | None) -> dict[str, int]:
    return {k: milli(v) if k == "cpu" else whole(v) for k, v in (resources or {}).items()}
