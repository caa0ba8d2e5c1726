"""Builders of what a demo sees, with defaults of a run in which all went well."""

from __future__ import annotations

from collections.abc import Mapping

from cdmo_harness.demo.evidence import BusySlice, Evidence, PodOutcome, WaveEvidence
from cdmo_harness.driver import DriverCounters
from cdmo_harness.kubelet.counters import Counts

from cdmo.api.v1alpha1 import (
    Metadata,
    MigNode,
    MigNodeStatus,
    ModelProfile,
    ObservedDevice,
    ObservedGpu,
    ObservedModel,
    PodReference,
    Repartition,
    Summary,
)

_SIZES = {"1g.10gb": 1, "2g.20gb": 2, "3g.40gb": 4, "4g.40gb": 4, "7g.80gb": 8}
_PROFILES = tuple(
    ModelProfile(
        id=number, name=name, resource=f"nvidia.com/mig-{name}", compute_slices=1, size=size, max=1, memory_mib=1
    )
    for number, (name, size) in enumerate(_SIZES.items())
)


def repartition(result: str = "Applied", message: str = "") -> Repartition:
    """A change as an agent reports it."""
    return Repartition(
        started_at="2026-01-01T00:00:00.000Z",
        fenced_seconds=0.412,
        gpu_seconds=0.155,
        reload_seconds=0.1,
        result=result,
        message=message,
    )


def outcome(
    name: str = "train",
    *,
    node: str = "gpu-1",
    phase: str = "Running",
    message: str = "",
    seconds: float | None = 0.5,
    reused: bool = False,
    device: str = "MIG-1",
    queue: str | None = None,
    resource: str = "nvidia.com/mig-3g.40gb",
) -> PodOutcome:
    """A pod that ran."""
    return PodOutcome(name, queue, resource, phase, message, node, device, seconds, reused)


def counters(*, destroyed: int = 2, in_use_attempts: int = 0) -> DriverCounters:
    """What a driver counted."""
    return DriverCounters({}, 3, destroyed, 3, destroyed, in_use_attempts, 1)


def wave(
    *pods: PodOutcome,
    changed: tuple[str, ...] = (),
    before: tuple[BusySlice, ...] = (),
    after: tuple[BusySlice, ...] = (),
) -> WaveEvidence:
    """One wave."""
    return WaveEvidence(pods, frozenset(changed), frozenset(before), frozenset(after))


def evidence(
    *waves: WaveEvidence,
    repartitions: tuple[Repartition, ...] = (repartition(),),
    driver: DriverCounters | None = None,
    kubelet: Counts | None = None,
) -> Evidence:
    """A run on one node; besides the given waves a pod reused a slice, as it should."""
    return Evidence(
        waves=(wave(outcome("reuser", node="gpu-2", reused=True)), *waves),
        repartitions=tuple(("gpu-1", each) for each in repartitions),
        drivers={"gpu-1": driver or counters()},
        kubelets={"gpu-1": kubelet or Counts()},
    )


def mignode(*gpus: Mapping[str, str], product: str = "NVIDIA H100 80GB HBM3", phase: str = "Ready") -> MigNode:
    """A node; each GPU as {"4g.40gb@0": "the pod that holds it, or nothing"}."""
    observed = tuple(
        ObservedGpu(
            pci_bus_id=f"00000000:{number + 1:02X}:00.0",
            uuid=f"GPU-{number}",
            model=0,
            mig_mode="Enabled",
            devices=tuple(_device(where, holder) for where, holder in gpu.items()),
        )
        for number, gpu in enumerate(gpus)
    )
    models = (ObservedModel(product=product, memory_slots=8, profiles=_PROFILES),)
    return MigNode(
        metadata=Metadata(name="gpu-1"),
        status=MigNodeStatus(gpus=observed, models=models, summary=Summary(phase=phase)),
    )


def _device(where: str, holder: str) -> ObservedDevice:
    name, _, start = where.partition("@")
    pod = PodReference(namespace="clearml", name=holder) if holder else None
    state = "InUse" if holder else "Idle"
    return ObservedDevice(profile_id=list(_SIZES).index(name), start=int(start), state=state, pod=pod)
