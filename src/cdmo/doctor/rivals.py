"""Others that cut the same GPUs, or give the same slices away."""

from __future__ import annotations

from collections.abc import Iterator

from cdmo.doctor.facts import ClusterFacts, Source, Workload
from cdmo.doctor.finding import Check, Status, Trouble
from cdmo.doctor.parts import managed
from cdmo.model.names import is_mig_resource

WHOLE = "nvidia.com/gpu"

# What betrays another manager of MIG slices: the name of a workload's image, a CRD, a Node's label.
IMAGES = {
    "nos-mig-agent": "nos",
    "nos-gpu-partitioner": "nos",
    "instaslice-daemonset": "InstaSlice",
    "instaslice-operator": "InstaSlice",
    "das-daemonset": "Dynamic Accelerator Slicer",
    "das-operator": "Dynamic Accelerator Slicer",
    "hami": "HAMi",
}
DEFINITIONS = {
    "elasticquotas.nos.nebuly.com": "nos",
    "instaslices.inference.redhat.com": "InstaSlice",
    "instasliceoperators.inference.redhat.com": "InstaSlice",
    "dasoperators.inference.redhat.com": "Dynamic Accelerator Slicer",
    "nodeaccelerators.inference.redhat.com": "Dynamic Accelerator Slicer",
}
NOS_LABEL = "nos.nebuly.com/gpu-partitioning"
DRA_IMAGE = "k8s-dra-driver-gpu"


def _managers(facts: ClusterFacts) -> Iterator[Trouble]:
    told: set[str] = set()
    for each in (*facts.daemon_sets, *facts.deployments):
        names = {IMAGES[one.image_name] for one in each.containers if one.image_name in IMAGES}
        for name in sorted(names - told):
            told.add(name)
            yield Trouble(
                str(each),
                f"{name} is installed: two managers of slices destroy each other's",
                f"remove {name}, or CDMO",
            )
        if _cuts_by_dra(each):
            yield Trouble(
                str(each),
                "NVIDIA's DRA driver cuts slices itself here (feature gate DynamicMIG): it destroys unknown ones",
                "set featureGates.DynamicMIG=false in the DRA driver's values, or keep it off CDMO's Nodes",
            )
    if not told:
        yield from _definitions(facts)
    for node in managed(facts):
        if node.labels.get(NOS_LABEL) == "mig":
            yield Trouble(
                f"Node/{node.name}",
                "nos is told to cut its GPUs as well",
                f"`kubectl label nodes {node.name} {NOS_LABEL}-`",
            )


def _definitions(facts: ClusterFacts) -> Iterator[Trouble]:
    for each in facts.definitions:
        manager = DEFINITIONS.get(each.name)
        if manager is not None:
            yield Trouble(
                f"CustomResourceDefinition/{each.name}",
                f"{manager} is, or was, installed: two managers of slices destroy each other's",
                "make sure that none of it runs, and delete the definition",
                Status.WARNING,
            )
            return


def _cuts_by_dra(workload: Workload) -> bool:
    if not any(DRA_IMAGE in each.image for each in workload.containers):
        return False
    gates = [gate.strip() for each in workload.containers for gate in each.env.get("FEATURE_GATES", "").split(",")]
    return any(gate.lower() == "dynamicmig=true" for gate in gates)


def _classes(facts: ClusterFacts) -> Iterator[Trouble]:
    for each in facts.device_classes:
        if is_mig_resource(each.extended_resource) or each.extended_resource == WHOLE:
            yield Trouble(
                f"DeviceClass/{each.name}",
                f"maps {each.extended_resource} to dynamic resource allocation: the scheduler may take it from "
                "there and not from the device plugin",
                f"take spec.extendedResourceName out: `kubectl edit deviceclass {each.name}`",
            )


CHECKS = (
    Check(
        "other-managers",
        "nobody else cuts the GPUs",
        (Source.NODES, Source.DAEMON_SETS, Source.DEPLOYMENTS, Source.DEFINITIONS),
        _managers,
    ),
    Check("device-classes", "no DeviceClass gives away what CDMO does", (Source.DEVICE_CLASSES,), _classes),
)
