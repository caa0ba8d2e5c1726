"""What a pod asks for, counted as the scheduler counts.

A pod's request of a resource is max(sum over app containers + sidecars, the largest init step), where an
init container runs beside the sidecars started before it (Kubernetes, resourcehelper.PodRequests).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from cdmo.model.names import is_mig_resource


@dataclass(frozen=True, slots=True)
class ContainerAsk:
    """Requests of one container, in the resource's own unit (devices, millicores, bytes)."""

    requests: Mapping[str, int]
    sidecar: bool = False  # an init container with restartPolicy Always


def pod_requests(app: Iterable[ContainerAsk], init: Iterable[ContainerAsk] = ()) -> dict[str, int]:
    """Total requests of a pod by resource; resources that nobody asks for are left out."""
    total: dict[str, int] = {}
    for container in app:
        _add(total, container.requests)
    sidecars: dict[str, int] = {}
    steps: dict[str, int] = {}
    for container in init:
        step = dict(sidecars)
        _add(step, container.requests)
        _raise_to(steps, step)
        if container.sidecar:
            sidecars = step
    _add(total, sidecars)
    _raise_to(total, steps)
    return {resource: count for resource, count in sorted(total.items()) if count}


def mig_demand(requests: Mapping[str, int]) -> tuple[tuple[str, int], ...]:
    """The `nvidia.com/mig-*` part of a pod's requests, ascending by resource."""
    return tuple((name, count) for name, count in sorted(requests.items()) if is_mig_resource(name) and count)


def _add(total: dict[str, int], more: Mapping[str, int]) -> None:
    for resource, count in more.items():
        total[resource] = total.get(resource, 0) + count


def _raise_to(total: dict[str, int], floor: Mapping[str, int]) -> None:
    for resource, count in floor.items():
        total[resource] = max(total.get(resource, 0), count)
