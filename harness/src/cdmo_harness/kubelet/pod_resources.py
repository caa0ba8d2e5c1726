"""The kubelet's PodResources socket: List, Get and GetAllocatableResources.

What each shows and hides follows pkg/kubelet/apis/podresources/server_v1.go: one entry a device, no plain init
containers; List shows active pods and makes the device manager forget ended ones; Get shows any pod the kubelet
still knows and changes nothing. Calls beyond 100 a second (burst 10) are refused, all methods together.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from cdmo.kubelet._pb import podresources_pb2 as api

from .device_manager import DeviceManager
from .pods import Pod

CALLS_PER_SECOND = 100.0
BURST = 10


class RateLimit:
    """A token bucket; `clock` in seconds."""

    def __init__(self, clock: Callable[[], float], per_second: float, burst: int) -> None:
        self._clock = clock
        self._per_second = per_second
        self._burst = float(burst)
        self._tokens = float(burst)
        self._at = clock()

    def allow(self) -> bool:
        """Take a token if there is one."""
        now = self._clock()
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._per_second)
        self._at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


class SlowedDown(grpc.aio.ServerInterceptor):  # type: ignore[misc]  # grpc comes without types
    """Every call waits as many seconds as a file says at that moment; not at all while there is none."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[Any]], handler_call_details: Any
    ) -> Any:
        """Called before each call."""
        try:
            seconds = float(self._path.read_text())
        except (FileNotFoundError, ValueError):  # not asked for, or just being written
            seconds = 0.0
        if seconds > 0:
            await asyncio.sleep(seconds)
        return await continuation(handler_call_details)


class PodResourcesService:
    """The gRPC service. `known` and `active` give the pods to Get and to List."""

    def __init__(
        self,
        manager: DeviceManager,
        limit: RateLimit,
        known: Callable[[], Collection[Pod]],
        active: Callable[[], Collection[Pod]],
    ) -> None:
        self._manager = manager
        self._limit = limit
        self._known = known
        self._active = active

    async def List(self, request: Any, context: Any) -> Any:  # noqa: N802 the gRPC method's name
        """All active pods."""
        await self._limited(context)
        pods = self._active()
        self._manager.free_ended_pods()
        return api.ListPodResourcesResponse(pod_resources=[self._pod(pod) for pod in pods])

    async def Get(self, request: Any, context: Any) -> Any:  # noqa: N802 the gRPC method's name
        """One pod by name."""
        await self._limited(context)
        for pod in self._known():
            if pod.name == request.pod_name and pod.namespace == request.pod_namespace:
                return api.GetPodResourcesResponse(pod_resources=self._pod(pod))
        text = f"pod {request.pod_name} in namespace {request.pod_namespace} not found"
        return await context.abort(grpc.StatusCode.UNKNOWN, text)

    async def GetAllocatableResources(self, request: Any, context: Any) -> Any:  # noqa: N802 the gRPC method's name
        """Healthy devices."""
        await self._limited(context)
        devices = [
            entry
            for resource, found in self._manager.allocatable().items()
            for device in found
            for entry in _entries(resource, device.id, device.numa_nodes)
        ]
        return api.AllocatableResourcesResponse(devices=devices)

    async def _limited(self, context: Any) -> None:
        if not self._limit.allow():
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "rejected by rate limit")

    def _pod(self, pod: Pod) -> Any:
        containers = [
            api.ContainerResources(
                name=container.name,
                devices=[
                    entry
                    for resource, allocation in self._manager.pods.of_container(pod.uid, container.name).items()
                    for device_id in sorted(allocation.device_ids)
                    for entry in _entries(resource, device_id, allocation.numa_nodes.get(device_id, ()))
                ],
            )
            for container in pod.listed_containers
        ]
        return api.PodResources(name=pod.name, namespace=pod.namespace, containers=containers)


def _entries(resource: str, device_id: str, numa_nodes: Iterable[int]) -> list[Any]:
    nodes = list(numa_nodes)
    if not nodes:
        return [api.ContainerDevices(resource_name=resource, device_ids=[device_id])]
    return [
        api.ContainerDevices(
            resource_name=resource,
            device_ids=[device_id],
            topology=api.TopologyInfo(nodes=[api.NUMANode(ID=node)]),
        )
        for node in nodes
    ]
