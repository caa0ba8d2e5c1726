"""A whole node under a real API server and scheduler: what the kubelet stand-in claims, asked of both kubelets."""

from __future__ import annotations

from pathlib import Path
from time import monotonic

import pytest
from cdmo_harness.errors import HarnessError
from cdmo_harness.gpu_node import GpuNode, NodeSetup

from tests.harness.kubelet.cluster import Cluster, Kubelet, allocatable, device_ids, phase, waiting
from tests.node_backends import NodeBackend
from tests.real_node.conftest import StartNode
from tests.real_node.slices import (
    ONE_G,
    ONE_G_AT_0,
    THREE_G,
    THREE_G_AT_4,
    existing,
    processes,
    until,
    with_slices,
)

pytestmark = [pytest.mark.asyncio, pytest.mark.cluster, pytest.mark.timeout(60)]


async def test_the_scheduler_places_a_pod_that_runs_on_a_slice_and_frees_it(node: GpuNode, cluster: Cluster) -> None:
    (uuid,) = await with_slices(node, THREE_G_AT_4)
    await cluster.advertises(THREE_G, 1)
    await cluster.create("scheduled", THREE_G, bound=False)
    await cluster.running("scheduled")
    assert await Kubelet(node).held("scheduled") == [uuid]
    assert await Kubelet(node).listed() == {"scheduled": [uuid]}
    assert processes(node, uuid) == 1
    await cluster.delete("scheduled")
    await cluster.gone("scheduled")
    assert processes(node, uuid) == 0
    assert await Kubelet(node).listed() == {}


async def test_new_slices_reach_the_api_at_the_next_tick_and_not_before(
    start_node: StartNode, cluster: Cluster, node_backend: NodeBackend
) -> None:
    # Far longer than cutting and a reload take; for a real kubelet what it does when nothing is set.
    period = 10.0 if node_backend.real else 4.0
    with start_node(status_period=period) as node:
        await cluster.ready()
        await with_slices(node, THREE_G_AT_4)
        await cluster.advertises(THREE_G, 1)
        ticked = monotonic()
        node.cut(ONE_G_AT_0)
        node.reload_plugin()
        await Kubelet(node).until_allocatable(existing(node))
        assert allocatable(await cluster.node_when(lambda found: True), ONE_G) == 0
        await cluster.advertises(ONE_G, 1)
        assert monotonic() - ticked > period / 2  # the first one may have been seen late, on a busy machine


