"""Faults to plant in a healthy cluster, each with the check that has to find it, how bad it is, and where."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cdmo.doctor import Source, Status
from tests.doctor.recorded import AGENT, CONTROLLER, EXPORTER, PLUGIN, TOOLKIT, Recorded, metadata, workload

Plant = Callable[[Recorded], None]
ERROR, WARNING = Status.ERROR, Status.WARNING


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong."""

    name: str
    check: str
    plant: Plant
    status: Status = ERROR
    about: str = ""  # the end of the finding's object


def label(name: str, value: str, node: str = "gpu-1") -> Plant:
    """A label on a Node."""
    return lambda it: it.get(Source.NODES, node)["metadata"]["labels"].update({name: value})


def gone(source: Source, name: str) -> Plant:
    """An object that is not there."""

    def plant(it: Recorded) -> None:
        del it.objects[source][name]

    return plant


def added(source: Source, name: str, spec: dict[str, Any] | None = None) -> Plant:
    """An object too many."""
    return lambda it: it.put(source, {**metadata(name), "spec": spec or {}})


def runs(name: str, image: str, **env: str) -> Plant:
    """A DaemonSet too many."""
    return lambda it: it.put(Source.DAEMON_SETS, workload(name, "elsewhere", image, dict(env)))


def spec(source: Source, name: str, **fields: Any) -> Plant:
    """Other fields in a spec."""
    return lambda it: it.get(source, name)["spec"].update(fields)


def status(source: Source, name: str, **fields: Any) -> Plant:
    """Other fields in a status."""
    return lambda it: it.get(source, name)["status"].update(fields)


def agent(**fields: str) -> Plant:
    """Other words of the agent of gpu-1."""
    return lambda it: it.get(Source.MIG_NODES, "gpu-1")["status"]["agent"].update(fields)


def modes(*words: str) -> Plant:
    """The MIG modes of the GPUs of gpu-1."""

    def plant(it: Recorded) -> None:
        gpus = it.get(Source.MIG_NODES, "gpu-1")["status"]["gpus"]
        for gpu, word in zip(gpus, words, strict=True):
            gpu["migMode"] = word

    return plant


def product(name: str, driver: str, *words: str) -> Plant:
    """Another card, driver and modes in gpu-1."""

    def plant(it: Recorded) -> None:
        it.get(Source.MIG_NODES, "gpu-1")["status"]["models"][0]["product"] = name
        agent(driver=driver)(it)
        modes(*(words or ("Enabled", "Enabled")))(it)

    return plant


def environment(daemon_set: str, **env: str | None) -> Plant:
    """Other variables of a DaemonSet."""

    def plant(it: Recorded) -> None:
        for name, value in env.items():
            it.env(daemon_set, name, value)

    return plant


def plugin_file(text: str, *, default: str = "", label_value: str = "", by_variable: str | None = None) -> Plant:
    """The device plugin goes by a file."""

    def plant(it: Recorded) -> None:
        config = {"config": {"name": "plugin-configs", "default": default}}
        mig = {"strategy": by_variable or ""}  # the operator sets MIG_STRATEGY from it, if it says anything
        spec(Source.CLUSTER_POLICIES, "cluster-policy", devicePlugin=config, mig=mig)(it)
        good = "version: v1\nflags: {migStrategy: mixed}\n"
        it.put(Source.CONFIG_MAPS, {**metadata("plugin-configs", "gpu-operator"), "data": {"mig": good, "odd": text}})
        for name in (PLUGIN, "gpu-feature-discovery"):
            it.env(name, "MIG_STRATEGY", by_variable)
        label("nvidia.com/device-plugin.config", "mig", "gpu-2")(it)
        if label_value:
            label("nvidia.com/device-plugin.config", label_value)(it)

    return plant


def both(*plants: Plant) -> Plant:
    """Several at once."""

    def plant(it: Recorded) -> None:
        for each in plants:
            each(it)

    return plant


def old_kubernetes(it: Recorded) -> None:
    it.version = "v1.29.4"
    it.objects.pop(Source.POLICIES)
    it.objects.pop(Source.BINDINGS)


def denied(account: str, resource: str) -> Plant:
    """A right that is missing."""
    return lambda it: it.denied.add((account, resource))


PENDING = {"type": "Ready", "status": "False", "reason": "DriverHung", "message": "a call of the driver hangs"}
OPERATOR = "cluster-policy"
IMAGES = "nvcr.io/nvidia"

