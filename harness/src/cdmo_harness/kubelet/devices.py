"""What the device manager knows: devices, endpoints, allocations, and the ways an allocation fails."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

HEALTHY = "Healthy"
UNHEALTHY = "Unhealthy"
ENDPOINT_GRACE_SECONDS = 300.0  # how long a resource without a plugin stays in capacity


class AllocationFailed(Exception):
    """The device manager cannot give a container its devices; the text is the kubelet's own."""


class EndpointFailed(Exception):
    """A call to the plugin failed; the text is what the kubelet's gRPC client would say."""


@dataclass(frozen=True, slots=True)
class Device:
    """One device of a plugin's list."""

    id: str
    health: str = HEALTHY
    numa_nodes: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class ContainerResponse:
    """A plugin's answer to Allocate for one container."""

    device_paths: tuple[str, ...] = ()  # paths on the host
    encoded: bytes = b""  # the ContainerAllocateResponse message, for the checkpoint


@dataclass(frozen=True, slots=True)
class PluginOptions:
    """What a plugin offers beyond the minimum."""

    preferred_allocation: bool = False
    pre_start_required: bool = False


class Endpoint(Protocol):
    """A connected device plugin. Both calls raise EndpointFailed."""

    @property
    def socket_path(self) -> str: ...

    async def allocate(self, device_ids: Sequence[str]) -> ContainerResponse: ...

    async def preferred(self, available: Sequence[str], must_include: Sequence[str], size: int) -> frozenset[str]: ...


@dataclass(slots=True)
class Registration:
    """An endpoint with its options. Mutable on purpose: its stop time is set when its stream ends."""

    endpoint: Endpoint | None  # None for a resource known from the checkpoint only
    options: PluginOptions
    stopped_at: float | None = None  # seconds of the device manager's clock

    def expired(self, now: float) -> bool:
        """Whether the grace time after its end is over."""
        return self.stopped_at is not None and now - self.stopped_at > ENDPOINT_GRACE_SECONDS


@dataclass(frozen=True, slots=True)
class Allocation:
    """Devices of one resource in one container, with the plugin's answer."""

    device_ids: frozenset[str]
    numa_nodes: Mapping[str, tuple[int, ...]]
    response: ContainerResponse


@dataclass(slots=True)
class PodAllocations:
    """Who holds what: pod UID -> container -> resource -> Allocation."""

    by_pod: dict[str, dict[str, dict[str, Allocation]]] = field(default_factory=dict)

    def insert(self, pod_uid: str, container: str, resource: str, allocation: Allocation) -> None:
        """Remember an allocation."""
        self.by_pod.setdefault(pod_uid, {}).setdefault(container, {})[resource] = allocation

    def held(self, pod_uid: str, container: str, resource: str) -> frozenset[str] | None:
        """The container's devices of that resource; None when nothing was ever allocated."""
        allocation = self.of_container(pod_uid, container).get(resource)
        return None if allocation is None else allocation.device_ids

    def of_container(self, pod_uid: str, container: str) -> Mapping[str, Allocation]:
        """All allocations of a container, by resource."""
        return self.by_pod.get(pod_uid, {}).get(container, {})

    def devices(self) -> dict[str, set[str]]:
        """All devices held by any pod, by resource."""
        result: dict[str, set[str]] = {}
        for containers in self.by_pod.values():
            for resources in containers.values():
                for resource, allocation in resources.items():
                    result.setdefault(resource, set()).update(allocation.device_ids)
        return result

    def holder(self, resource: str, device_id: str) -> str | None:
        """UID of the pod that holds a device."""
        for pod_uid, containers in self.by_pod.items():
            for resources in containers.values():
                allocation = resources.get(resource)
                if allocation is not None and device_id in allocation.device_ids:
                    return pod_uid
        return None
