"""Stopping NVIDIA's programs on a node, and starting them again."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cdmo.errors import ChangeStuck, ClusterUnavailable, DriverFault
from cdmo.handover.clients import Clients
from cdmo.handover.port import NodePod
from cdmo.handover.waiting import Tell
from cdmo.model.cluster import NodeInfo
from cdmo.model.gpu import PodKey
from tests.handover.cluster import NAME, FakeCluster

PLUGIN, DISCOVERY, DCGM, EXPORTER = (
    f"nvidia.com/gpu.deploy.{each}" for each in ("device-plugin", "gpu-feature-discovery", "dcgm", "dcgm-exporter")
)
DRIVER = "nvidia.com/gpu.deploy.driver"
PAUSED = "paused-for-cdmo"
LIMIT = 30.0


@pytest.fixture
def cluster() -> FakeCluster:
    """A node on which nobody watches but the plugin and two exporters, named here in another order than theirs."""
    made = FakeCluster()
    label(made, {EXPORTER: "true", DCGM: "false", PLUGIN: "true", DISCOVERY: "true", DRIVER: "true"})
    return made


def label(cluster: FakeCluster, labels: dict[str, str]) -> None:
    cluster.info = replace(node_of(cluster), labels=labels)


def node_of(cluster: FakeCluster) -> NodeInfo:
    assert cluster.info is not None
    return cluster.info


def clients(cluster: FakeCluster, tell: Tell = lambda _: None) -> Clients:
    return Clients(cluster, cluster.clock, tell, NAME, LIMIT)


class Lingering:
    """Pods of programs that end only some looks after they were told to."""

    def __init__(self, cluster: FakeCluster, *labels: str, looks: int, phase: str = "Running") -> None:
        self._cluster = cluster
        self._looks = looks
        self._pods = {}
        for number, each in enumerate(labels):
            key = cluster.run_pod(f"pod-{number}", "", "DaemonSet", node_selector=((each, "true"),))
            pod = replace(cluster.pods[key].pod, phase=phase)
            self._pods[key] = NodePod(pod, "DaemonSet")
        self._look(0)
        cluster.on_look = self._look

    def _look(self, look: int) -> None:
        for key in self._pods:
            self._cluster.pods.pop(key, None)
        if look <= self._looks:
            self._cluster.pods.update(self._pods)


async def test_only_those_that_run_are_stopped_all_at_once(cluster: FakeCluster) -> None:
    told: list[str] = []
    await clients(cluster, told.append).stop(node_of(cluster))
    assert told == [f"{NAME}: {each} is paused" for each in (PLUGIN, DISCOVERY, EXPORTER)]
    assert cluster.calls == [f"mark {PLUGIN}={PAUSED} {DISCOVERY}={PAUSED} {EXPORTER}={PAUSED}"]
    assert (node_of(cluster).labels[DCGM], node_of(cluster).labels[DRIVER]) == ("false", "true")


async def test_their_pods_are_waited_for(cluster: FakeCluster) -> None:
    Lingering(cluster, PLUGIN, EXPORTER, looks=4)
    await clients(cluster).stop(node_of(cluster))
    assert (cluster.clock.slept, cluster.pods) == ([1.0] * 4, {})


async def test_pods_of_what_an_interrupted_command_has_paused_are_waited_for_too(cluster: FakeCluster) -> None:
    label(cluster, {PLUGIN: PAUSED})
    Lingering(cluster, PLUGIN, looks=4)
    await clients(cluster).stop(node_of(cluster))
    assert (cluster.clock.slept, cluster.pods) == ([1.0] * 4, {})


async def test_they_start_again_when_what_they_were_stopped_for_fails(cluster: FakeCluster) -> None:
    with pytest.raises(DriverFault):
        async with clients(cluster).stopped(node_of(cluster)):
            assert node_of(cluster).labels[PLUGIN] == PAUSED
            raise DriverFault("the reset failed")
    assert node_of(cluster).labels[PLUGIN] == "true"


async def test_a_failure_to_start_them_does_not_hide_why_they_were_to_start(cluster: FakeCluster) -> None:
    told: list[str] = []
    with pytest.raises(DriverFault):
        async with clients(cluster, told.append).stopped(node_of(cluster)):
            cluster.away = ClusterUnavailable("the API server is away")
            raise DriverFault("the reset failed")
    assert told[-1].endswith("are still paused (the API server is away): run the command again")


async def test_pods_that_are_finished_or_of_another_program_or_of_a_user_are_not(cluster: FakeCluster) -> None:
    Lingering(cluster, PLUGIN, looks=100, phase="Succeeded")
    cluster.run_pod("other", "", node_selector=((DCGM, "false"), (DRIVER, "true")))
    cluster.run_pod("train")
    await clients(cluster).stop(node_of(cluster))
    assert cluster.clock.slept == []


async def test_where_there_is_no_such_label_nothing_is_stopped_or_waited_for(cluster: FakeCluster) -> None:
    label(cluster, {DRIVER: "true"})
    cluster.run_pod("plugin", "", "DaemonSet", node_selector=((PLUGIN, "true"),))
    await clients(cluster).stop(node_of(cluster))
    assert (cluster.calls, cluster.clock.slept) == ([], [])


async def test_pods_that_do_not_go_in_time_are_named_and_not_more_than_five(cluster: FakeCluster) -> None:
    Lingering(cluster, *[PLUGIN] * 7, looks=10_000)
    with pytest.raises(ChangeStuck) as told:
        await clients(cluster).stop(node_of(cluster))
    names = ", ".join(f"ml/pod-{number}" for number in range(5))
    assert str(told.value) == f"pods that have the GPUs of node {NAME} open do not go: {names}"
    assert told.value.hint
    assert sum(cluster.clock.slept) == LIMIT


async def test_they_start_again_in_their_order_the_plugin_first(cluster: FakeCluster) -> None:
    await clients(cluster).stop(node_of(cluster))
    cluster.calls.clear()
    await clients(cluster).start()
    assert cluster.calls == [f"mark {PLUGIN}=true", f"mark {DISCOVERY}=true", f"mark {EXPORTER}=true"]


async def test_what_an_earlier_command_stopped_is_started_and_nothing_else(cluster: FakeCluster) -> None:
    label(
        cluster, {PLUGIN: "true", EXPORTER: PAUSED, DCGM: "false", DISCOVERY: "paused-for-mig-change", DRIVER: PAUSED}
    )
    await clients(cluster).start()
    assert cluster.calls == [f"mark {EXPORTER}=true"]


async def test_on_a_node_that_went_away_nothing_is_started(cluster: FakeCluster) -> None:
    await Clients(cluster, cluster.clock, print, "gone", LIMIT).start()
    assert cluster.calls == []


async def test_a_pod_that_is_named_is_named_by_its_namespace(cluster: FakeCluster) -> None:
    key = PodKey("gpu-operator", "plugin", "uid")
    pod = replace(cluster.pods[cluster.run_pod("x", "", node_selector=((PLUGIN, "true"),))].pod, key=key)

    def stays(look: int) -> None:
        cluster.pods = {key: NodePod(pod)}

    cluster.on_look = stays
    with pytest.raises(ChangeStuck, match=r"do not go: gpu-operator/plugin$"):
        await clients(cluster).stop(node_of(cluster))
