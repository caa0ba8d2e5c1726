"""MigNode v1alpha1 as Python types. The CRD is generated from these (schema.py); field docs become its own.

`spec.gpus` and `spec.observedRevision` are the controller's, `spec.mode` the administrator's, `status` the
agent's. Field names follow the JSON (camelCase by rename), limits are in the annotations.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from msgspec import Meta, Struct, field

PciBusId = Annotated[
    str,
    Meta(
        pattern=r"^[0-9A-F]{8}:[0-9A-F]{2}:[0-9A-F]{2}\.[0-7]$",
        max_length=16,  # Python's `$` also matches before a line break at the end
        description="PCI bus id as NVML prints it, for example 00000000:10:00.0",
    ),
]
ProfileId = Annotated[int, Meta(ge=0, le=1023, description="NVML's GPU instance profile id")]
Slot = Annotated[int, Meta(ge=0, le=31, description="Memory slot, counted from 0")]
Count = Annotated[int, Meta(ge=0)]


class Frozen(Struct, frozen=True, rename="camel", omit_defaults=True, kw_only=True):
    """Base of every API type."""


class Mode(StrEnum):
    """What CDMO does with a node's GPUs."""

    MANAGED = "Managed"
    DISABLED = "Disabled"


class PlacedProfile(Frozen, frozen=True, kw_only=True):
    """One GPU instance of a layout."""

    profile_id: ProfileId
    start: Slot


class GpuLayout(Frozen, frozen=True, kw_only=True):
    """The whole desired layout of one GPU."""

    pci_bus_id: PciBusId
    layout: Annotated[tuple[PlacedProfile, ...], Meta(max_length=16)] = ()
    withheld: Annotated[
        tuple[PlacedProfile, ...],
        Meta(max_length=16, description="placements of the layout that no new pod may get: they are to go"),
    ] = ()


class MigNodeSpec(Frozen, frozen=True, kw_only=True):
    """What the node's GPUs should look like."""

    mode: Mode = Mode.MANAGED
    observed_revision: Annotated[
        int,
        Meta(ge=0, description="status.revision that the layouts were planned from: nothing younger is destroyed"),
    ] = 0
    gpus: Annotated[tuple[GpuLayout, ...], Meta(max_length=32)] = ()


class EngineCounts(Frozen, frozen=True, kw_only=True):
    """Media engines of an instance of a profile."""

    decoder: Count = 0
    encoder: Count = 0
    jpeg: Count = 0
    ofa: Count = 0


class ModelProfile(Frozen, frozen=True, kw_only=True):
    """One GPU instance profile of a model, as NVML reports it."""

    id: ProfileId
    name: Annotated[str, Meta(max_length=63)]
    resource: Annotated[str, Meta(max_length=253)]
    compute_slices: Count
    size: Count
    starts: Annotated[tuple[Slot, ...], Meta(max_length=32)] = ()
    max: Count
    memory_mib: Annotated[int, Meta(ge=0)] = field(name="memoryMiB")
    engines: EngineCounts = EngineCounts()


class ObservedModel(Frozen, frozen=True, kw_only=True):
    """One distinct GPU model of the node."""

    product: Annotated[str, Meta(max_length=127)]
    memory_slots: Count
    profiles: Annotated[tuple[ModelProfile, ...], Meta(max_length=64)] = ()


class PodReference(Frozen, frozen=True, kw_only=True):
    """The pod that holds a slice."""

    namespace: Annotated[str, Meta(max_length=63)]
    name: Annotated[str, Meta(max_length=253)]
    uid: Annotated[str, Meta(max_length=63)] = ""


class ObservedDevice(Frozen, frozen=True, kw_only=True):
    """One GPU instance that exists."""

    profile_id: ProfileId
    start: Slot
    uuid: Annotated[str, Meta(max_length=63)] = ""
    state: Annotated[str, Meta(description="Idle | InUse | Broken | Unhealthy", max_length=15)] = "Idle"
    revision: Annotated[int, Meta(ge=0, description="status.revision at which it was first reported")] = 0
    pod: PodReference | None = None
    problem: Annotated[
        str, Meta(max_length=1024, description="why nobody gets it any more; it is cut anew when it is idle")
    ] = ""


