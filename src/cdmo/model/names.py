"""Every name under which CDMO is known to the cluster."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

GROUP = "cdmo.clear.ml"
VERSION = "v1alpha1"

# Set by an administrator (the page's step "Label all MIG-enabled GPU nodes").
PARTITIONING_LABEL = "cdmo.clear.ml/gpu-partitioning"
PARTITIONING_VALUE = "mig"

# Set by the agent: the label the fence policy selects Nodes by, with either value, and the taint beside it.
FENCE_LABEL = "cdmo.clear.ml/fenced"
FENCE_VALUE = "true"  # nothing behind the fence has been touched: whoever lifts it does no harm
FENCE_CHANGING = "changing"  # kubelet and hardware may disagree: only the agent may lift it
REPARTITIONING_TAINT = "cdmo.clear.ml/repartitioning"
FENCE_POLICY = "cdmo-fence"

# On a fenced Node: a word of this one change. A pod that may only go to a Node with that word, and asks for what no
# node has, makes the scheduler show that it has heard of the change.
CHANGE_LABEL = "cdmo.clear.ml/change"
WITNESS_RESOURCE = "cdmo.clear.ml/never"

# Kept by the agent on a node that it still has to leave clean, after the administrator's label is gone.
MANAGED_LABEL = "cdmo.clear.ml/managed"

# An administrator's, on a Node: whether CDMO may switch MIG mode there (`cdmo.model.modes.ModePolicy`).
MIG_MODE_ANNOTATION = "cdmo.clear.ml/mig-mode"

RESOURCE_PREFIX = "nvidia.com/"
MIG_RESOURCE_PREFIX = "nvidia.com/mig-"

# A dry-run Binding of this pod, which never exists, asks the API server whether the fence is up.
PROBE_NAMESPACE = "default"
PROBE_POD = "cdmo-fence-probe"

NAMESPACE = "cdmo"  # CDMO's own, unless it is told another
SCHEDULER = "default-scheduler"

LEASE_NAME = "cdmo-controller"

_OBJECT_NAME = re.compile(r"[a-z0-9](?:[-a-z0-9.]{0,251}[a-z0-9])?")


def is_object_name(text: str) -> bool:
    """Whether a Node can be called that (a DNS subdomain of RFC 1123, as the API server demands)."""
    return _OBJECT_NAME.fullmatch(text) is not None


def witness_pod(node: str) -> str:
    """Name of the pod by which the scheduler shows that it has heard of a change of this Node."""
    return f"cdmo-witness-{node}"


def is_mig_resource(resource: str) -> bool:
    """Whether an extended resource name is one the device plugin gives to MIG slices."""
    return resource.startswith(MIG_RESOURCE_PREFIX)


def is_whole_gpu_resource(resource: str) -> bool:
    """Whether an extended resource name is one the device plugin gives to GPUs that are not cut, or to shares of
    them: `nvidia.com/gpu`, `nvidia.com/gpu.shared`, or what an administrator renamed it to."""
    return resource.startswith(RESOURCE_PREFIX) and not is_mig_resource(resource)


def whole_gpus(devices: Mapping[str, Iterable[str]]) -> frozenset[str]:
    """UUIDs of the GPUs among devices by extended resource that are no slices. A GPU that pods share is several
    devices of the plugin: "GPU-…::0", "GPU-…::1"."""
    return frozenset(
        each.partition("::")[0] for name, ids in devices.items() if is_whole_gpu_resource(name) for each in ids
    )


def resource_of_profile(profile_name: str) -> str:
    """The extended resource of a profile: `1g.10gb+me` is advertised as `nvidia.com/mig-1g.10gb.me`.

    Source: NVIDIA's device plugin v0.20 replaces `+` by `.` and keeps `-me`.
    """
    return MIG_RESOURCE_PREFIX + profile_name.replace("+", ".")
