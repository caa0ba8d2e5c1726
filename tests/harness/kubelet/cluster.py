"""What tests ask of the API server and of a node's PodResources socket."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import grpc
import grpc.aio
from cdmo_harness.gpu_node import POD_RESOURCES_SOCKET, GpuNode
from cdmo_harness.kubelet.api import STRATEGIC_MERGE, Api, ApiRefused
from cdmo_harness.observer import workload_environment

from cdmo.kubelet._pb import podresources_pb2 as api_messages
from cdmo.kubelet._pb import podresources_pb2_grpc as services

PODS = "/api/v1/namespaces/default/pods"
LIMIT = 30.0

Document = Mapping[str, Any]


class Cluster:
    """Pods on one node, and the node itself."""

    def __init__(self, api: Api, node: str) -> None:
        self.api = api
        self.node = node

    async def create(self, name: str, resource: str, count: int = 1, *, bound: bool = True, **notes: str) -> str:
        """A pod that asks for devices; bound at once, or left to the scheduler. `notes`: run_seconds="1"."""
        annotations = {f"cdmo-harness/{key.replace('_', '-')}": value for key, value in notes.items()}
        container = container_of("main", resource, count)
        place = {"nodeName": self.node} if bound else {"nodeSelector": {"kubernetes.io/hostname": self.node}}
        return await self.create_with(name, {"containers": [container], **place}, annotations)

    async def create_with(self, name: str, spec: Document, annotations: Mapping[str, str] | None = None) -> str:
        """A pod of any containers, that is not started again; returns its UID."""
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "annotations": dict(annotations or {})},
            "spec": {"restartPolicy": "Never", "terminationGracePeriodSeconds": 5, **spec},
        }
        created: Document = await self.api.call("POST", PODS, pod)
        return str(created["metadata"]["uid"])

    async def offer(self, resource: str, count: int) -> None:
        """Write a count into the node's capacity and allocatable, as CDMO's agent does."""
        counts = {"capacity": {resource: str(count)}, "allocatable": {resource: str(count)}}
        path = f"/api/v1/nodes/{self.node}/status"
        await self.api.call("PATCH", path, {"status": counts}, content_type=STRATEGIC_MERGE)

    async def delete(self, name: str, *, grace: int | None = None) -> None:
        """Delete a pod; grace 0 by force."""
        query = "" if grace is None else f"?gracePeriodSeconds={grace}"
        await self.api.call("DELETE", f"{PODS}/{name}{query}")

    async def pod_when(self, name: str, holds: Callable[[Document], bool]) -> Document:
        """The pod as soon as its object meets the condition."""
        return await self._when(PODS, name, holds)

    async def gone(self, name: str) -> None:
        """Return when the pod's object is gone."""
        async with asyncio.timeout(LIMIT):
            async for event in self.api.follow(PODS, f"metadata.name={name}"):
                if event.kind == "DELETED" or (event.kind == "LISTED" and not event.items):
                    return

    async def running(self, name: str) -> Document:
        """The pod when it runs."""
        return await self.pod_when(name, lambda pod: phase(pod) == "Running")

    async def node_when(self, holds: Callable[[Document], bool]) -> Document:
        """The node as soon as it meets the condition."""
        return await self._when("/api/v1/nodes", self.node, holds)

    async def ready(self) -> Document:
        """The node as soon as it is registered and pods may come."""
        return await self.node_when(
            lambda node: any(
                each["type"] == "Ready" and each["status"] == "True"
                for each in node["status"].get("conditions") or ()
            )
        )

    async def advertises(self, resource: str, count: int) -> Document:
        """The node when node.status.allocatable holds that many."""
        return await self.node_when(lambda node: allocatable(node, resource) == count)

    async def clean(self) -> None:
        """Remove what is left of this node."""
        listed = await self.api.get(f"/api/v1/pods?fieldSelector=spec.nodeName={self.node}")
        paths = [f"{PODS}/{item['metadata']['name']}?gracePeriodSeconds=0" for item in listed.get("items") or ()]
        for path in [*paths, f"/api/v1/nodes/{self.node}"]:
            try:
                await self.api.call("DELETE", path)
            except ApiRefused as error:
                if error.status != 404:
                    raise

    async def _when(self, path: str, name: str, holds: Callable[[Document], bool]) -> Document:
        last: Document = {}
        try:
            async with asyncio.timeout(LIMIT):
                async for event in self.api.follow(path, f"metadata.name={name}"):
                    for item in event.items if event.kind == "LISTED" else (event.item,):
                        last = item
                        if event.kind != "DELETED" and holds(item):
                            return item
        except TimeoutError:
            raise AssertionError(f"{name} never met the condition; last status: {last.get('status')}") from None
        raise AssertionError("a watch goes on for ever")


def container_of(name: str, resource: str, count: int = 1, **more: Any) -> Document:
    """A container that asks for devices and does what its pod's annotations say."""
    return {
        "name": name,
        "image": "example.invalid/train:1",
        "resources": {"limits": {resource: str(count)}},
        "env": workload_environment(),
        **more,
    }


