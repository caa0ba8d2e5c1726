"""What CDMO's safety rests on in a kubelet, asked of the stand-in and of the real one with the same words."""

from __future__ import annotations

import asyncio

import grpc
import grpc.aio
import pytest
from cdmo_harness.gpu_node import PLUGIN_FOLDER, GpuNode

from tests.harness.kubelet.cluster import Cluster, Document, Kubelet, allocatable, container_of, device_ids, phase
from tests.node_backends import NodeBackend
from tests.real_node.registration import register_again
from tests.real_node.slices import ONE_G, ONE_G_AT_0, ONE_G_AT_1, THREE_G, THREE_G_AT_4, processes, with_slices

pytestmark = [pytest.mark.asyncio, pytest.mark.cluster, pytest.mark.timeout(120)]

ONE_G_SOCKET = f"{PLUGIN_FOLDER}/nvidia-mig-1g.10gb.sock"


async def failed(cluster: Cluster, name: str) -> str:
    """The message of a pod that admission refused."""
    pod = await cluster.pod_when(name, lambda pod: phase(pod) == "Failed")
    assert pod["status"]["reason"] == "UnexpectedAdmissionError"
    return str(pod["status"]["message"])


def refused(cause: str) -> str:
    """The kubelet's sentence around a cause."""
    return f"Pod was rejected: Allocate failed due to {cause}, which is unexpected"


async def test_a_pod_for_a_slice_that_another_holds_fails_admission_for_good(node: GpuNode, cluster: Cluster) -> None:
    await with_slices(node, ONE_G_AT_0)
    await cluster.create("first", ONE_G)
    await cluster.running("first")
    await cluster.create("second", ONE_G)
    expected = refused(f"requested number of devices unavailable for {ONE_G}. Requested: 1, Available: 0")
    assert await failed(cluster, "second") == expected
    assert node.counters().admission_failures == {expected: 1}


async def test_a_pod_that_ended_by_itself_frees_its_slice_although_its_object_stays(
    node: GpuNode, cluster: Cluster
) -> None:
    (uuid,) = await with_slices(node, ONE_G_AT_0)
    await cluster.create("ended", ONE_G, run_seconds="0.1")
    await cluster.pod_when("ended", lambda pod: phase(pod) == "Succeeded")
    assert await Kubelet(node).listed() == {}
    assert processes(node, uuid) == 0
    await cluster.create("next", ONE_G)
    await cluster.running("next")
    assert await Kubelet(node).held("next") == [uuid]


async def test_a_pod_that_is_told_to_end_is_listed_with_its_slice_until_its_process_has_ended(
    node: GpuNode, cluster: Cluster
) -> None:
    (uuid,) = await with_slices(node, ONE_G_AT_0)
    await cluster.create("stubborn", ONE_G, terminate_seconds="3")
    await cluster.running("stubborn")
    await cluster.delete("stubborn")
    await cluster.pod_when("stubborn", lambda pod: "deletionTimestamp" in pod["metadata"])
    assert await Kubelet(node).listed() == {"stubborn": [uuid]}
    assert processes(node, uuid) == 1
    await cluster.gone("stubborn")
    assert processes(node, uuid) == 0


async def test_list_hides_the_slice_of_an_init_container_which_is_held_all_the_same(
    node: GpuNode, cluster: Cluster
) -> None:
    ones = set(await with_slices(node, ONE_G_AT_0, ONE_G_AT_1, THREE_G_AT_4))
    prepare = container_of("prepare", THREE_G, env=[{"name": "CDMO_RUN_SECONDS", "value": "0.1"}])
    sidecar = container_of("sidecar", ONE_G, restartPolicy="Always")
    spec = {"initContainers": [prepare, sidecar], "containers": [container_of("main", ONE_G)]}
    await cluster.create_with("several", {**spec, "nodeName": cluster.node})
    await cluster.running("several")
    (containers,) = (await Kubelet(node).listed_containers()).values()
    assert containers.keys() == {"sidecar", "main"}
    (one,), (other,) = containers["sidecar"], containers["main"]
    assert one != other
    assert {one, other} < ones

    await cluster.create("wants-it", THREE_G)
    expected = f"requested number of devices unavailable for {THREE_G}. Requested: 1, Available: 0"
    assert await failed(cluster, "wants-it") == refused(expected)


async def test_get_shows_what_list_shows_and_does_not_know_a_pod_that_is_gone(
    node: GpuNode, cluster: Cluster
) -> None:
    (uuid,) = await with_slices(node, ONE_G_AT_0)
    await cluster.create("there", ONE_G)
    await cluster.running("there")
    assert await Kubelet(node).get("there") == {"main": [uuid]} == (await Kubelet(node).listed_containers())["there"]
    await cluster.delete("there")
    await cluster.gone("there")
    error = await Kubelet(node).until_unknown("there")
    assert (error.code(), error.details()) == (
        grpc.StatusCode.UNKNOWN,
        "pod there in namespace default not found",
    )


