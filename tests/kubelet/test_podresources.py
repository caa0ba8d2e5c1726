"""The PodResources client against a server that answers as told, and against the kubelet stand-in."""

from __future__ import annotations

import asyncio
from pathlib import Path

import grpc
import pytest
from cdmo_harness.kubelet.pod_resources import PodResourcesService, RateLimit

from cdmo.errors import KubeletUnavailable
from cdmo.kubelet._pb import podresources_pb2 as api
from cdmo.kubelet.podresources import MAX_MESSAGE_BYTES, KubeletPodResources
from cdmo.kubelet.port import PodDevices
from cdmo.runtime.clock import SystemClock
from tests.fakes.clock import HastyClock
from tests.harness.kubelet import builders
from tests.kubelet.fake_kubelet import RATE_LIMITED, FakePodResources, allocatable, devices, pod, serving

pytestmark = pytest.mark.asyncio

ONE, THREE = "nvidia.com/mig-1g.10gb", "nvidia.com/mig-3g.40gb"


@pytest.fixture
def socket(short_folder: Path) -> Path:
    """Where the kubelet's socket is, or is not."""
    return short_folder / "kubelet.sock"


def client(socket: Path, *, deadline: float = 2.0) -> KubeletPodResources:
    """What is tested."""
    return KubeletPodResources(socket, clock=SystemClock(), deadline=deadline)


async def test_only_nvidias_devices_are_kept_and_each_once(socket: Path) -> None:
    answer = allocatable(
        devices(ONE, "MIG-a"),
        devices(ONE, "MIG-b"),
        devices(ONE, "MIG-a"),
        devices("vendor.io/nic", "eth1"),
        devices(THREE),
    )
    async with serving(FakePodResources(answer), socket), client(socket) as pods:
        assert await pods.allocatable() == {ONE: frozenset({"MIG-a", "MIG-b"})}


async def test_a_pod_has_the_devices_of_all_its_containers(socket: Path) -> None:
    answer = pod("ml", "train", [devices(ONE, "MIG-a")], [devices(ONE, "MIG-b"), devices(THREE, "MIG-c")], [])
    service = FakePodResources(api.GetPodResourcesResponse(pod_resources=answer))
    async with serving(service, socket), client(socket) as pods:
        assert await pods.get("ml", "train") == PodDevices(
            "ml", "train", {ONE: ("MIG-a", "MIG-b"), THREE: ("MIG-c",)}
        )
    assert service.asked == ["Get ml/train"]


async def test_a_pod_that_is_listed_without_devices_is_known_but_holds_none(socket: Path) -> None:
    answer = api.GetPodResourcesResponse(pod_resources=pod("ml", "train", []))
    async with serving(FakePodResources(answer), socket), client(socket) as pods:
        assert await pods.get("ml", "train") == PodDevices("ml", "train", {})


async def test_the_list_has_only_pods_with_nvidias_devices(socket: Path) -> None:
    answer = api.ListPodResourcesResponse(
        pod_resources=[
            pod("ml", "a", [devices(ONE, "MIG-a")]),
            pod("ml", "b", []),
            pod("ml", "c", [devices("x.io/y", "1")]),
        ]
    )
    async with serving(FakePodResources(answer), socket), client(socket) as pods:
        assert await pods.list() == (PodDevices("ml", "a", {ONE: ("MIG-a",)}),)


@pytest.mark.parametrize(
    "refusal",
    [
        (grpc.StatusCode.UNKNOWN, "pod train in namespace ml not found"),
        (grpc.StatusCode.NOT_FOUND, "no such pod"),
    ],
)
async def test_a_pod_the_kubelet_does_not_know_is_none(socket: Path, refusal: tuple[grpc.StatusCode, str]) -> None:
    async with serving(FakePodResources(refusal), socket), client(socket) as pods:
        assert await pods.get("ml", "train") is None


async def test_another_unknown_error_is_no_absent_pod(socket: Path) -> None:
    service = FakePodResources((grpc.StatusCode.UNKNOWN, "checkpoint not found"))
    async with serving(service, socket), client(socket) as pods:
        with pytest.raises(KubeletUnavailable, match="checkpoint not found"):
            await pods.get("ml", "train")


async def test_a_kubelet_without_get_is_too_old(socket: Path) -> None:
    service = FakePodResources((grpc.StatusCode.UNKNOWN, "PodResources API Get method disabled"))
    async with serving(service, socket), client(socket) as pods:
        with pytest.raises(KubeletUnavailable) as raised:
            await pods.get("ml", "train")
    assert "1.34" in raised.value.hint