def phase(pod: Document) -> str:
    """status.phase."""
    return str(pod["status"].get("phase"))


def allocatable(node: Document, resource: str) -> int:
    """node.status.allocatable of one resource, 0 when the key is missing."""
    return int((node["status"].get("allocatable") or {}).get(resource, "0"))


def waiting(pod: Document) -> Document:
    """The first container's waiting state, empty when it does not wait."""
    statuses = pod["status"].get("containerStatuses") or [{}]
    return dict((statuses[0].get("state") or {}).get("waiting") or {})


def device_ids(pod: Document) -> list[str]:
    """The device ids in the first container's allocatedResourcesStatus."""
    resources = pod["status"]["containerStatuses"][0].get("allocatedResourcesStatus") or []
    return [entry["resourceID"] for resource in resources for entry in resource["resources"]]


class Kubelet:
    """The PodResources socket of a node."""

    def __init__(self, node: GpuNode) -> None:
        self._address = f"unix:{node.root / POD_RESOURCES_SOCKET}"

    async def allocatable(self) -> dict[str, set[str]]:
        """Healthy devices by resource."""
        async with self._stub() as stub:
            answer = await stub.GetAllocatableResources(api_messages.AllocatableResourcesRequest())
        result: dict[str, set[str]] = {}
        for entry in answer.devices:
            result.setdefault(entry.resource_name, set()).update(entry.device_ids)
        return result

    async def until_allocatable(self, expected: Mapping[str, set[str]]) -> None:
        """Return when exactly these devices are healthy."""
        async with asyncio.timeout(LIMIT):
            # The socket has no watch and refuses more than 100 calls a second.
            while await self.allocatable() != expected:  # noqa: ASYNC110
                await asyncio.sleep(0.03)

    async def listed(self) -> dict[str, list[str]]:
        """Device ids of each listed pod, by pod name."""
        return {
            pod: [each for ids in containers.values() for each in ids]
            for pod, containers in (await self.listed_containers()).items()
        }

    async def listed_containers(self) -> dict[str, dict[str, list[str]]]:
        """Device ids of each listed container, by pod and container."""
        async with self._stub() as stub:
            answer = await stub.List(api_messages.ListPodResourcesRequest())
        return {pod.name: _devices(pod) for pod in answer.pod_resources}

    async def listed_at_once(self, count: int) -> list[grpc.aio.AioRpcError | None]:
        """The refusals of so many calls at the same time; None for one that was answered."""

        async def call(stub: services.PodResourcesListerStub) -> grpc.aio.AioRpcError | None:
            try:
                await stub.List(api_messages.ListPodResourcesRequest())
            except grpc.aio.AioRpcError as error:
                return error
            return None

        async with self._stub() as stub:
            return await asyncio.gather(*(call(stub) for _ in range(count)))

    async def get(self, pod: str) -> dict[str, list[str]]:
        """Device ids of one pod's containers. Raises grpc.aio.AioRpcError for a pod the kubelet does not know."""
        async with self._stub() as stub:
            request = api_messages.GetPodResourcesRequest(pod_name=pod, pod_namespace="default")
            return _devices((await stub.Get(request)).pod_resources)

    async def held(self, pod: str) -> list[str]:
        """Device ids of one pod; waits while the socket has had too many calls, from whomever."""
        async with asyncio.timeout(LIMIT):
            while True:
                try:
                    return [each for ids in (await self.get(pod)).values() for each in ids]
                except grpc.aio.AioRpcError as error:
                    if error.code() != grpc.StatusCode.RESOURCE_EXHAUSTED:
                        raise
                await asyncio.sleep(0.03)

    async def until_unknown(self, pod: str) -> grpc.aio.AioRpcError:
        """What Get answers as soon as the kubelet has heard that the pod is gone."""
        async with asyncio.timeout(LIMIT):
            while True:
                try:
                    await self.get(pod)
                except grpc.aio.AioRpcError as error:
                    return error
                await asyncio.sleep(0.03)

    async def until_listed(self, expected: Mapping[str, list[str]]) -> None:
        """Return when exactly these pods are listed: a kubelet that just started knows its devices first."""
        async with asyncio.timeout(LIMIT):
            while await self.listed() != expected:  # noqa: ASYNC110
                await asyncio.sleep(0.03)

    def _stub(self) -> _Stub:
        return _Stub(self._address)


def _devices(pod: Any) -> dict[str, list[str]]:
    return {
        container.name: [i for entry in container.devices for i in entry.device_ids] for container in pod.containers
    }


class _Stub:
    def __init__(self, address: str) -> None:
        self._channel = grpc.aio.insecure_channel(address, options=[("grpc.default_authority", "localhost")])

    async def __aenter__(self) -> Any:
        return services.PodResourcesListerStub(self._channel)

    async def __aexit__(self, *_: object) -> None:
        await self._channel.close()