async def test_a_pods_status_names_its_slices_from_1_36_on(
    node: GpuNode, cluster: Cluster, node_backend: NodeBackend
) -> None:
    (uuid,) = await with_slices(node, ONE_G_AT_0)
    await cluster.create("told", ONE_G)
    running = await cluster.running("told")
    assert device_ids(running) == ([uuid] if node_backend.minor >= 36 else [])
    assert await Kubelet(node).held("told") == [uuid]


async def test_more_calls_than_the_socket_takes_are_refused_at_once(node: GpuNode) -> None:
    codes = set()
    async with asyncio.timeout(30):
        while not codes:  # a busy machine may send a burst too slowly
            answers = await Kubelet(node).listed_at_once(120)
            codes = {(each.code(), each.details()) for each in answers if each is not None}
    assert codes == {(grpc.StatusCode.RESOURCE_EXHAUSTED, "rejected by rate limit")}


async def test_when_the_plugin_dies_allocatable_falls_at_the_next_tick_and_capacity_stays(
    node: GpuNode, cluster: Cluster
) -> None:
    await with_slices(node, ONE_G_AT_0, ONE_G_AT_1)
    await cluster.advertises(ONE_G, 2)
    node.stop_plugin()
    await Kubelet(node).until_allocatable({})
    found = await cluster.advertises(ONE_G, 0)
    assert found["status"]["capacity"][ONE_G] == "2"


async def test_the_next_tick_writes_over_what_somebody_else_wrote(node: GpuNode, cluster: Cluster) -> None:
    await with_slices(node, ONE_G_AT_0)
    await cluster.advertises(ONE_G, 1)
    await cluster.offer(ONE_G, 3)
    await cluster.advertises(ONE_G, 1)


async def test_a_pod_bound_while_nothing_is_offered_runs_if_its_slice_is_there(
    node: GpuNode, cluster: Cluster
) -> None:
    """So lowering what a node offers hurts no pod that is on its way: the device manager is the judge."""
    (uuid,) = await with_slices(node, ONE_G_AT_0)
    await cluster.advertises(ONE_G, 1)
    await cluster.offer(ONE_G, 0)
    await cluster.create("on-its-way", ONE_G)
    await cluster.running("on-its-way")
    assert await Kubelet(node).held("on-its-way") == [uuid]


async def test_a_slice_offered_before_the_plugin_registered_it_kills_the_pod_that_comes_for_it(
    node: GpuNode, cluster: Cluster
) -> None:
    """Never write up what the device manager does not have yet."""
    await with_slices(node, ONE_G_AT_0)
    node.stop_plugin()
    await Kubelet(node).until_allocatable({})
    await cluster.offer(ONE_G, 1)
    await cluster.create("early", ONE_G, bound=False)
    cause = f"no healthy devices present; cannot allocate unhealthy devices {ONE_G}"
    assert await failed(cluster, "early") == refused(cause)


def is_stale(allocatables: dict[str, set[str]], uuid: str) -> bool:
    """Whether the kubelet still counts on a slice of a plugin that is gone."""
    return allocatables == {ONE_G: {uuid}}


async def test_a_second_registration_on_a_connected_socket_breaks_a_kubelet_of_1_37_until_it_restarts(
    node: GpuNode, cluster: Cluster, node_backend: NodeBackend
) -> None:
    (uuid,) = await with_slices(node, ONE_G_AT_0)
    if node_backend.minor < 37:  # the second one takes over
        await register_again(node, ONE_G)
        return
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await register_again(node, ONE_G)
    details = str(caught.value.details())
    assert details.startswith("device plugin already connected: ")
    assert details.endswith(f"/{ONE_G_SOCKET}")

    node.stop_plugin()
    await cluster.create("burnt", ONE_G)
    message = await failed(cluster, "burnt")
    assert message.startswith("Pod was rejected: Allocate failed due to ")
    assert is_stale(await Kubelet(node).allocatable(), uuid)
    node.start_plugin()
    node.restart_kubelet()
    await Kubelet(node).until_allocatable({ONE_G: {uuid}})
    await cluster.create("served", ONE_G)
    await cluster.running("served")
    assert await Kubelet(node).held("served") == [uuid]


def sandbox_only(pod: Document) -> bool:
    """A pod that runs and reports no device."""
    return phase(pod) == "Running" and device_ids(pod) == []


async def test_a_pod_without_slices_is_listed_without_devices(node: GpuNode, cluster: Cluster) -> None:
    plain = {"name": "main", "image": "example.invalid/train:1"}
    await cluster.create_with("plain", {"containers": [plain], "nodeName": cluster.node})
    await cluster.pod_when("plain", sandbox_only)
    assert await Kubelet(node).listed_containers() == {"plain": {"main": []}}
    assert allocatable(await cluster.node_when(lambda found: True), ONE_G) == 0
    assert node.counters().admitted_without_device == 0
