"""From files to the question a plan answers: what is taken over, what is filled in, what a later file changes."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cdmo.kube.objects import Reading
from cdmo.model.cluster import PodInfo
from cdmo.model.gpu import MigMode, PodKey
from cdmo.model.names import PARTITIONING_LABEL
from tests.builders import BUS, NOW, a30, at, h100
from tests.kube.files import (
    LABELS,
    RECORDED,
    cluster,
    gpu_node,
    listed,
    mignode,
    priority_class,
    read,
    read_paths,
    sketched,
    waiting,
)
from tests.kube.objects import Json, node_json, pod_json


def pending(reading: Reading) -> list[str]:
    return [str(each.key) for each in reading.snapshot.pending]


def only(reading: Reading) -> PodInfo:
    assert reading.problems == ()
    (pod,) = reading.snapshot.pending
    return pod


def test_what_kubectl_prints_of_a_cluster_is_the_cluster() -> None:
    reading = read_paths(RECORDED / "cluster.json")
    assert (reading.problems, reading.notes) == ((), ())
    views = reading.snapshot.nodes
    assert [(each.node.name, len(each.gpus), each.managed, each.alive, each.problem) for each in views] == [
        ("gpu-1", 2, True, True, ""),
        ("gpu-2", 1, True, True, ""),
    ]
    assert [[pod.key.name for pod in each.pods] for each in views] == [["notebook", "train-large"], ["serve"]]
    held = {str(each.pod): each.placement for each in views[0].gpus[0].slices if each.pod}
    assert held == {"default/notebook": at("1g.10gb@6"), "default/train-large": at("4g.40gb@0")}
    assert [(each.key.name, each.priority) for each in reading.snapshot.pending] == [
        ("pair", 0),
        ("train-1", 0),
        ("train-2", 0),
        ("urgent", 1000),
        ("whole", 0),
    ]


def test_json_and_yaml_of_one_cluster_are_the_same() -> None:
    assert read_paths(RECORDED / "cluster.yaml") == read_paths(RECORDED / "cluster.json")


def test_the_order_of_objects_changes_nothing(tmp_path: Path) -> None:
    whole = json.loads((RECORDED / "cluster.json").read_text())
    items = [*whole["items"], sketched("b"), sketched("a"), gpu_node("gpu-9"), priority_class("low", 1)]
    expected = read(tmp_path, items)
    assert expected.problems
    for seed in range(8):
        random.Random(seed).shuffle(items)
        assert read(tmp_path, items) == expected


def test_standard_input_is_one_of_the_files(tmp_path: Path) -> None:
    file = tmp_path / "cluster.json"
    file.write_text(json.dumps(listed(cluster())))
    assert pending(read_paths("-", file, stdin=json.dumps(waiting("train")).encode())) == ["ml/train"]


# --- which pods wait ----------------------------------------------------------------------------------------


def condition(status: str, reason: str = "") -> Json:
    return {"conditions": [{"type": "PodScheduled", "status": status, "reason": reason}]}


@pytest.mark.parametrize(
    "pod",
    [
        waiting("train"),
        sketched("train"),
        {**sketched("train"), "status": {"phase": "Pending"}},
        {**sketched("train"), "status": condition("False", "SchedulingGated")},
        {**sketched("train"), "status": {"phase": "Running", **condition("True")}},
    ],
    ids=["refused", "no-status", "not-yet-judged", "no-longer-gated", "taken-off-its-node"],
)
def test_a_pod_that_is_on_no_node_waits(tmp_path: Path, pod: Json) -> None:
    assert pending(read(tmp_path, cluster(pod))) == ["ml/train"]


def with_meta(pod: Json, **meta: Any) -> Json:
    return {**pod, "metadata": {**pod["metadata"], **meta}}


@pytest.mark.parametrize(
    "pod",
    [
        waiting("train", nodeName="gpu-1"),
        waiting("train", schedulingGates=[{"name": "wait"}]),
        waiting("train", schedulerName="volcano"),
        {**waiting("train"), "status": {"phase": "Succeeded"}},
        {**waiting("train"), "status": condition("False", "SchedulerError")},
        with_meta(waiting("train"), deletionTimestamp="2026-09-01T00:00:00Z"),
        pod_json("train", containers=[]),
    ],
    ids=["bound", "gated", "another-scheduler", "finished", "scheduler-failed", "terminating", "no-slices"],
)
def test_these_pods_do_not_wait(tmp_path: Path, pod: Json) -> None:
    reading = read(tmp_path, cluster(pod))
    assert (pending(reading), reading.problems) == ([], ())


# --- what the API server would have filled in ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "classes", "priority"),
    [
        ({}, [], 0),
        ({"priority": 7}, [priority_class("default", 3, default=True)], 7),
        ({"priority": 0, "priorityClassName": "high"}, [priority_class("high", 9)], 0),
        ({"priorityClassName": "high"}, [priority_class("high", 9)], 9),
        ({}, [priority_class("a", 5, default=True), priority_class("b", 4, default=True)], 4),
        ({"priorityClassName": "system-node-critical"}, [], 2_000_001_000),
    ],
    ids=["none", "its-own", "zero-is-one", "of-its-class", "the-lower-default", "built-in"],
)
def test_a_priority_is_the_pods_own_or_that_of_its_class_or_the_default(
    tmp_path: Path, spec: Json, classes: list[Json], priority: int
) -> None:
    assert only(read(tmp_path, cluster(sketched("train", **spec), *classes))).priority == priority


def test_an_unknown_priority_class_is_told_and_counts_as_zero(tmp_path: Path) -> None:
    reading = read(tmp_path, cluster(sketched("train", priorityClassName="none")))
    assert reading.problems == (
        "0.txt: Pod ml/train spec.priorityClassName: there is no PriorityClass none; priority 0 counts",
    )
    assert [each.priority for each in reading.snapshot.pending] == [0]


def test_a_pod_without_a_time_is_younger_than_all_others_and_a_later_files_is_younger_still(tmp_path: Path) -> None:
    pods = [sketched("a"), waiting("b", created="2026-09-02T00:00:00Z")]
    reading = read(tmp_path, cluster(*pods), [sketched("c")], sketched("d"))
    ages = sorted((each.created, each.key.name) for each in reading.snapshot.pending)
    assert [name for _, name in ages] == ["b", "a", "c", "d"]


def test_objects_without_a_namespace_are_in_default(tmp_path: Path) -> None:
    near = {
        "podAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": [
                {"topologyKey": "zone", "labelSelector": {"matchLabels": {"a": "b"}}}
            ]
        }
    }
    pod = sketched("train", affinity=near)
    del pod["metadata"]["namespace"]
    found = only(read(tmp_path, cluster(pod)))
    assert found.key == PodKey("default", "train", "")
    assert found.affinity == only(read(tmp_path, cluster(with_meta(pod, namespace="default")))).affinity


def test_what_a_sketched_pod_limits_it_requests(tmp_path: Path) -> None:
    def limited(name: str, **limits: str) -> Json:
        return {"name": name, "resources": {"limits": limits, "requests": {"cpu": "1"}}}

    mig = {"nvidia.com/mig-1g.10gb": "2"}
    pod = sketched("train", containers=[limited("a", **mig, cpu="4"), {"name": "b", "resources": {"limits": None}}])
    pod["spec"]["initContainers"] = [limited("c", memory="1Gi")]
    assert only(read(tmp_path, cluster(pod))).requests == {"cpu": 1000, "memory": 2**30, "nvidia.com/mig-1g.10gb": 2}


def test_a_node_that_says_nothing_of_its_readiness_is_ready(tmp_path: Path) -> None:
    silent, broken = gpu_node(), gpu_node("gpu-2")
    del silent["status"]["conditions"]
    broken["status"]["conditions"] = [{"type": "Ready", "status": "Unknown"}]
    nodes = read(tmp_path, [silent, broken, mignode(), mignode("gpu-2")]).snapshot.nodes
    assert [each.node.ready for each in nodes] == [True, False]


# --- a later file ---------------------------------------------------------------------------------------------


def test_an_object_of_a_later_file_takes_the_place_of_the_earlier_one(tmp_path: Path) -> None:
    moved = with_meta(waiting("train", "1g.10gb"), uid="another")
    reading = read(tmp_path, cluster(waiting("train"), waiting("rest")), moved, mignode("gpu-1", h100(), a30()))
    assert reading.problems == ()
    assert [(each.key.name, each.demand) for each in reading.snapshot.pending] == [
        ("rest", (("nvidia.com/mig-3g.40gb", 1),)),
        ("train", (("nvidia.com/mig-1g.10gb", 1),)),
    ]
    assert [len(each.gpus) for each in reading.snapshot.nodes] == [2]


def test_one_pod_name_in_two_namespaces_is_two_pods(tmp_path: Path) -> None:
    assert pending(read(tmp_path, cluster(sketched("a"), with_meta(sketched("a"), namespace="web")))) == [
        "ml/a",
        "web/a",
    ]


def test_a_node_and_its_mignode_may_be_made_up(tmp_path: Path) -> None:
    reading = read(tmp_path, cluster(), [gpu_node("gpu-2"), mignode("gpu-2", a30(slices={"1g.6gb@3": "ml/old"}))])
    assert reading.problems == ()
    assert [each.node.name for each in reading.snapshot.nodes] == ["gpu-1", "gpu-2"]


def test_a_labelled_node_without_a_mignode_is_made_up_from_its_labels(tmp_path: Path) -> None:
    labels = {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3", "nvidia.com/gpu.count": "2"}
    node = gpu_node("gpu-2", **labels)
    reading = read(tmp_path, cluster(node, waiting("old", nodeName="gpu-2")))
    assert reading.problems == ()
    view = reading.snapshot.nodes[1]
    assert (view.managed, view.models[0].product) == (True, "NVIDIA H100 80GB HBM3")
    assert [(each.mig_mode, each.slices) for each in view.gpus] == [(MigMode.ENABLED, ())] * 2
    assert len({each.pci_bus_id for each in view.gpus}) == 2
    assert [each.key.name for each in view.pods] == ["old"]


@pytest.mark.parametrize(
    ("labels", "allocatable", "complaint"),
    [
        ({}, {}, "there is no MigNode of this name; nothing is planned on it"),
        ({"nvidia.com/gpu.product": "NVIDIA-A30"}, {"nvidia.com/mig-1g.6gb": "4"}, "nothing is planned on it"),
        (
            {"nvidia.com/gpu.product": "NVIDIA-A3"},
            {},
            "nvidia.com/gpu.product 'NVIDIA-A3' is no card that CDMO knows",
        ),
        ({"nvidia.com/gpu.product": "NVIDIA-A30"}, {}, "nvidia.com/gpu.count '' is no number from 1 to 32"),
        ({"nvidia.com/gpu.product": "NVIDIA-A30", "nvidia.com/gpu.count": "99"}, {}, "'99' is no number from 1"),
    ],
    ids=["no-product", "it-has-slices", "unknown-product", "no-count", "too-many"],
)
def test_a_labelled_node_that_cannot_be_made_up_is_told(
    tmp_path: Path, labels: dict[str, str], allocatable: Json, complaint: str
) -> None:
    node = gpu_node("gpu-2", **labels)
    node["status"]["allocatable"] = {**node["status"]["allocatable"], **allocatable}
    reading = read(tmp_path, cluster(node))
    (problem,) = reading.problems
    assert problem.startswith("0.txt: Node gpu-2: it is labelled for CDMO, but")
    assert complaint in problem
    assert [each.node.name for each in reading.snapshot.others] == ["gpu-2"]


# --- what else is read, and what is not -----------------------------------------------------------------------


def test_nodes_that_are_not_cdmos_come_with_their_pods(tmp_path: Path) -> None:
    reading = read(tmp_path, cluster(node_json("plain"), pod_json("web", containers=[], nodeName="plain")))
    (host,) = reading.snapshot.others
    assert (host.node.name, [each.key.name for each in host.pods]) == ("plain", ["web"])


def test_a_node_without_the_label_is_not_managed_though_it_has_a_mignode(tmp_path: Path) -> None:
    node = gpu_node()
    del node["metadata"]["labels"][PARTITIONING_LABEL]
    reading = read(tmp_path, [node, mignode()])
    assert [each.managed for each in reading.snapshot.nodes] == [False]
    assert LABELS.keys() == {PARTITIONING_LABEL}


def test_layouts_that_were_asked_for_are_known(tmp_path: Path) -> None:
    (view,) = read(tmp_path, [gpu_node(), mignode("gpu-1", h100(desired=["3g.40gb@4"]))]).snapshot.nodes
    assert view.desired == {BUS[0]: (at("3g.40gb@4"),)}


def test_namespaces_have_their_labels_and_the_one_that_all_have(tmp_path: Path) -> None:
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "web", "labels": {"team": "a"}}}
    assert read(tmp_path, cluster(waiting("train"), namespace)).snapshot.namespaces == {
        "ml": {"kubernetes.io/metadata.name": "ml"},
        "web": {"team": "a"},
    }


def claimed(name: str) -> Json:
    return {**waiting(name, volumes=[{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}])}


CLAIM = {
    "apiVersion": "v1",
    "kind": "PersistentVolumeClaim",
    "metadata": {"name": "data", "namespace": "ml", "annotations": {"pv.kubernetes.io/bind-completed": "yes"}},
    "spec": {"volumeName": "disk"},
}
TERM = {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]}
VOLUME = {
    "apiVersion": "v1",
    "kind": "PersistentVolume",
    "metadata": {"name": "disk"},
    "spec": {"nodeAffinity": {"required": {"nodeSelectorTerms": [TERM]}}},
}


def test_claims_are_joined_with_their_volumes(tmp_path: Path) -> None:
    pod = only(read(tmp_path, cluster(claimed("train"), CLAIM, VOLUME)))
    assert (pod.problem, [each.claim for each in pod.volumes]) == ("", ["data"])
    lost = only(read(tmp_path, cluster(claimed("train"), CLAIM)))
    assert lost.problem == "the volume disk of its claim data is not there"


def test_without_any_claim_in_the_files_volumes_are_not_judged_and_that_is_noted(tmp_path: Path) -> None:
    reading = read(tmp_path, cluster(claimed("train")))
    assert only(reading).problem == ""
    assert reading.notes == (
        "1 waiting pods name PersistentVolumeClaims; the files hold none, so volumes were not looked at",
    )


def test_other_kinds_are_counted(tmp_path: Path) -> None:
    others = [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}}] * 2
    metrics = {"apiVersion": "metrics.k8s.io/v1", "kind": "Node", "metadata": {"name": "gpu-1"}}
    reading = read(tmp_path, cluster(*others, metrics))
    assert reading.notes == ("no plan looks at objects of these kinds: 2 ConfigMap, 1 Node",)
    assert reading.problems == ()


def test_files_are_read_as_of_their_latest_heartbeat_but_not_later_than_now(tmp_path: Path) -> None:
    beats = {"gpu-1": "2026-01-01T00:00:00Z", "gpu-2": "2026-01-01T00:00:05Z", "gpu-3": "2199-01-01T00:00:00Z"}
    made = {}
    for name, beat in beats.items():
        made[name] = [gpu_node(name), mignode(name)]
        made[name][1]["status"]["agent"]["heartbeat"] = beat
    assert read(tmp_path, made["gpu-1"] + made["gpu-2"]).snapshot.now == 1767225605.0
    assert read(tmp_path, made["gpu-1"] + made["gpu-3"]).snapshot.now == NOW
    made["gpu-1"][1]["status"]["agent"]["heartbeat"] = "yesterday"
    assert read(tmp_path, made["gpu-1"]).snapshot.now == NOW


def test_a_reading_says_nothing_of_the_terminal(tmp_path: Path) -> None:
    reading = read(tmp_path, {"kind": "Pod", "metadata": {"name": "\x1b[2J\nevil"}, "spec": 3})
    assert reading.problems == ("0.txt: Pod default/?[2J evil spec: expected object, got int; it is left out",)


def test_the_recorded_files_are_what_kubectl_prints() -> None:
    whole = msgspec.json.decode((RECORDED / "cluster.json").read_bytes())
    kinds = {each["kind"] for each in whole["items"]}
    assert (whole["kind"], kinds) == ("List", {"Node", "Pod", "MigNode", "PriorityClass"})
