"""What happened in the demo, as plain values, and what is wrong with it. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from cdmo.api.v1alpha1 import Repartition
from cdmo_harness.driver import DriverCounters
from cdmo_harness.kubelet.counters import Counts


@dataclass(frozen=True, slots=True)
class PodOutcome:
    """One pod, from created to now."""

    name: str
    queue: str | None
    resource: str
    phase: str = ""
    message: str = ""
    node: str = ""
    device: str = ""  # the slice's UUID
    seconds: float | None = None  # from created to Running
    reused: bool = False  # its slice was there before the pod

    @property
    def how(self) -> str:
        """How it got its slice, in a word."""
        if not self.device:
            return ""
        return "reused" if self.reused else "cut"


@dataclass(frozen=True, slots=True)
class BusySlice:
    """A slice with processes on it."""

    node: str
    uuid: str
    gpu_instance: int
    processes: int


@dataclass(frozen=True, slots=True)
class WaveEvidence:
    """One wave, by what the driver had before and after it."""

    pods: tuple[PodOutcome, ...]
    changed_nodes: frozenset[str]  # where GPU instances were created or destroyed
    busy_before: frozenset[BusySlice]
    busy_after: frozenset[BusySlice]


@dataclass(frozen=True, slots=True)
class Evidence:
    """The whole run. The counters are by node."""

    waves: tuple[WaveEvidence, ...]
    repartitions: tuple[tuple[str, Repartition], ...]  # with the node
    drivers: Mapping[str, DriverCounters]
    kubelets: Mapping[str, Counts]


def problems(evidence: Evidence) -> list[str]:
    """What did not go as CDMO promises, a sentence each; empty when all is well."""
    return [
        *(said for wave in evidence.waves for said in _pods(wave)),
        *(said for wave in evidence.waves for said in _untouched(wave)),
        *(said for wave in evidence.waves for said in _reuse(wave)),
        *_recut(evidence),
        *_repartitions(evidence),
        *(said for node, counts in sorted(evidence.kubelets.items()) for said in _kubelet(node, counts)),
    ]


def _pods(wave: WaveEvidence) -> Iterator[str]:
    for pod in wave.pods:
        if pod.phase == "Failed":
            yield f"pod {pod.name} failed: {pod.message or 'its status gives no reason'}"
        elif pod.seconds is None:
            yield f"pod {pod.name} never ran"
        elif not pod.device:
            yield f"pod {pod.name} ran without a slice"


def _untouched(wave: WaveEvidence) -> Iterator[str]:
    for each in sorted(wave.busy_before - wave.busy_after, key=lambda each: each.uuid):
        yield f"busy slice {each.uuid} of {each.node} did not stay as it was"


def _reuse(wave: WaveEvidence) -> Iterator[str]:
    cut_on = {pod.node for pod in wave.pods if not pod.reused}
    for pod in wave.pods:
        if pod.reused and pod.node in wave.changed_nodes - cut_on:
            yield f"pod {pod.name} reused an idle slice, and yet {pod.node} was re-cut"


def _recut(evidence: Evidence) -> Iterator[str]:
    if not any(pod.reused for wave in evidence.waves for pod in wave.pods):
        yield "no pod reused an idle slice"
    if not any(each.gpu_instances_destroyed for each in evidence.drivers.values()):
        yield "no GPU was re-cut: no GPU instance was ever destroyed"
    for node, counters in sorted(evidence.drivers.items()):
        if counters.destroyed_in_use_attempts:
            yield f"{counters.destroyed_in_use_attempts} times a slice in use was to be destroyed on {node}"


def _repartitions(evidence: Evidence) -> Iterator[str]:
    if not evidence.repartitions:
        yield "no repartition was reported"
    for node, each in evidence.repartitions:
        if each.result != "Applied":
            yield f"a repartition of {node} ended {each.result}: {each.message or 'without a message'}"


def _kubelet(node: str, counts: Counts) -> Iterator[str]:
    for message, times in sorted(counts.admission_failures.items()):
        yield f"the kubelet of {node} refused {times} pods: {message}"
    if counts.admitted_without_device:
        yield f"the kubelet of {node} let {counts.admitted_without_device} pods run without the slice they asked for"
    if counts.started_on_dead_device:
        yield f"the kubelet of {node} gave {counts.started_on_dead_device} pods a slice that was gone"
