"""From the JSON of the API to what planning knows."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from cdmo.kube.slim import node_info, pod_info
from cdmo.model.cluster import HostPort, NodeInfo, PodInfo, Requirement, SelectorTerm, Taint, Toleration
from cdmo.model.gpu import PodKey
from tests.kube.objects import container, node_json, pod_json

MIG = "nvidia.com/mig-1g.10gb"


def pod(**spec: Any) -> PodInfo:
    """A pod with this in its spec, read."""
    return pod_info(json.dumps(pod_json("a", **spec)).encode())


def node(**status: Any) -> NodeInfo:
    """A node with this in its status, read."""
    return node_info(json.dumps(node_json("n", **status)).encode())


def test_a_pod_is_known_by_namespace_name_and_uid() -> None:
    found = pod(priority=3, nodeName="gpu-1", schedulerName="mine")
    assert found.key == PodKey("ml", "a", "uid-a")
    assert found.created == 1767323045.0
    assert (found.priority, found.node_name, found.scheduler_name) == (3, "gpu-1", "mine")
    assert not found.terminating


def test_requests_add_up_over_containers() -> None:
    found = pod(containers=[container(mig_1g="1", cpu="500m"), container(mig_1g="2", cpu="0.25", memory="1Gi")])
    assert found.requests == {MIG: 3, "cpu": 750, "memory": 1024**3}
    assert found.demand == ((MIG, 3),)


def test_init_steps_count_by_the_largest_and_sidecars_beside_everything() -> None:
    found = pod(
        initContainers=[container(mig_1g="1", restart_policy="Always"), container(mig_1g="4")],
        containers=[container(mig_1g="2")],
    )
    assert found.requests == {MIG: 5}


def test_overhead_is_added_and_pod_level_resources_stand_for_the_sum() -> None:
    found = pod(
        containers=[container(mig_1g="1", cpu="1", memory="1Gi")],
        resources={"requests": {"cpu": "4", "hugepages-2Mi": "2Mi", MIG: "9"}},
        overhead={"cpu": "250m"},
    )
    assert found.requests == {MIG: 1, "cpu": 4250, "memory": 1024**3, "hugepages-2Mi": 2 * 1024**2}


def test_where_a_pod_may_run_is_read_whole() -> None:
    terms = [
        {
            "matchExpressions": [
                {"key": "gpu", "operator": "In", "values": ["h100", "a100"]},
                {"key": "old", "operator": "DoesNotExist"},
            ],
            "matchFields": [{"key": "metadata.name", "operator": "In", "values": ["gpu-1"]}],
        },
        {},
    ]
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}
    found = pod(
        nodeSelector={"b": "2", "a": "1"},
        affinity={"nodeAffinity": required},
        tolerations=[{"operator": "Exists"}, {"key": "k", "value": "v", "effect": "NoSchedule"}],
    )
    assert found.node_selector == (("a", "1"), ("b", "2"))
    assert found.node_affinity == (
        SelectorTerm(
            (Requirement("gpu", "In", ("h100", "a100")), Requirement("old", "DoesNotExist")),
            (Requirement("metadata.name", "In", ("gpu-1",)),),
        ),
        SelectorTerm(),
    )
    assert found.tolerations == (Toleration(operator="Exists"), Toleration("k", "Equal", "v", "NoSchedule"))


def test_a_pod_without_required_terms_may_run_anywhere() -> None:
    assert pod().node_affinity is None
    assert (
        pod(affinity={"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}}).node_affinity is None
    )


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ({"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}, True),
        ({"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}, False),
        ({"type": "PodScheduled", "status": "True"}, False),
        ({"type": "Ready", "status": "False", "reason": "Unschedulable"}, False),
    ],
)
def test_only_the_schedulers_own_verdict_makes_a_pod_unschedulable(condition: Any, expected: bool) -> None:
    content = pod_json("a", status={"conditions": [condition]})
    assert pod_info(json.dumps(content).encode()).unschedulable is expected


def test_gates_nomination_deletion_and_phase_are_seen() -> None:
    content = pod_json("a", schedulingGates=[{"name": "g"}], status={"nominatedNodeName": "n2", "phase": "Failed"})
    content["metadata"]["deletionTimestamp"] = "2026-01-02T03:04:05Z"
    found = pod_info(json.dumps(content).encode())
    assert (found.gated, found.nominated_node, found.terminating, found.finished) == (True, "n2", True, True)


def test_device_ids_come_from_every_container_and_not_from_claims() -> None:
    def status(name: str, *ids: str) -> Any:
        health = [{"resourceID": one, "health": "Healthy"} for one in ids]
        return {"name": "c", "allocatedResourcesStatus": [{"name": name, "resources": health}]}

    content = pod_json(
        "a",
        status={
            "containerStatuses": [status(MIG, "MIG-2"), status("claim:x/y", "dra"), status(MIG, "MIG-1", "MIG-2")],
            "initContainerStatuses": [status("nvidia.com/gpu", "GPU-1"), {"name": "old"}],
        },
    )
    assert pod_info(json.dumps(content).encode()).devices == (
        ("nvidia.com/gpu", ("GPU-1",)),
        (MIG, ("MIG-1", "MIG-2")),
    )


def nulled(value: Any) -> Any:
    """The same, with every field null except the names that make it an object."""
    return {key: nulled(one) if key == "metadata" else one if key == "name" else None for key, one in value.items()}


def test_null_in_every_field_is_as_good_as_nothing() -> None:
    assert pod_info(json.dumps(nulled(pod_json("a"))).encode()) == PodInfo(PodKey("", "a"))
    assert node_info(json.dumps(nulled(node_json("n"))).encode()) == NodeInfo("n", ready=False)


def test_words_and_fields_nobody_knows_yet_are_passed_over() -> None:
    found = pod(tolerations=[{"key": "k", "operator": "Lt", "value": "3"}], inventedIn1_99={"deep": [1, None]})
    assert found.tolerations == (Toleration("k", "Lt", "3"),)


@pytest.mark.parametrize(
    "broken", [{"containers": "many"}, {"priority": "high"}, {"containers": [container(cpu="lots")]}]
)
def test_a_value_of_a_wrong_kind_is_refused(broken: Any) -> None:
    with pytest.raises((msgspec.ValidationError, ValueError)):
        pod(**broken)


def test_a_node_shows_its_labels_taints_and_what_it_offers() -> None:
    content = node_json(
        "n",
        taints=[{"key": "k", "effect": "NoSchedule"}, {"key": "l", "value": "v", "effect": "NoExecute"}],
        capacity={"cpu": "8", MIG: "7"},
        allocatable={"cpu": "7910m", "memory": "31Gi", MIG: "7"},
    )
    content["spec"]["unschedulable"] = True
    found = node_info(json.dumps(content).encode())
    assert (found.name, found.uid, found.ready, found.unschedulable) == ("n", "uid-n", True, True)
    assert found.labels == {"kubernetes.io/hostname": "n"}
    assert found.taints == (Taint("k", "", "NoSchedule"), Taint("l", "v", "NoExecute"))
    assert found.allocatable == {"cpu": 7910, "memory": 31 * 1024**3, MIG: 7}
    assert found.capacity == {"cpu": 8000, MIG: 7}


@pytest.mark.parametrize(("status", "ready"), [("True", True), ("False", False), ("Unknown", False)])
def test_only_a_node_that_says_so_is_ready(status: str, ready: bool) -> None:
    assert node(conditions=[{"type": "Ready", "status": status}]).ready is ready


def test_ports_of_the_node_are_those_of_containers_that_stay() -> None:
    def with_ports(restart_policy: str = "", **port: Any) -> Any:
        return {**container(restart_policy), "ports": [port]}

    found = pod(
        containers=[
            with_ports(containerPort=80, hostPort=8080, protocol="UDP", hostIP="10.0.0.1"),
            with_ports(containerPort=81),
        ],
        initContainers=[with_ports(hostPort=1), with_ports("Always", hostPort=2, hostIP="")],
    )
    assert found.host_ports == (HostPort(2), HostPort(8080, "UDP", "10.0.0.1"))


def test_a_pod_in_the_nodes_network_takes_its_ports_there() -> None:
    here = [{**container(), "ports": [{"containerPort": 80}, {"containerPort": 81, "hostPort": 81}]}]
    assert pod(hostNetwork=True, containers=here).host_ports == (HostPort(80), HostPort(81))


def test_claims_are_named_or_made_for_the_pod_alone() -> None:
    volumes = [
        {"name": "config", "configMap": {"name": "c"}},
        {"name": "data", "persistentVolumeClaim": {"claimName": "ml-data"}},
        {"name": "scratch", "ephemeral": {"volumeClaimTemplate": {"spec": {}}}},
        {"name": "odd", "persistentVolumeClaim": None, "ephemeral": None},
    ]
    found = pod(volumes=volumes)
    assert found.claims == ("ml-data", "a-scratch")
    assert found.own_claims == ("a-scratch",)


def test_what_pods_of_one_workload_have_in_common_is_kept_once() -> None:
    spec: Any = {"tolerations": [{"operator": "Exists"}], "nodeSelector": {"a": "1"}}
    first, second = (pod_info(json.dumps(pod_json(n, labels={"app": "x"}, **spec)).encode()) for n in "ab")
    for field in ("requests", "demand", "others", "tolerations", "node_selector", "labels"):
        assert getattr(first, field) is getattr(second, field), field


@pytest.mark.parametrize(
    "spec",
    [
        {"priority": 2**31},
        {"priority": -(2**40)},
        {"containers": [{"ports": [{"hostPort": 65536}]}]},
        {"containers": [{"ports": [{"hostPort": -1}]}]},
        {"topologySpreadConstraints": [{"maxSkew": 10**30}]},
    ],
)
def test_a_number_that_kubernetes_cannot_hold_is_no_pod(spec: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        pod(**spec)


@pytest.mark.parametrize(
    "spec",
    [
        {"containers": [container(mig_1g="-1"), container(mig_1g="5")]},
        {"initContainers": [container(mig_1g="-1")]},
        {"overhead": {"cpu": "-1m"}},
        {"resources": {"requests": {"memory": "-1"}}},
    ],
)
def test_a_request_below_zero_is_no_pod(spec: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="below zero"):
        pod(**spec)