async def test_calls_refused_by_the_rate_limit_are_made_again_after_growing_pauses(socket: Path) -> None:
    service = FakePodResources(*[RATE_LIMITED] * 5, allocatable(devices(ONE, "MIG-a")))
    clock = HastyClock()
    async with serving(service, socket), KubeletPodResources(socket, clock=clock) as pods:
        assert await pods.allocatable() == {ONE: frozenset({"MIG-a"})}
    assert clock.slept == [0.01, 0.02, 0.04, 0.08, 0.08]


async def test_a_rate_limit_that_never_ends_is_unavailable(socket: Path) -> None:
    service = FakePodResources(*[RATE_LIMITED] * 1000)
    async with serving(service, socket), client(socket, deadline=0.2) as pods:
        with pytest.raises(KubeletUnavailable, match=r"within 0.2 s, [1-9]\d* calls refused by its rate limit"):
            await pods.allocatable()


async def test_a_message_that_is_too_long_is_not_asked_for_again(socket: Path) -> None:
    service = FakePodResources(allocatable(devices(ONE, "x" * (MAX_MESSAGE_BYTES + 1))))
    async with serving(service, socket), client(socket) as pods:
        with pytest.raises(KubeletUnavailable, match="RESOURCE_EXHAUSTED"):
            await pods.allocatable()
    assert service.asked == ["GetAllocatableResources"]


async def test_a_long_message_gets_through(socket: Path) -> None:
    ids = [f"MIG-{number:060d}" for number in range(100_000)]
    async with serving(FakePodResources(allocatable(devices(ONE, *ids))), socket), client(socket) as pods:
        assert len((await pods.allocatable())[ONE]) == 100_000


async def test_a_kubelet_that_does_not_answer_is_given_up(socket: Path) -> None:
    async with serving(FakePodResources(asyncio.Event().wait()), socket), client(socket, deadline=0.1) as pods:
        with pytest.raises(KubeletUnavailable):
            await pods.allocatable()


async def test_a_missing_socket_is_named(socket: Path) -> None:
    async with client(socket) as pods:
        with pytest.raises(KubeletUnavailable, match="the socket is not there") as raised:
            await pods.allocatable()
    assert str(socket) in str(raised.value)
    assert "kubelet root" in raised.value.hint
    assert raised.value.retryable


async def test_the_client_finds_a_kubelet_that_comes_back(socket: Path) -> None:
    answer = allocatable(devices(ONE, "MIG-a"))
    async with client(socket) as pods:
        async with serving(FakePodResources(answer), socket):
            assert await pods.allocatable()
        with pytest.raises(KubeletUnavailable):
            await pods.allocatable()
        async with serving(FakePodResources(answer), socket):
            # Each failed call returns at once until gRPC tries the socket again, half a second later at most.
            deadline = asyncio.get_running_loop().time() + 5
            while not await _answers(pods):
                assert asyncio.get_running_loop().time() < deadline


async def _answers(pods: KubeletPodResources) -> bool:
    try:
        return bool(await pods.allocatable())
    except KubeletUnavailable:
        return False


async def test_a_path_too_long_for_a_socket_is_said_to_be(tmp_path: Path) -> None:
    with pytest.raises(KubeletUnavailable, match="longer than 107 bytes"):
        async with client(tmp_path / ("x" * 120)):
            pass


async def test_a_client_that_is_not_open_says_so(socket: Path) -> None:
    with pytest.raises(KubeletUnavailable, match="not open"):
        await client(socket).allocatable()


async def test_the_stand_ins_kubelet_is_understood(socket: Path) -> None:
    kubelet = builders.Node()
    kubelet.offers("MIG-a", "MIG-b")
    held = builders.pod(one_g=1, name="train")
    await kubelet.admits(held)
    limit = RateLimit(lambda: 0.0, 100.0, 20)
    service = PodResourcesService(kubelet.manager, limit, lambda: [held], lambda: [held])
    async with serving(service, socket), client(socket) as pods:
        assert await pods.allocatable() == {ONE: frozenset({"MIG-a", "MIG-b"})}
        found = await pods.get("default", "train")
        assert found is not None
        assert await pods.get("default", "other") is None
        assert await pods.list() == (found,)
    assert [len(ids) for ids in found.devices.values()] == [1]


async def test_an_answer_that_is_no_such_message_is_no_answer(socket: Path) -> None:
    class Handler(grpc.GenericRpcHandler):
        def service(self, details: object) -> grpc.RpcMethodHandler:
            async def answer(request: bytes, context: object) -> bytes:
                return b"\xff\xff\xff"

            return grpc.unary_unary_rpc_method_handler(answer)

    server = grpc.aio.server()
    server.add_generic_rpc_handlers((Handler(),))
    server.add_insecure_port(f"unix:{socket}")
    await server.start()
    try:
        async with client(socket) as pods:
            for ask in (pods.list, pods.allocatable, lambda: pods.get("ml", "train")):
                with pytest.raises(KubeletUnavailable, match="cannot be read"):
                    await ask()
    finally:
        await server.stop(None)
