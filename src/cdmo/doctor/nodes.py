"""The GPU nodes: label, MIG mode, driver, what else holds their GPUs, and labels that others left."""

from __future__ import annotations

from collections.abc import Iterator

from cdmo.api.v1alpha1 import MigNode, ObservedGpu
from cdmo.doctor.facts import ClusterFacts, NodeFact, Source, Workload
from cdmo.doctor.finding import Check, Status, Trouble
from cdmo.doctor.parts import managed, reported, version_in
from cdmo.model.gpu import MigMode
from cdmo.model.names import PARTITIONING_LABEL, PARTITIONING_VALUE

DRIVER_LABEL = "nvidia.com/cuda.driver-version.full"
_PENDING = (MigMode.ENABLE_PENDING, MigMode.DISABLE_PENDING)

# The first driver that can cut a card, by a word of its product name, special ones first; empty: not known.
# Source: NVIDIA's MIG user guide, list of supported GPUs (edition 620).
OLDEST_DRIVER = (
    ("GB300", ""),
    ("B300", "580.82.07"),
    ("B200", "570.133.20"),  # GB200 as well
    ("GH200", ""),
    ("H200", "550.90.07"),
    ("H100", "525.85.12"),
    ("H20", "535.161.07"),
    ("RTX PRO 6000", "575.51.03"),
    ("RTX PRO 5000", "575.57.08"),
    ("RTX PRO 4500", "575.64"),
    ("A100", "450.0"),
    ("A30", "460.73.01"),
)
# These hang the device plugin where MIG is on for some GPUs and off for others (gpu-operator's troubleshooting page).
HANGING_DRIVERS = ("570.124.06", "570.133.20", "570.148.08", "570.158.01")

# Images of programs that keep a GPU open, by their last part, and of those that may see all GPUs and do no harm.
GPU_CLIENTS = frozenset({"dcgm-exporter", "dcgm", "nvsm"})
_HARMLESS = frozenset(
    {"k8s-device-plugin", "gpu-feature-discovery", "gpu-operator", "gpu-operator-validator", "k8s-mig-manager"}
)


def _label(facts: ClusterFacts) -> Iterator[Trouble]:
    if not any(managed(facts)):
        yield Trouble(
            "cluster/nodes",
            f"no Node has the label {PARTITIONING_LABEL}={PARTITIONING_VALUE}: CDMO leaves all alone",
            f"`kubectl label nodes NODE {PARTITIONING_LABEL}={PARTITIONING_VALUE}`",
            Status.WARNING,
        )
    for node in facts.nodes:
        value = node.labels.get(PARTITIONING_LABEL)
        if value is not None and value != PARTITIONING_VALUE:
            yield Trouble(
                f"Node/{node.name}",
                f"the label {PARTITIONING_LABEL} is {value!r}, which means nothing to CDMO",
                f"`kubectl label --overwrite nodes {node.name} {PARTITIONING_LABEL}={PARTITIONING_VALUE}`",
            )


def _known(facts: ClusterFacts) -> Iterator[tuple[NodeFact, MigNode]]:
    for node, found in reported(facts):
        if found is not None and found.status.agent is not None:
            yield node, found


def _mode(facts: ClusterFacts) -> Iterator[Trouble]:
    for node, mignode in _known(facts):
        modes = [gpu.mig_mode for gpu in mignode.status.gpus]
        about = f"Node/{node.name}"
        if not set(modes) - {MigMode.UNSUPPORTED}:
            yield Trouble(
                about,
                "has the label, but no GPU that can do MIG" if modes else "has the label, but no GPU",
                f"`kubectl label nodes {node.name} {PARTITIONING_LABEL}-`",
            )
        elif any(mode in _PENDING for mode in modes):
            count = sum(mode in _PENDING for mode in modes)
            yield Trouble(
                about,
                f"on {count} of {len(modes)} GPUs a change of the MIG mode waits for a reset",
                "stop what uses the GPU and `nvidia-smi --gpu-reset -i ID`, or reboot the node",
                Status.WARNING if MigMode.ENABLED in modes else Status.ERROR,
            )
        elif MigMode.ENABLED not in modes:
            yield Trouble(
                about,
                "has the label, but MIG is off on all of its GPUs: there is nothing to cut",
                "`nvidia-smi -mig 1` on the node, as in the guide; Hopper and later lose the mode at a reboot",
            )