async def test_pods_end_by_themselves_as_their_annotations_say(node: GpuNode, cluster: Cluster) -> None:
    await with_slices(node, ONE_G_AT_0)
    await cluster.create("good", ONE_G, run_seconds="0.1")
    await cluster.pod_when("good", lambda pod: phase(pod) == "Succeeded")
    await cluster.create("bad", ONE_G, run_seconds="0.1", exit_code="3")
    bad = await cluster.pod_when("bad", lambda pod: phase(pod) == "Failed")
    assert bad["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 3
    assert node.counters().completed == 2


async def test_a_pod_that_arrives_while_the_plugin_is_away_fails_for_good(node: GpuNode, cluster: Cluster) -> None:
    await with_slices(node, ONE_G_AT_0)
    node.stop_plugin()
    await Kubelet(node).until_allocatable({})
    await cluster.create("unlucky", ONE_G)
    failed = await cluster.pod_when("unlucky", lambda pod: phase(pod) == "Failed")
    assert failed["status"]["reason"] == "UnexpectedAdmissionError"
    message = (
        "Pod was rejected: Allocate failed due to no healthy devices present; "
        f"cannot allocate unhealthy devices {ONE_G}, which is unexpected"
    )
    assert failed["status"]["message"] == message
    assert node.counters().admission_failures == {message: 1}
    assert await Kubelet(node).listed() == {}


async def test_a_pod_for_an_unknown_resource_runs_without_a_device_in_silence(
    node: GpuNode, cluster: Cluster
) -> None:
    await cluster.create("empty-handed", THREE_G)
    running = await cluster.running("empty-handed")
    assert device_ids(running) == []
    assert await Kubelet(node).held("empty-handed") == []
    assert node.counters().admitted_without_device == 1


async def test_a_missing_device_node_holds_a_container_back_until_it_is_made(node: GpuNode, cluster: Cluster) -> None:
    await with_slices(node, ONE_G_AT_0)
    (cap, *_) = sorted(node.root.glob("dev/nvidia-caps/nvidia-cap??*"))
    kept = cap.with_name("kept")
    cap.rename(kept)
    await cluster.create("waits", ONE_G)
    held = await cluster.pod_when("waits", lambda pod: waiting(pod).get("reason") == "CreateContainerError")
    assert cap.name in waiting(held)["message"]
    kept.rename(cap)
    await cluster.running("waits")
    assert node.counters().waited_for_device_node == 1


async def test_a_slice_destroyed_behind_the_plugins_back_shows_when_a_pod_starts_on_it(
    node: GpuNode, cluster: Cluster
) -> None:
    (uuid,) = await with_slices(node, ONE_G_AT_0)
    node.driver.reset_gpu(node.setup.gpus[0].uuid)
    await cluster.create("haunted", ONE_G)
    failed = await cluster.pod_when("haunted", lambda pod: phase(pod) == "Failed")
    (status,) = failed["status"]["containerStatuses"]
    assert (status["state"]["terminated"]["exitCode"], status["state"]["terminated"]["reason"]) == (128, "StartError")
    assert f"{uuid}: unknown device" in status["state"]["terminated"]["message"]
    counts = node.counters()
    assert (counts.started_on_dead_device, counts.started, counts.completed) == (1, 0, 0)


async def test_a_forced_deletion_frees_the_device_while_the_process_lives_on(node: GpuNode, cluster: Cluster) -> None:
    (uuid,) = await with_slices(node, ONE_G_AT_0)
    await cluster.create("forced", ONE_G, terminate_seconds="30")
    await cluster.running("forced")
    await cluster.delete("forced", grace=0)
    await cluster.gone("forced")
    await cluster.create("next", ONE_G)
    await cluster.running("next")
    assert await Kubelet(node).held("next") == [uuid]
    assert processes(node, uuid) == 2


async def test_pods_survive_a_restart_of_the_kubelet(node: GpuNode, cluster: Cluster) -> None:
    (uuid,) = await with_slices(node, ONE_G_AT_0)
    await cluster.create("survivor", ONE_G)
    before = await cluster.running("survivor")
    node.restart_kubelet()
    await Kubelet(node).until_allocatable({ONE_G: {uuid}})
    await Kubelet(node).until_listed({"survivor": [uuid]})
    after = await cluster.running("survivor")
    assert after["status"]["startTime"] >= before["status"]["startTime"]
    assert (processes(node, uuid), node.counters().started) == (1, 1)


async def test_a_reboot_takes_slices_and_pods_and_gives_a_new_boot_id(node: GpuNode, cluster: Cluster) -> None:
    await with_slices(node, ONE_G_AT_0)
    await cluster.create("victim", ONE_G)
    await cluster.running("victim")
    boot_id = (node.root / "proc/sys/kernel/random/boot_id").read_text().strip()
    node.reboot()
    failed = await cluster.pod_when("victim", lambda pod: phase(pod) == "Failed")
    assert failed["status"]["reason"] == "UnexpectedAdmissionError"
    rebooted = await cluster.node_when(lambda found: found["status"]["nodeInfo"]["bootID"] != boot_id)
    assert allocatable(rebooted, ONE_G) == 0
    assert node.driver.snapshot()[0].slices == ()
    assert sorted(path.name for path in node.root.glob("dev/nvidia-caps/*")) == ["nvidia-cap1", "nvidia-cap2"]


async def test_the_agent_finds_this_nodes_plugin_and_no_other_process(node: GpuNode, cluster: Cluster) -> None:
    node.wait_for_plugin()
    # Process 1 is not for what runs in it: the kubelet's network namespace is seen through it, where there is one.
    (process,) = [path for path in (node.root / "proc").iterdir() if path.name.isdigit() and path.name != "1"]
    name = (process / "cmdline").read_bytes().split(b"\0")[0].rpartition(b"/")[2]
    assert name == b"nvidia-device-plugin"


async def test_a_killed_plugin_comes_back_by_itself(node: GpuNode, cluster: Cluster) -> None:
    (uuid,) = await with_slices(node, ONE_G_AT_0)
    node.kill_plugin()
    await Kubelet(node).until_allocatable({})
    await Kubelet(node).until_allocatable({ONE_G: {uuid}})


@pytest.mark.simulated_kubelet(reason="only the stand-in is slow for sure at the one moment that matters")
async def test_a_slow_kubelet_is_left_broken_by_a_plain_sighup_until_it_restarts(
    start_node: StartNode, cluster: Cluster
) -> None:
    with start_node(stream_end_delay=1.0) as node:
        await cluster.ready()
        (uuid,) = await with_slices(node, ONE_G_AT_0)
        socket = node.root / "var/lib/kubelet/device-plugins/nvidia-mig-1g.10gb.sock"
        assert socket.exists()
        node.reload_plugin()
        await until(lambda: "already connected" in (node.folder / "kubelet.log").read_text())
        await until(lambda: not socket.exists())
        assert await Kubelet(node).allocatable() == {ONE_G: {uuid}}, "the kubelet still believes in the old devices"
        await cluster.create("burnt", ONE_G)
        failed = await cluster.pod_when("burnt", lambda pod: phase(pod) == "Failed")
        assert (
            "GetPreferredAllocation rpc failed with err: rpc error: code = Unavailable" in failed["status"]["message"]
        )
        assert failed["status"]["message"].endswith(
            f'dial unix {socket}: connect: no such file or directory", which is unexpected'
        )
        node.restart_kubelet()
        await Kubelet(node).until_allocatable({ONE_G: {uuid}})
        assert socket.exists()


@pytest.mark.simulated_kubelet(reason="only the stand-in is slow for sure at the one moment that matters")
async def test_a_slow_kubelet_stays_whole_when_the_plugin_is_held_until_it_noticed(
    start_node: StartNode,
) -> None:
    with start_node(stream_end_delay=0.3) as node:
        (uuid,) = await with_slices(node, ONE_G_AT_0)
        node.stop_plugin()
        await Kubelet(node).until_allocatable({})
        node.start_plugin()
        await Kubelet(node).until_allocatable({ONE_G: {uuid}})


async def test_a_folder_too_deep_for_sockets_is_refused_with_a_hint(
    setup: NodeSetup, node_backend: NodeBackend
) -> None:
    with pytest.raises(HarnessError) as caught:
        node_backend.make_node(setup, Path("/tmp") / ("x" * 90))
    assert "at most" in caught.value.hint
