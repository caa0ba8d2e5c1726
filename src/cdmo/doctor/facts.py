"""What the doctor knows of a cluster, read at one moment. `read_at` is unix time in seconds.

What a cluster does not have (a CRD that is not installed) is simply empty. What could not be read is named in
`unread` with the reason, and is empty as well: checks that need it are not asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from cdmo.api.v1alpha1 import MigNode


class Source(StrEnum):
    """What is read, by the plural that `kubectl get` takes."""

    VERSION = "version"
    NODES = "nodes"
    MIG_NODES = "mignodes"
    DAEMON_SETS = "daemonsets"
    DEPLOYMENTS = "deployments"
    CONFIG_MAPS = "configmaps"
    CLUSTER_POLICIES = "clusterpolicies"
    GPU_CLUSTERS = "gpuclusters"
    POLICIES = "validatingadmissionpolicies"
    BINDINGS = "validatingadmissionpolicybindings"
    DEVICE_CLASSES = "deviceclasses"
    DEFINITIONS = "customresourcedefinitions"
    ACCESS = "subjectaccessreviews"


@dataclass(frozen=True, slots=True)
class NodeFact:
    """A Node."""

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Container:
    """A container of a pod template, with the variables that are given a value there."""

    name: str
    image: str
    env: Mapping[str, str] = field(default_factory=dict)

    @property
    def image_name(self) -> str:
        """The image without registry, tag and digest."""
        return self._last.partition(":")[0]

    @property
    def tag(self) -> str:
        """The image's tag, or empty."""
        return self._last.partition(":")[2]

    @property
    def _last(self) -> str:
        return self.image.partition("@")[0].rpartition("/")[2]


@dataclass(frozen=True, slots=True)
class Workload:
    """A DaemonSet or a Deployment."""

    kind: str
    namespace: str
    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    containers: tuple[Container, ...] = ()
    service_account: str = ""
    wanted: int = 0  # pods
    ready: int = 0

    def __str__(self) -> str:
        return f"{self.kind}/{self.namespace}/{self.name}"

    def env(self, name: str) -> str:
        """The variable's value in the first container that has it, or empty."""
        return next((each.env[name] for each in self.containers if name in each.env), "")


@dataclass(frozen=True, slots=True)
class ClusterPolicy:
    """The gpu-operator's configuration. None: the field is not set, so that the operator's default holds."""

    name: str
    state: str = ""
    mig_manager: bool | None = None
    mig_strategy: str = ""
    cdi: bool | None = None
    nri: bool | None = None
    plugin_config: str = ""  # name of the ConfigMap
    plugin_default: str = ""  # key of the ConfigMap for Nodes without a label


@dataclass(frozen=True, slots=True)
class PluginConfig:
    """One configuration file of the device plugin: what it says on MIG and sharing."""

    mig_strategy: str = ""
    mps: tuple[str, ...] = ()  # resources shared by MPS
    time_slicing: tuple[str, ...] = ()  # resources shared by turns
    readable: bool = True


@dataclass(frozen=True, slots=True)
class ConfigMap:
    """A ConfigMap that the device plugin is configured from."""

    namespace: str
    name: str
    configs: Mapping[str, PluginConfig] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"ConfigMap/{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Policy:
    """A ValidatingAdmissionPolicy."""

    name: str
    failure_policy: str = "Fail"
    seen: bool = True  # whether the API server has looked at its latest content
    warnings: tuple[str, ...] = ()  # of the type check


@dataclass(frozen=True, slots=True)
class PolicyBinding:
    """A ValidatingAdmissionPolicyBinding."""

    name: str
    policy: str
    actions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DeviceClass:
    """A DeviceClass of dynamic resource allocation."""

    name: str
    extended_resource: str = ""


@dataclass(frozen=True, slots=True)
class Definition:
    """A CustomResourceDefinition."""

    name: str  # PLURAL.GROUP
    served: tuple[str, ...] = ()
    established: bool = True


@dataclass(frozen=True, slots=True)
class Right:
    """Whether somebody may do something: the answer of a SubjectAccessReview."""

    account: str  # NAMESPACE/NAME of a service account
    verb: str
    resource: str  # PLURAL[/SUBRESOURCE][.GROUP], as `kubectl auth can-i` takes it
    allowed: bool


@dataclass(frozen=True, slots=True)
class ClusterFacts:
    """Everything that was read."""

    read_at: float
    version: str = ""  # of the API server: v1.34.2+k3s1
    nodes: tuple[NodeFact, ...] = ()
    mig_nodes: tuple[MigNode, ...] = ()
    daemon_sets: tuple[Workload, ...] = ()
    deployments: tuple[Workload, ...] = ()
    config_maps: tuple[ConfigMap, ...] = ()
    cluster_policies: tuple[ClusterPolicy, ...] = ()
    gpu_clusters: tuple[str, ...] = ()
    policies: tuple[Policy, ...] = ()
    bindings: tuple[PolicyBinding, ...] = ()
    device_classes: tuple[DeviceClass, ...] = ()
    definitions: tuple[Definition, ...] = ()
    rights: tuple[Right, ...] = ()
    unread: Mapping[Source, str] = field(default_factory=dict)