OF_CDMO = (
    Fault("an old Kubernetes", "kubernetes", old_kubernetes),
    Fault("no CRD", "crd", gone(Source.DEFINITIONS, "mignodes.cdmo.clear.ml")),
    Fault("a CRD of another version", "crd", spec(Source.DEFINITIONS, "mignodes.cdmo.clear.ml", versions=[])),
    Fault(
        "a CRD that is not established", "crd", status(Source.DEFINITIONS, "mignodes.cdmo.clear.ml", conditions=[])
    ),
    Fault("no fence", "admission-policies", gone(Source.POLICIES, "cdmo-fence"), about="cdmo-fence"),
    Fault("no binding", "admission-policies", gone(Source.BINDINGS, "cdmo-agent"), about="cdmo-agent"),
    Fault(
        "a binding that only warns",
        "admission-policies",
        spec(Source.BINDINGS, "cdmo-fence", validationActions=["Warn"]),
    ),
    Fault(
        "a policy that fails open", "admission-policies", spec(Source.POLICIES, "cdmo-agent", failurePolicy="Ignore")
    ),
    Fault(
        "a policy that does not fit",
        "admission-policies",
        status(
            Source.POLICIES,
            "cdmo-probe",
            typeChecking={"expressionWarnings": [{"fieldRef": "spec.x", "warning": "no such field"}]},
        ),
    ),
    Fault(
        "a policy not looked at",
        "admission-policies",
        status(Source.POLICIES, "cdmo-fence", observedGeneration=0),
        WARNING,
    ),
    Fault("no controller", "controller", gone(Source.DEPLOYMENTS, CONTROLLER)),
    Fault("a controller without pods", "controller", status(Source.DEPLOYMENTS, CONTROLLER, readyReplicas=None)),
    Fault("no agents", "agents", gone(Source.DAEMON_SETS, AGENT)),
    Fault("a Node without MigNode", "agents", gone(Source.MIG_NODES, "gpu-2"), about="gpu-2"),
    Fault("a silent agent", "agents", agent(heartbeat="2026-09-21T14:12:20Z"), about="gpu-1"),
    Fault("a heartbeat of nonsense", "agents", agent(heartbeat="soon")),
    Fault("an agent in trouble", "agents", status(Source.MIG_NODES, "gpu-1", conditions=[PENDING])),
    Fault("an old agent", "versions", agent(version="0.0.9"), WARNING),
    Fault(
        "an old controller",
        "versions",
        lambda it: it.get(Source.DEPLOYMENTS, CONTROLLER)["metadata"]["labels"].update(
            {"app.kubernetes.io/version": "0.0.9"}
        ),
        WARNING,
    ),
    Fault("an agent without a right", "permissions", denied("cdmo/cdmo-agent", "pods/binding"), about="cdmo-agent"),
    Fault("a controller without a right", "permissions", denied("cdmo/cdmo-controller", "events.events.k8s.io")),
)
OF_NODES = (
    Fault(
        "a label of another value", "label", label("cdmo.clear.ml/gpu-partitioning", "MIG", "web-1"), about="web-1"
    ),
    Fault("MIG off", "mig-mode", both(modes("Disabled", "Disabled"), gone(Source.DAEMON_SETS, EXPORTER))),
    Fault("no MIG card", "mig-mode", modes("Unsupported", "Unsupported")),
    Fault("no GPU", "mig-mode", status(Source.MIG_NODES, "gpu-1", gpus=[])),
    Fault(
        "a pending mode",
        "mig-mode",
        both(modes("EnablePending", "Enabled"), gone(Source.DAEMON_SETS, EXPORTER)),
        WARNING,
    ),
    Fault("an old driver", "driver", product("NVIDIA H200", "535.104.05")),
    Fault("an old driver for Blackwell", "driver", product("NVIDIA GB200", "565.57.01")),
    Fault("a driver that hangs", "driver", product("NVIDIA H100", "570.148.08", "Enabled", "Disabled")),
    Fault("a node for virtual machines", "node-labels", label("nvidia.com/gpu.workload.config", "vm-passthrough")),
    Fault("a node without plugin", "node-labels", label("nvidia.com/gpu.deploy.device-plugin", "false")),
    Fault("a paused part", "node-labels", label("nvidia.com/gpu.deploy.dcgm", "paused-for-mig-change"), WARNING),
    Fault("a leftover layout", "node-labels", label("nvidia.com/mig.config", "all-1g.10gb"), WARNING),
)
OF_NVIDIA = (
    Fault("no device plugin", "gpu-stack", gone(Source.DAEMON_SETS, PLUGIN)),
    Fault("two device plugins", "gpu-stack", both(runs("nvidia-device-plugin", "k8s-device-plugin:v0.20.0",
          MIG_STRATEGY="mixed", DEVICE_LIST_STRATEGY="volume-mounts", PASS_DEVICE_SPECS="true"))),
    Fault("a GPUCluster", "gpu-stack", added(Source.GPU_CLUSTERS, "gpus")),
    Fault("a stack that is not ready", "gpu-stack",
          status(Source.CLUSTER_POLICIES, OPERATOR, state="notReady"), WARNING),
    Fault("migManager on", "mig-manager", spec(Source.CLUSTER_POLICIES, OPERATOR, migManager={"enabled": True})),
    Fault("migManager by default", "mig-manager", spec(Source.CLUSTER_POLICIES, OPERATOR, migManager=None)),
    Fault("a MIG manager of its own", "mig-manager", runs("mig-manager", f"{IMAGES}/k8s-mig-manager:v0.15.0")),
    Fault("strategy single", "mig-strategy", spec(Source.CLUSTER_POLICIES, OPERATOR, mig={"strategy": "single"})),
    Fault("a plugin with single", "mig-strategy", environment(PLUGIN, MIG_STRATEGY="single"), about=PLUGIN),
    Fault(
        "discovery with single", "mig-strategy", environment("gpu-feature-discovery", MIG_STRATEGY="single"), WARNING
    ),
    Fault("devices by index", "device-ids", environment(PLUGIN, DEVICE_ID_STRATEGY="index")),
    Fault("no device specs", "device-ids", environment(PLUGIN, PASS_DEVICE_SPECS="false"), WARNING),
    Fault("a plugin of 0.15", "plugin-version", lambda it: it.image(PLUGIN, "x/k8s-device-plugin:v0.15.0")),
    Fault("a plugin of 0.19.3", "plugin-version",
          lambda it: it.image(PLUGIN, "x/k8s-device-plugin:v0.19.3"), WARNING),
    Fault("the list in a variable", "device-list", both(environment(PLUGIN, DEVICE_LIST_STRATEGY="envvar"),
          environment(TOOLKIT, ACCEPT_NVIDIA_VISIBLE_DEVICES_ENVVAR_WHEN_UNPRIVILEGED="true")), WARNING),
    Fault("mounts that are not read", "toolkit",
          environment(TOOLKIT, ACCEPT_NVIDIA_VISIBLE_DEVICES_AS_VOLUME_MOUNTS=None)),
    Fault("GPUs for the asking", "toolkit",
          environment(TOOLKIT, ACCEPT_NVIDIA_VISIBLE_DEVICES_ENVVAR_WHEN_UNPRIVILEGED=None), WARNING),
    Fault("CDI by default", "cdi", environment(TOOLKIT, NVIDIA_CONTAINER_RUNTIME_MODE="cdi"), about=OPERATOR),
    Fault("a runtime that is not the default", "cdi", environment(TOOLKIT, NVIDIA_RUNTIME_SET_AS_DEFAULT="false")),
    Fault("NRI", "cdi", spec(Source.CLUSTER_POLICIES, OPERATOR, cdi={"enabled": True, "nriPluginEnabled": True})),
    Fault("CDI that is off", "cdi",
          environment(PLUGIN, DEVICE_LIST_STRATEGY="cdi-annotations,cdi-cri"), about=PLUGIN),
)  # fmt: skip
OF_PLUGIN_FILES = (
    Fault("left at all-disabled", "plugin-config",
          plugin_file("flags: {migStrategy: none}", default="mig", label_value="odd"), about="gpu-1"),
    Fault("the default advertises nothing", "plugin-config",
          plugin_file("flags: {migStrategy: none}", default="odd")),
    Fault("file and variable differ", "plugin-config",
          plugin_file("flags: {migStrategy: none}", default="odd", by_variable="mixed"), WARNING),
    Fault("a label of no file", "plugin-config", plugin_file("", default="mig", label_value="nothing")),
    Fault("neither label nor default", "plugin-config", plugin_file("")),
    Fault("a file that says nothing", "plugin-config", plugin_file("version: v1", default="odd")),
    Fault("a broken file", "plugin-config", plugin_file("flags: [", default="odd")),
    Fault("MPS", "plugin-config",
          plugin_file(
          "flags: {migStrategy: mixed}\nsharing: {mps: {resources: [{name: nvidia.com/gpu}]}}", default="odd")),
    Fault("slices shared by turns", "plugin-config", plugin_file(
          "flags: {migStrategy: mixed}\nsharing: {timeSlicing: {resources: [{name: nvidia.com/mig-1g.10gb}]}}",
          default="odd"), WARNING),
    Fault("a ConfigMap that is gone", "plugin-config",
          spec(Source.CLUSTER_POLICIES, OPERATOR, devicePlugin={"config": {"name": "nowhere"}})),
)  # fmt: skip
OF_OTHERS = (
    Fault("nos", "other-managers", runs("nos-mig-agent", "ghcr.io/nebuly-ai/nos-mig-agent:0.1")),
    Fault("a label of nos", "other-managers", label("nos.nebuly.com/gpu-partitioning", "mig")),
    Fault("a CRD of DAS", "other-managers", added(Source.DEFINITIONS, "dasoperators.inference.redhat.com"), WARNING),
    Fault("InstaSlice", "other-managers", runs("instaslice", "quay.io/amalvank/instaslice-daemonset:v1")),
    Fault("HAMi", "other-managers", runs("hami-device-plugin", "projecthami/hami:v2.10")),
    Fault("DRA that cuts", "other-managers", runs("kubelet-plugin", f"{IMAGES}/k8s-dra-driver-gpu:v26.4",
          FEATURE_GATES="DynamicMIG=true,MPSSupport=true")),
    Fault("slices by DRA", "device-classes",
          added(Source.DEVICE_CLASSES, "mig", {"extendedResourceName": "nvidia.com/mig-1g.10gb"})),
    Fault("GPUs by DRA", "device-classes",
          added(Source.DEVICE_CLASSES, "gpu.nvidia.com", {"extendedResourceName": "nvidia.com/gpu"})),
)  # fmt: skip
FAULTS = (*OF_CDMO, *OF_NODES, *OF_NVIDIA, *OF_PLUGIN_FILES, *OF_OTHERS)
