"""The override file of the gpu-operator's chart: with MIG as CDMO needs it, or back to whole GPUs.

Keys and values are those of ClearML's guide for its dynamic MIG operator, in its order. Every line that is not in the
guide has a comment above it that says why it is there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from cdmo.gpu_operator.chart import CDI_BY_DEFAULT, ChartVersion


class Distribution(StrEnum):
    """Where containerd keeps its files, and what else differs."""

    KUBERNETES = "kubernetes"
    K3S = "k3s"
    MICROK8S = "microk8s"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the file is for. `chart` None: any version, the newest among them."""

    mig: bool = True
    distribution: Distribution = Distribution.KUBERNETES
    chart: ChartVersion | None = None


# The guide's own entries: name, and value as it stands there, with its quotes.
_TOOLKIT = (
    ("ACCEPT_NVIDIA_VISIBLE_DEVICES_ENVVAR_WHEN_UNPRIVILEGED", '"false"'),
    ("ACCEPT_NVIDIA_VISIBLE_DEVICES_AS_VOLUME_MOUNTS", '"true"'),
    ("NVIDIA_CONTAINER_TOOLKIT_OPT_IN_FEATURES", '"disable-cuda-compat-lib-hook"'),
)
_PLUGIN = (
    ("PASS_DEVICE_SPECS", '"true"'),
    ("FAIL_ON_INIT_ERROR", '"true"'),
    ("DEVICE_LIST_STRATEGY # Use volume-mounts", "volume-mounts"),
    ("DEVICE_ID_STRATEGY", "uuid"),
    ("NVIDIA_VISIBLE_DEVICES", "all"),
    ("NVIDIA_DRIVER_CAPABILITIES", "all"),
)
# The guide's notes for k3s and MicroK8s, merged into the one list: Helm replaces lists, so a second file with these
# entries alone would take the others away.
_CONTAINERD = {
    Distribution.KUBERNETES: (),
    Distribution.K3S: (("CONTAINERD_SOCKET", '"/run/k3s/containerd/containerd.sock"'),),
    Distribution.MICROK8S: (
        ("CONTAINERD_CONFIG", '"/var/snap/microk8s/current/args/containerd-template.toml"'),
        ("CONTAINERD_SOCKET", '"/var/snap/microk8s/common/run/containerd.sock"'),
        ("CONTAINERD_RUNTIME_CLASS", '"nvidia"'),
        ("CONTAINERD_SET_AS_DEFAULT", '"true"'),
    ),
}
_WHERE = {
    Distribution.KUBERNETES: "",
    Distribution.K3S: " on k3s",
    Distribution.MICROK8S: " on MicroK8s",
}
_CDI = (
    f"# Not in the guide. From chart {CDI_BY_DEFAULT} on CDI is on unless this says otherwise. The list that the",
    "# device plugin mounts into pods (volume-mounts, below) is then never read: pods would get the device nodes of",
    "# their slice, but no driver libraries.",
    "cdi:",
    "  enabled: false",
)
_K3S = (
    "# k3s finds the runtime `nvidia` by itself, but does not make it the default. Start its servers and agents with",
    "# `--default-runtime nvidia`, or give pods `runtimeClassName: nvidia`: they get no driver libraries otherwise.",
)
_KEPT = (
    "# Not in the guide's second file. `helm upgrade -f` forgets what the file does not say, and the toolkit still",
    "# has to find containerd.",
)


def override(wanted: Wanted) -> str:
    """The whole file, comments included, ready for `helm … -f`."""
    return "\n".join((*_head(wanted), *_body(wanted))) + "\n"


def _head(wanted: Wanted) -> Iterator[str]:
    # Where no version is named, the line for newer charts stands there: older ones have it as their default.
    charts = "any version" if wanted.chart is None else f"version {wanted.chart}"
    where = _WHERE[wanted.distribution]
    if wanted.mig:
        yield f"# Values of NVIDIA's gpu-operator, {charts} of its chart{where}, for nodes that CDMO cuts:"
        yield "#   helm install -n gpu-operator gpu-operator nvidia/gpu-operator --create-namespace -f THIS-FILE"
    else:
        yield f"# Values of NVIDIA's gpu-operator, {charts} of its chart{where}, for whole GPUs again, after CDMO:"
        yield "#   helm upgrade -n gpu-operator gpu-operator nvidia/gpu-operator -f THIS-FILE"
        yield "# migManager is on again then, as it is by default: it gives every node the layout that its label"
        yield "# nvidia.com/mig.config names, or none. First take CDMO's label off every node and destroy its slices."
    if wanted.distribution is Distribution.K3S:
        yield from _K3S


def _body(wanted: Wanted) -> Iterator[str]:
    if wanted.chart is None or wanted.chart >= CDI_BY_DEFAULT:
        yield from _CDI
    if wanted.mig:
        yield from ("migManager:", "  enabled: false", "mig:", "  strategy: mixed")
    yield from ("toolkit:", "  env:", *_entries(_TOOLKIT))
    containerd = _CONTAINERD[wanted.distribution]
    if containerd and not wanted.mig:
        yield from (f"    {line}" for line in _KEPT)
    yield from _entries(containerd)
    yield from ("devicePlugin:", "  env:", *_entries(_PLUGIN))


def _entries(entries: tuple[tuple[str, str], ...]) -> Iterator[str]:
    for name, value in entries:
        yield f"    - name: {name}"
        yield f"      value: {value}"
