"""The PodResources socket: what it shows, what it hides, and how fast it may be asked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from cdmo_harness.kubelet.devices import Device
from cdmo_harness.kubelet.pod_resources import PodResourcesService, RateLimit, SlowedDown
from cdmo_harness.kubelet.pods import Pod

from cdmo.kubelet._pb import podresources_pb2 as api
from cdmo.kubelet._pb import podresources_pb2_grpc as services
from tests.harness.kubelet.builders import ONE_G, Node, container, pod

pytestmark = pytest.mark.asyncio


@asynccontextmanager
async def served(node: Node, pods: list[Pod], folder: Path, *, burst: int = 100) -> AsyncIterator[Any]:
    """A client of the service on a real socket. Active are the pods whose UID is in `node.active`."""
    limit = RateLimit(lambda: 0.0, 100.0, burst)
    service = PodResourcesService(
        node.manager, limit, lambda: pods, lambda: [one for one in pods if one.uid in node.active]
    )
    server = grpc.aio.server()
    services.add_PodResourcesListerServicer_to_server(service, server)
    address = f"unix:{folder / 'kubelet.sock'}"
    server.add_insecure_port(address)
    await server.start()
    async with grpc.aio.insecure_channel(address, options=[("grpc.default_authority", "localhost")]) as channel:
        yield services.PodResourcesListerStub(channel)
    await server.stop(None)


def devices(container_resources: Any) -> list[tuple[str, list[str]]]:
    return [(entry.resource_name, list(entry.device_ids)) for entry in container_resources.devices]


async def test_every_healthy_device_is_allocatable_whether_held_or_not(tmp_path: Path) -> None:
    node = Node()
    node.offers("MIG-a", "MIG-b")
    await node.admits(pod(one_g=1))
    node.manager.devices_listed(ONE_G, [Device("MIG-a"), Device("MIG-b"), Device("MIG-c", "Unhealthy")])
    async with served(node, [], tmp_path) as stub:
        answer = await stub.GetAllocatableResources(api.AllocatableResourcesRequest())
    assert sorted(devices(answer)) == [(ONE_G, ["MIG-a"]), (ONE_G, ["MIG-b"])]


async def test_list_shows_sidecars_and_hides_init_containers(tmp_path: Path) -> None:
    node = Node()
    node.offers("MIG-a", "MIG-b", "MIG-c")
    init = [container("prepare", one_g=1), container("proxy", sidecar=True, one_g=1)]
    held = pod(container(one_g=1), init=init)
    await node.admits(held)
    async with served(node, [held], tmp_path) as stub:
        (listed,) = (await stub.List(api.ListPodResourcesRequest())).pod_resources
    assert [c.name for c in listed.containers] == ["proxy", "main"]
    assert all(len(devices(c)) == 1 for c in listed.containers)


async def test_a_pod_that_is_known_but_not_admitted_is_listed_without_devices(tmp_path: Path) -> None:
    node = Node()
    node.offers("MIG-a")
    arrived = pod(one_g=1)
    node.active.add(arrived.uid)
    async with served(node, [arrived], tmp_path) as stub:
        (listed,) = (await stub.List(api.ListPodResourcesRequest())).pod_resources
    assert [devices(c) for c in listed.containers] == [[]]


async def test_list_forgets_the_devices_of_ended_pods_and_get_does_not(tmp_path: Path) -> None:
    node = Node()
    node.offers("MIG-a")
    ended = pod(one_g=1)
    await node.admits(ended)
    node.active.clear()
    async with served(node, [ended], tmp_path) as stub:
        request = api.GetPodResourcesRequest(pod_name=ended.name, pod_namespace=ended.namespace)
        before = await stub.Get(request)
        listed = await stub.List(api.ListPodResourcesRequest())
        after = await stub.Get(request)
    assert devices(before.pod_resources.containers[0]) == [(ONE_G, ["MIG-a"])]
    assert not listed.pod_resources
    assert devices(after.pod_resources.containers[0]) == []


async def test_an_unknown_pod_is_not_found(tmp_path: Path) -> None:
    async with served(Node(), [], tmp_path) as stub:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Get(api.GetPodResourcesRequest(pod_name="p", pod_namespace="ns"))
    assert caught.value.code() is grpc.StatusCode.UNKNOWN
    assert caught.value.details() == "pod p in namespace ns not found"


async def test_calls_beyond_the_burst_are_refused(tmp_path: Path) -> None:
    async with served(Node(), [], tmp_path, burst=2) as stub:
        await stub.List(api.ListPodResourcesRequest())
        await stub.GetAllocatableResources(api.AllocatableResourcesRequest())
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.List(api.ListPodResourcesRequest())
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert caught.value.details() == "rejected by rate limit"


async def test_the_rate_limit_fills_up_again_with_time() -> None:
    now = [0.0]
    limit = RateLimit(lambda: now[0], 100.0, 10)
    assert [limit.allow() for _ in range(11)] == [True] * 10 + [False]
    now[0] += 0.02
    assert [limit.allow() for _ in range(3)] == [True, True, False]
    now[0] += 60
    assert [limit.allow() for _ in range(11)] == [True] * 10 + [False]


async def test_a_call_waits_as_long_as_the_file_says_at_that_moment(tmp_path: Path) -> None:
    delay = tmp_path / "delay"
    waited = asyncio.Event()

    async def handler(details: Any) -> Any:
        waited.set()
        return details

    slowed = SlowedDown(delay)
    assert await slowed.intercept_service(handler, "at once") == "at once"

    waited.clear()
    delay.write_text("600")
    call = asyncio.create_task(slowed.intercept_service(handler, "late"))
    done, _ = await asyncio.wait({call}, timeout=0.1)
    assert not done
    assert not waited.is_set()
    call.cancel()

    delay.write_text("")  # as it is for a moment while somebody writes it
    assert await slowed.intercept_service(handler, "at once") == "at once"