def _clients(facts: ClusterFacts) -> Iterator[Trouble]:
    waiting = [node.name for node, mignode in _known(facts) if _wants_change(mignode)]
    if not waiting:
        return
    where = ", ".join(waiting[:3]) + ("" if len(waiting) < 4 else f" and {len(waiting) - 3} more")
    for each in facts.daemon_sets:
        if _is_client(each):
            yield Trouble(
                str(each),
                f"keeps GPUs open, so that their MIG mode cannot change (it has to on {where})",
                "keep it off those nodes while the mode is changed; the gpu-operator's go by the labels "
                "nvidia.com/gpu.deploy.dcgm-exporter=false and nvidia.com/gpu.deploy.dcgm=false, true afterwards",
                Status.WARNING,
            )


def _wants_change(mignode: MigNode) -> bool:
    modes = {gpu.mig_mode for gpu in mignode.status.gpus}
    return bool(modes & set(_PENDING)) or (MigMode.DISABLED in modes and MigMode.ENABLED not in modes)


def _is_client(workload: Workload) -> bool:
    return workload.wanted > 0 and any(
        each.image_name in GPU_CLIENTS
        or (each.env.get("NVIDIA_VISIBLE_DEVICES") == "all" and each.image_name not in _HARMLESS)
        for each in workload.containers
    )


def _driver(facts: ClusterFacts) -> Iterator[Trouble]:
    for node, mignode in _known(facts):
        said = (mignode.status.agent.driver if mignode.status.agent else "") or node.labels.get(DRIVER_LABEL, "")
        driver = version_in(said)
        if driver is None:
            continue
        for product in sorted({each.product for each in mignode.status.models}):
            oldest = _oldest(product)
            if oldest and driver < (version_in(oldest) or ()):
                yield Trouble(
                    f"Node/{node.name}",
                    f"driver {said} cannot cut {product}: MIG on it begins with {oldest}",
                    f"install driver {oldest} or later",
                )
        if said in HANGING_DRIVERS and _mixed(mignode.status.gpus):
            yield Trouble(
                f"Node/{node.name}",
                f"driver {said} hangs the device plugin where MIG is on for some GPUs and off for others",
                "install another driver, or turn MIG on for every GPU of the node",
            )


def _oldest(product: str) -> str:
    return next((oldest for word, oldest in OLDEST_DRIVER if word in product), "")


def _mixed(gpus: tuple[ObservedGpu, ...]) -> bool:
    return {MigMode.ENABLED, MigMode.DISABLED} <= {gpu.mig_mode for gpu in gpus}


def _left_behind(facts: ClusterFacts) -> Iterator[Trouble]:
    for node in managed(facts):
        about, labels = f"Node/{node.name}", node.labels
        workload = labels.get("nvidia.com/gpu.workload.config", "")
        if workload.startswith("vm-"):
            yield Trouble(
                about,
                f"its GPUs are given to virtual machines (nvidia.com/gpu.workload.config={workload})",
                f"`kubectl label nodes {node.name} nvidia.com/gpu.workload.config-`",
            )
        if labels.get("nvidia.com/gpu.deploy.device-plugin") == "false":
            yield Trouble(
                about,
                "no device plugin may run there (nvidia.com/gpu.deploy.device-plugin=false)",
                f"`kubectl label --overwrite nodes {node.name} nvidia.com/gpu.deploy.device-plugin=true`",
            )
        for key, value in sorted(labels.items()):
            if key.startswith("nvidia.com/gpu.deploy.") and value.startswith("paused-"):
                yield Trouble(
                    about,
                    f"a part of the gpu-operator was paused and not woken ({key}={value}): nothing heals that",
                    f"if nobody is at work there: `kubectl label --overwrite nodes {node.name} {key}=true`",
                    Status.WARNING,
                )
        if "nvidia.com/mig.config" in labels:
            yield Trouble(
                about,
                f"nvidia.com/mig.config={labels['nvidia.com/mig.config']} is left from NVIDIA's MIG manager, which "
                "would put that layout over CDMO's slices once it is turned on again",
                f"`kubectl label nodes {node.name} nvidia.com/mig.config- nvidia.com/mig.config.state-`",
                Status.WARNING,
            )


_SEEN = (Source.NODES, Source.MIG_NODES)
CHECKS = (
    Check("label", "Nodes are labelled for CDMO", (Source.NODES,), _label),
    Check("mig-mode", "MIG is on where the label is", _SEEN, _mode),
    Check("gpu-clients", "nothing keeps a MIG mode from changing", (*_SEEN, Source.DAEMON_SETS), _clients),
    Check("driver", "the drivers can cut the cards", _SEEN, _driver),
    Check("node-labels", "no label of the gpu-operator is in the way", (Source.NODES,), _left_behind),
)
