"""What several checks look for: the managed Nodes, the device plugin, the toolkit, version numbers."""

from __future__ import annotations

import re
from collections.abc import Iterator

from cdmo.api.v1alpha1 import MigNode
from cdmo.doctor.facts import ClusterFacts, NodeFact, Workload
from cdmo.model.names import PARTITIONING_LABEL, PARTITIONING_VALUE

PLUGIN_IMAGE = "k8s-device-plugin"
_PLUGIN_NAMES = ("nvidia-device-plugin-daemonset", "nvidia-device-plugin")
_TOOLKIT_NAME = "nvidia-container-toolkit-daemonset"
_DISCOVERY_NAME = "gpu-feature-discovery"
_NUMBERS = re.compile(r"v?([0-9]{1,6}(?:\.[0-9]{1,6}){1,3})")

Version = tuple[int, ...]


def version_in(text: str) -> Version | None:
    """The numbers that a version begins with: v0.19.3-ubi9 -> (0, 19, 3). None: it is none."""
    found = _NUMBERS.match(text)
    return tuple(map(int, found[1].split("."))) if found else None


def managed(facts: ClusterFacts) -> Iterator[NodeFact]:
    """Nodes with the administrator's label."""
    return (each for each in facts.nodes if each.labels.get(PARTITIONING_LABEL) == PARTITIONING_VALUE)


def reported(facts: ClusterFacts) -> Iterator[tuple[NodeFact, MigNode | None]]:
    """Nodes with the label, each with its MigNode if there is one."""
    found = {each.metadata.name: each for each in facts.mig_nodes}
    return ((node, found.get(node.name)) for node in managed(facts))


def plugins(facts: ClusterFacts) -> list[Workload]:
    """DaemonSets that run NVIDIA's device plugin; GPU feature discovery uses the same image under another name."""
    return [each for each in facts.daemon_sets if each.name in _PLUGIN_NAMES or _runs_plugin(each)]


def _runs_plugin(workload: Workload) -> bool:
    images = any(each.image_name == PLUGIN_IMAGE for each in workload.containers)
    return images and "device-plugin" in workload.name and "mps" not in workload.name


def toolkit(facts: ClusterFacts) -> Workload | None:
    """The gpu-operator's container toolkit; None where the host brings its own."""
    return next((each for each in facts.daemon_sets if each.name == _TOOLKIT_NAME), None)


def discovery(facts: ClusterFacts) -> Workload | None:
    """GPU feature discovery."""
    return next((each for each in facts.daemon_sets if each.name.endswith(_DISCOVERY_NAME)), None)


def of_cdmo(workloads: tuple[Workload, ...], component: str) -> list[Workload]:
    """CDMO's own workloads of this component, whatever release they belong to."""
    name, part = "app.kubernetes.io/name", "app.kubernetes.io/component"
    ours = ("cdmo", "clearml-dynamic-mig-operator")
    return [each for each in workloads if each.labels.get(name) in ours and each.labels.get(part) == component]


def true(text: str) -> bool:
    """Whether a variable is on, as Go's strconv reads it."""
    return text in ("1", "t", "T", "true", "TRUE", "True")
