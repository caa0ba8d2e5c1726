"""A PodResources server whose answers the test gives, on a real socket; and the harness' stand-in behind the same."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from cdmo.kubelet._pb import podresources_pb2 as api
from cdmo.kubelet._pb import podresources_pb2_grpc as services

Answer = Callable[[Any], Awaitable[Any]]  # gets the gRPC context


class FakePodResources:
    """`answers` are used up in order, by whatever method is called; `asked` are the methods' names."""

    def __init__(self, *answers: object) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    async def List(self, request: Any, context: Any) -> Any:  # noqa: N802 the gRPC method's name
        return await self._answer("List", context)

    async def Get(self, request: Any, context: Any) -> Any:  # noqa: N802 the gRPC method's name
        return await self._answer(f"Get {request.pod_namespace}/{request.pod_name}", context)

    async def GetAllocatableResources(self, request: Any, context: Any) -> Any:  # noqa: N802 the gRPC method's name
        return await self._answer("GetAllocatableResources", context)

    async def _answer(self, method: str, context: Any) -> Any:
        self.asked.append(method)
        answer = self.answers.pop(0)
        if isinstance(answer, tuple):
            return await context.abort(*answer)
        return await answer if isinstance(answer, Awaitable) else answer


RATE_LIMITED = (grpc.StatusCode.RESOURCE_EXHAUSTED, "rejected by rate limit")


@asynccontextmanager
async def serving(service: object, socket: Path) -> AsyncIterator[None]:
    """Serve PodResources on a socket."""
    server = grpc.aio.server()
    services.add_PodResourcesListerServicer_to_server(service, server)
    server.add_insecure_port(f"unix:{socket}")
    await server.start()
    try:
        yield
    finally:
        await server.stop(None)


def devices(resource: str, *ids: str) -> Any:
    """One entry of a container or of the allocatable devices."""
    return api.ContainerDevices(resource_name=resource, device_ids=ids)


def allocatable(*entries: Any) -> Any:
    """An answer to GetAllocatableResources."""
    return api.AllocatableResourcesResponse(devices=entries)


def pod(namespace: str, name: str, *containers: list[Any]) -> Any:
    """A pod with these entries in each of its containers."""
    return api.PodResources(
        namespace=namespace,
        name=name,
        containers=[api.ContainerResources(name=f"c{n}", devices=each) for n, each in enumerate(containers)],
    )
