"""Clusters as an API server would show them: a healthy one from a few words, for a test to plant faults in.

    cluster = recorded()                                  gpu-operator 26.7.0 with the values that we print
    cluster = recorded("25.3.4", values=guide.ON)
    cluster.env("nvidia-device-plugin-daemonset", "MIG_STRATEGY", "single")
    diagnose(cluster.facts())

The gpu-operator's part is what its controllers make of its manifests and values (assets/state-device-plugin,
state-container-toolkit, gpu-feature-discovery and state-dcgm-exporter; controllers/object_controls.go), at the
versions of VERSIONS.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
from msgspec.structs import replace as with_fields

from cdmo.api.v1alpha1 import AgentInfo
from cdmo.doctor.facts import ClusterFacts, Right, Source
from cdmo.doctor.rights import needs_of
from cdmo.gpu_operator import Wanted, chart_version, override
from cdmo.kube import doctor_objects as objects
from cdmo.kube.doctor_reader import CONFIG_MAP, KINDS
from cdmo.kube.mignode_api import mig_node
from cdmo.kube.yaml_values import yaml_documents
from cdmo.version import __version__
from tests.builders import Card, h100, node
from tests.controller.bench import mignode_of

Json = dict[str, Any]

# Chart of the gpu-operator -> its device plugin and its container toolkit.
VERSIONS = {
    "25.3.4": ("v0.17.4", "v1.17.8-ubuntu20.04"),
    "25.10.0": ("v0.18.0", "v1.18.0"),
    "26.3.3": ("v0.19.3", "v1.19.1"),
    "26.7.0": ("v0.20.0", "v1.20.0"),
}
PLUGIN, TOOLKIT = "nvidia-device-plugin-daemonset", "nvidia-container-toolkit-daemonset"
EXPORTER, AGENT, CONTROLLER = "nvidia-dcgm-exporter", "cdmo-agent", "cdmo-controller"
NOW = 1_790_000_000.0
BEAT = "2026-09-21T14:13:15Z"  # five seconds before NOW
DRIVER = "580.95.05"


def metadata(name: str, namespace: str = "", **more: Any) -> Json:
    """metadata of an object."""
    return {"metadata": {"name": name, "generation": 1, **({"namespace": namespace} if namespace else {}), **more}}


def workload(name: str, namespace: str, image: str, env: Json | None = None, **labels: str) -> Json:
    """A DaemonSet or Deployment with all of its two pods ready."""
    variables = [{"name": key, "value": value} for key, value in (env or {}).items()]
    variables.append({"name": "NODE_NAME", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}})
    pods = {"serviceAccountName": name, "containers": [{"name": name, "image": image, "env": variables}]}
    return {
        **metadata(name, namespace, labels={key.replace("_", "/"): value for key, value in labels.items()}),
        "spec": {"replicas": 2, "template": {"spec": pods}},
        "status": {"desiredNumberScheduled": 2, "numberReady": 2, "readyReplicas": 2},
    }


def gpu_operator(chart: str, values: Json) -> Iterator[tuple[Source, Json]]:
    """What the gpu-operator makes of its values."""
    new = chart_version(chart) >= chart_version("25.10")
    cdi = bool(values.get("cdi", {}).get("enabled", new))
    strategy = values.get("mig", {}).get("strategy", "single")
    plugin, toolkit = VERSIONS[chart]
    own = {part: {one["name"]: one["value"] for one in values.get(part, {}).get("env", [])} for part in values}
    images = "nvcr.io/nvidia"
    by_cdi = {"DEVICE_LIST_STRATEGY": "cdi-annotations,cdi-cri", "CDI_ENABLED": "true"} if cdi else {}
    env = {"PASS_DEVICE_SPECS": "true", "MIG_STRATEGY": strategy, **by_cdi, **own.get("devicePlugin", {})}
    yield Source.DAEMON_SETS, workload(PLUGIN, "gpu-operator", f"{images}/k8s-device-plugin:{plugin}", env)
    default = {
        "CDI_ENABLED": "true",
        "NVIDIA_RUNTIME_SET_AS_DEFAULT": "false",
        "NVIDIA_CONTAINER_RUNTIME_MODE": "cdi",
    }
    env = {"RUNTIME": "containerd", **(default if cdi else {}), **own.get("toolkit", {})}
    yield Source.DAEMON_SETS, workload(TOOLKIT, "gpu-operator", f"{images}/k8s/container-toolkit:{toolkit}", env)
    discovers = f"{images}/k8s-device-plugin:{plugin}"
    yield Source.DAEMON_SETS, workload("gpu-feature-discovery", "gpu-operator", discovers, {"MIG_STRATEGY": strategy})
    yield Source.DAEMON_SETS, workload(EXPORTER, "gpu-operator", f"{images}/k8s/dcgm-exporter:4.6.0")
    manager = values.get("migManager", {}).get("enabled", True)
    if manager:
        yield Source.DAEMON_SETS, workload("nvidia-mig-manager", "gpu-operator", f"{images}/k8s-mig-manager:v0.15.0")
    spec = {"migManager": {"enabled": manager}, "mig": {"strategy": strategy}, "cdi": {"enabled": cdi}}
    yield Source.CLUSTER_POLICIES, {**metadata("cluster-policy"), "spec": spec, "status": {"state": "ready"}}


def cdmo() -> Iterator[tuple[Source, Json]]:
    """CDMO's own parts, as its chart installs them."""
    labels = {"app.kubernetes.io_name": "cdmo", "app.kubernetes.io_version": __version__}
    part = "app.kubernetes.io_component"
    yield Source.DAEMON_SETS, workload(AGENT, "cdmo", "cdmo:dev", {}, **{**labels, part: "agent"})
    yield Source.DEPLOYMENTS, workload(CONTROLLER, "cdmo", "cdmo:dev", {}, **{**labels, part: "controller"})
    for name, failure in (
        ("cdmo-fence", "Ignore"),
        ("cdmo-probe", "Ignore"),
        ("cdmo-agent", "Fail"),
        ("cdmo-controller", "Fail"),
    ):
        status = {"observedGeneration": 1, "typeChecking": {}}
        yield Source.POLICIES, {**metadata(name), "spec": {"failurePolicy": failure}, "status": status}
        yield Source.BINDINGS, {**metadata(name), "spec": {"policyName": name, "validationActions": ["Deny"]}}
    established = {"conditions": [{"type": "Established", "status": "True"}]}
    versions = {"versions": [{"name": "v1alpha1", "served": True}]}
    yield Source.DEFINITIONS, {**metadata("mignodes.cdmo.clear.ml"), "spec": versions, "status": established}


