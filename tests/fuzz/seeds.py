"""Sound objects to begin with, with as many fields in use as CDMO reads."""

from __future__ import annotations

from functools import cache

import msgspec

from tests.builders import a30, h100, node, rtx_pro_6000
from tests.controller.bench import mignode_of
from tests.fuzz.mutate import Json
from tests.kube.files import asking, gpu_node, listed, mignode, priority_class, sketched, waiting
from tests.kube.objects import container, node_json, pod_json

_SELECTOR = {"matchLabels": {"app": "train"}, "matchExpressions": [{"key": "a", "operator": "In", "values": ["b"]}]}
_TERMS = [{"matchExpressions": [{"key": "zone", "operator": "Gt", "values": ["1"]}], "matchFields": []}]
_NEIGHBOURS = [
    {
        "labelSelector": _SELECTOR,
        "topologyKey": "kubernetes.io/hostname",
        "namespaces": ["ml"],
        "matchLabelKeys": ["app"],
    }
]
_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"


def pods() -> list[Json]:
    """A pod that waits with every rule there is, one that holds a slice, one as written by hand."""
    rules = {
        "priority": 5,
        "nodeSelector": {"disk": "fast"},
        "tolerations": [{"key": "gpu", "operator": "Equal", "value": "x", "effect": "NoSchedule"}],
        "affinity": {
            "nodeAffinity": {_REQUIRED: {"nodeSelectorTerms": _TERMS}},
            "podAffinity": {_REQUIRED: _NEIGHBOURS},
            "podAntiAffinity": {_REQUIRED: _NEIGHBOURS},
        },
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": "zone",
                "whenUnsatisfiable": "DoNotSchedule",
                "labelSelector": _SELECTOR,
                "minDomains": 2,
                "nodeTaintsPolicy": "Honor",
            }
        ],
        "volumes": [
            {"name": "data", "persistentVolumeClaim": {"claimName": "data"}},
            {"name": "tmp", "ephemeral": {"volumeClaimTemplate": {}}},
        ],
        "initContainers": [container("Always", cpu="500m"), container(mig_1g="1")],
        "overhead": {"cpu": "100m"},
        "resources": {"requests": {"memory": "1Gi"}},
        "schedulingGates": [],
    }
    held = {"name": "nvidia.com/mig-1g.10gb", "resources": [{"resourceID": "MIG-gpu-1-0-19-0", "health": "Healthy"}]}
    status = {"phase": "Running", "containerStatuses": [{"allocatedResourcesStatus": [held]}]}
    ported = {**container(mig_1g="1"), "ports": [{"containerPort": 80, "hostPort": 80, "protocol": "TCP"}]}
    return [
        waiting("train", **rules),
        waiting("plain", "1g.10gb"),
        {**waiting("many"), "spec": {"containers": asking("2g.20gb", 3)}},
        pod_json("old", status=status, nodeName="gpu-1", containers=[ported]),
        sketched("sketch", "1g.10gb", priorityClassName="high"),
    ]


def nodes() -> list[Json]:
    """A GPU node, one without MigNode whose label says what is in it, and one of others."""
    tainted = node_json("web-1", taints=[{"key": "a", "value": "b", "effect": "NoSchedule"}])
    labels = {"nvidia.com/gpu.product": "NVIDIA-A30", "nvidia.com/gpu.count": "2"}
    return [gpu_node(), gpu_node("gpu-3", **labels), tainted]


@cache
def _mignodes() -> tuple[bytes, ...]:
    views = [
        node(
            "gpu-1", [h100({"1g.10gb@0": "ml/old", "3g.40gb@4": "ml/other"}, ["1g.10gb@0", "3g.40gb@4", "2g.20gb@2"])]
        ),
        node("gpu-2", [a30({"1g.6gb@0": "ml/a"}), rtx_pro_6000()]),
    ]
    return tuple(msgspec.json.encode(mignode_of(each)) for each in views)


def mignodes() -> list[Json]:
    """MigNodes of three cards; spec and status in use."""
    made: list[Json] = [msgspec.json.decode(each) for each in _mignodes()]
    made[0]["spec"]["gpus"][0]["withheld"] = [made[0]["spec"]["gpus"][0]["layout"][0]]
    made[0]["status"]["conditions"] = [{"type": "Ready", "status": "False", "reason": "ChangeFailed", "message": "m"}]
    return [*made, mignode()]


def _storage(kind: str, group: str = "", **parts: Json) -> Json:
    return {
        "apiVersion": f"{group}v1",
        "kind": kind,
        "metadata": {"name": "data", "uid": "u", "annotations": {}},
        **parts,
    }


def claims() -> list[Json]:
    """PersistentVolumeClaims."""
    bound = {
        "namespace": "ml",
        "name": "data",
        "annotations": {"pv.kubernetes.io/bind-completed": "yes", "volume.kubernetes.io/selected-node": "gpu-1"},
        "ownerReferences": [{"uid": "uid-train", "controller": True}],
    }
    spec = {
        "storageClassName": "fast",
        "volumeName": "data",
        "accessModes": ["ReadWriteOncePod"],
        "volumeMode": "Block",
        "resources": {"requests": {"storage": "10Gi"}},
        "selector": _SELECTOR,
    }
    return [_storage("PersistentVolumeClaim", metadata=bound, spec=spec, status={"phase": "Bound"})]


def volumes() -> list[Json]:
    """PersistentVolumes."""
    spec = {
        "storageClassName": "fast",
        "claimRef": {"namespace": "ml", "name": "data", "uid": "u"},
        "accessModes": ["ReadWriteOnce"],
        "capacity": {"storage": "10Gi"},
        "nodeAffinity": {"required": {"nodeSelectorTerms": _TERMS}},
    }
    return [_storage("PersistentVolume", spec=spec, status={"phase": "Available"})]


def classes() -> list[Json]:
    """StorageClasses."""
    topology = [{"matchLabelExpressions": [{"key": "zone", "values": ["a", "b"]}]}]
    rest = {"provisioner": "csi.example", "volumeBindingMode": "WaitForFirstConsumer", "allowedTopologies": topology}
    return [_storage("StorageClass", "storage.k8s.io/", **rest)]


def namespaces() -> list[Json]:
    """Namespaces."""
    return [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "ml", "labels": {"team": "ml"}}}]


def clusters() -> list[Json]:
    """Whole clusters as kubectl prints them."""
    everything = [
        *nodes(),
        *mignodes(),
        *pods(),
        *claims(),
        *volumes(),
        *classes(),
        *namespaces(),
        priority_class("high", 5),
    ]
    small = [gpu_node(), mignode(), waiting("train"), sketched("b", "1g.10gb")]
    return [listed(everything), listed(small), listed(small), waiting("alone")]