class ObservedGpu(Frozen, frozen=True, kw_only=True):
    """One GPU of the node."""

    pci_bus_id: PciBusId
    uuid: Annotated[str, Meta(max_length=63)]
    model: Count
    mig_mode: Annotated[
        str,
        Meta(description="Enabled | Disabled | EnablePending | DisablePending | Unsupported", max_length=15),
    ]
    devices: Annotated[tuple[ObservedDevice, ...], Meta(max_length=32)] = ()
    problem: Annotated[str, Meta(max_length=1024, description="why nothing is planned on it, and what helps")] = ""


class AgentInfo(Frozen, frozen=True, kw_only=True):
    """The agent that wrote this status."""

    version: Annotated[str, Meta(max_length=63)]
    heartbeat: Annotated[str, Meta(max_length=63, description="RFC 3339, UTC")]
    driver: Annotated[str, Meta(max_length=63)] = ""
    boot_id: Annotated[str, Meta(max_length=63)] = ""


class Repartition(Frozen, frozen=True, kw_only=True):
    """How the last change of this node went."""

    started_at: Annotated[str, Meta(max_length=63)]
    fenced_seconds: float
    gpu_seconds: float
    reload_seconds: float
    result: Annotated[str, Meta(description="Applied | Undone | Refused | Failed", max_length=15)]
    message: Annotated[str, Meta(max_length=1024)] = ""
    count: Annotated[int, Meta(ge=0, description="changes this agent has carried out on this node")] = 0


class Condition(Frozen, frozen=True, kw_only=True):
    """A condition as Kubernetes writes them."""

    type: Annotated[str, Meta(max_length=63)]
    status: Annotated[str, Meta(description="True | False | Unknown", max_length=7)]
    reason: Annotated[str, Meta(max_length=63)]
    message: Annotated[str, Meta(max_length=1024)] = ""
    last_transition_time: Annotated[str, Meta(max_length=63)] = ""


class Summary(Frozen, frozen=True, kw_only=True):
    """What `kubectl get mignodes` shows."""

    gpus: Annotated[int, Meta(ge=0, description="GPUs with MIG on")] = 0
    slices: Annotated[str, Meta(max_length=31, description="in use / existing")] = ""
    free_slots: Annotated[int, Meta(ge=0, description="memory slots without an instance")] = 0
    phase: Annotated[str, Meta(max_length=31)] = ""


class MigNodeStatus(Frozen, frozen=True, kw_only=True):
    """What the node's agent sees and did."""

    observed_generation: Annotated[int, Meta(ge=0)] = 0
    revision: Annotated[int, Meta(ge=0, description="grows whenever the instances on the node change")] = 0
    agent: AgentInfo | None = None
    summary: Summary = Summary()
    models: Annotated[tuple[ObservedModel, ...], Meta(max_length=32)] = ()
    gpus: Annotated[tuple[ObservedGpu, ...], Meta(max_length=32)] = ()
    last_repartition: Repartition | None = None
    conditions: Annotated[tuple[Condition, ...], Meta(max_length=16)] = ()


class OwnerReference(Frozen, frozen=True, kw_only=True):
    """The Node that owns the MigNode, so that both go together."""

    api_version: str = "v1"
    kind: str = "Node"
    name: str = ""
    uid: str = ""


class Metadata(Frozen, frozen=True, kw_only=True):
    """The part of an object's metadata that CDMO reads or writes."""

    name: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    owner_references: tuple[OwnerReference, ...] = ()


class MigNode(Frozen, frozen=True, kw_only=True):
    """One labelled node's GPUs: what they should be cut into, and what they are."""

    api_version: str = "cdmo.clear.ml/v1alpha1"
    kind: str = "MigNode"
    metadata: Metadata = Metadata()
    spec: MigNodeSpec = MigNodeSpec()
    status: MigNodeStatus = MigNodeStatus()