def gpu_node(name: str, *cards: Card) -> Iterator[tuple[Source, Json]]:
    """A labelled Node and its MigNode."""
    view = node(name, list(cards))
    mignode = mignode_of(view)
    agent = AgentInfo(version=__version__, heartbeat=BEAT, driver=DRIVER)
    mignode = with_fields(mignode, status=with_fields(mignode.status, agent=agent))
    labels = {**view.node.labels, "nvidia.com/gpu.deploy.device-plugin": "true"}
    yield Source.NODES, metadata(name, labels=labels)
    yield Source.MIG_NODES, json.loads(msgspec.json.encode(mignode))


@dataclass
class Recorded:
    """Objects by kind and name, and what is not an object."""

    objects: dict[Source, dict[str, Json]]
    version: str = "v1.36.3"
    denied: set[tuple[str, str]] = field(default_factory=set)  # account and resource
    unread: dict[Source, str] = field(default_factory=dict)

    def get(self, source: Source, name: str) -> Json:
        """One object, to be changed in place."""
        return self.objects[source][name]

    def put(self, source: Source, found: Json) -> None:
        """Add an object, or replace one."""
        self.objects.setdefault(source, {})[found["metadata"]["name"]] = found

    def beat(self, heartbeat: str) -> None:
        """Let every agent have reported at this time (RFC 3339)."""
        for each in self.objects[Source.MIG_NODES].values():
            each["status"]["agent"]["heartbeat"] = heartbeat

    def env(self, daemon_set: str, name: str, value: str | None) -> None:
        """Set a variable of a DaemonSet, or take it away."""
        (container,) = self.get(Source.DAEMON_SETS, daemon_set)["spec"]["template"]["spec"]["containers"]
        rest = [each for each in container["env"] if each["name"] != name]
        container["env"] = rest if value is None else [*rest, {"name": name, "value": value}]

    def image(self, daemon_set: str, image: str) -> None:
        """Let a DaemonSet run another image."""
        self.get(Source.DAEMON_SETS, daemon_set)["spec"]["template"]["spec"]["containers"][0]["image"] = image

    def facts(self) -> ClusterFacts:
        """The facts, through the same decoders as those of a living cluster."""
        facts = ClusterFacts(
            NOW,
            self.version,
            self._read(Source.NODES, objects.node_fact),
            self._read(Source.MIG_NODES, mig_node),
            self._read(Source.DAEMON_SETS, objects.daemon_set),
            self._read(Source.DEPLOYMENTS, objects.deployment),
            self._read(Source.CONFIG_MAPS, objects.config_map),
            self._read(Source.CLUSTER_POLICIES, objects.cluster_policy),
            self._read(Source.GPU_CLUSTERS, objects.gpu_cluster),
            self._read(Source.POLICIES, objects.policy_fact),
            self._read(Source.BINDINGS, objects.binding_fact),
            self._read(Source.DEVICE_CLASSES, objects.device_class),
            self._read(Source.DEFINITIONS, objects.definition),
            unread=self.unread,
        )
        rights = (
            Right(account, need.verb, need.resource, (account, need.resource) not in self.denied)
            for workload, need in needs_of(facts)
            for account in (f"{workload.namespace}/{workload.service_account}",)
        )
        return replace(facts, rights=tuple(rights))

    def _read(self, source: Source, convert: Any) -> tuple[Any, ...]:
        if source in self.unread:
            return ()
        return tuple(convert(msgspec.Raw(json.dumps(each).encode())) for each in self._items(source))

    def _items(self, source: Source) -> list[Json]:
        return list(self.objects.get(source, {}).values())

    def paths(self) -> Iterator[tuple[str, Json]]:
        """Every object with its path under an API server's URL."""
        for source, found in self.objects.items():
            for each in found.values():
                kind = KINDS.get(source, CONFIG_MAP)
                yield kind.path(each["metadata"]["name"], each["metadata"].get("namespace", "")), deepcopy(each)


def recorded(chart: str = "26.7.0", values: str = "", *cards: Card) -> Recorded:
    """A healthy cluster with two GPU nodes. `values`: the override file of the gpu-operator, else ours."""
    (document,) = yaml_documents((values or override(Wanted())).encode())
    found = Recorded({})
    for source, each in (
        *gpu_operator(chart, document.value),
        *cdmo(),
        *gpu_node("gpu-1", *(cards or (h100({"3g.40gb@4": "ml/train"}), h100()))),
        *gpu_node("gpu-2", h100()),
        (Source.NODES, metadata("web-1", labels={"zone": "a"})),
    ):
        found.put(source, each)
    return found
