"""PURE: the MigNode status that follows from an observation and the last change."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from msgspec.structs import replace

from cdmo.agent.change import Outcome
from cdmo.agent.modes import ModeReport
from cdmo.agent.observe import Observation
from cdmo.agent.revisions import InstanceKey, Revisions
from cdmo.api.convert import model_to_api
from cdmo.api.v1alpha1 import (
    AgentInfo,
    Condition,
    MigNodeStatus,
    ObservedDevice,
    ObservedGpu,
    ObservedModel,
    PodReference,
    Repartition,
    Summary,
)
from cdmo.hardware.port import GpuInstance, GpuReading
from cdmo.model.gpu import DeviceState, MigMode
from cdmo.model.profile import GpuModel
from cdmo.model.reasons import ConditionType, ModeReason, ReadyReason
from cdmo.version import __version__

LONGEST = 1024  # characters of a sentence in the status


@dataclass(frozen=True, slots=True)
class Health:
    """Whether the node can be worked with, and why not."""

    reason: ReadyReason = ReadyReason.READY
    message: str = ""

    @property
    def ready(self) -> bool:
        return self.reason is ReadyReason.READY


@dataclass(frozen=True, slots=True)
class Report:
    """Everything a status is made of."""

    observation: Observation | None  # None: the driver or the kubelet did not answer; the last GPUs stay reported
    health: Health
    generation: int
    boot_id: str
    modes: ModeReport
    changing: bool = False
    repartition: Repartition | None = None


def status_of(report: Report, revisions: Revisions, previous: MigNodeStatus, now: float) -> MigNodeStatus:
    """The status to write. `previous` gives what this look could not see, and the conditions' transition times."""
    models, gpus = previous.models, previous.gpus
    driver, boot_id = (previous.agent.driver, previous.agent.boot_id) if previous.agent else ("", "")
    if report.observation is not None:
        models, gpus = _models_and_gpus(report.observation, revisions)
        if boot_id == report.boot_id:
            models, gpus = _with_silent(report.observation, models, gpus, previous)
        # The boot in which the GPUs were seen: an agent that starts later knows by it what a reboot took.
        driver, boot_id = report.observation.driver.driver_version, report.boot_id
    return MigNodeStatus(
        observed_generation=report.generation,
        revision=revisions.current,
        agent=AgentInfo(version=__version__, heartbeat=timestamp(now), driver=driver[:63], boot_id=boot_id[:63]),
        summary=_summary(report, models, gpus),
        models=models,
        gpus=gpus,
        last_repartition=report.repartition or previous.last_repartition,
        conditions=_conditions(report, gpus, previous, now),
    )


def repartition_of(outcome: Outcome, started: float, count: int) -> Repartition:
    """How a change went, as the status tells it."""
    return Repartition(
        started_at=timestamp(started),
        fenced_seconds=round(outcome.fenced_seconds, 3),
        gpu_seconds=round(outcome.gpu_seconds, 3),
        reload_seconds=round(outcome.reload_seconds, 3),
        result=outcome.result,
        message=outcome.message,
        count=count,
    )


def given_back(observation: Observation, held_back: Iterable[str]) -> str:
    """How far a node is whose GPUs are given back whole."""
    gpus = [each for each in observation.driver.gpus if each.model.profiles]
    whole = sum(each.mig_mode is MigMode.DISABLED for each in gpus)
    return "; ".join((f"{whole} of {len(gpus)} GPUs are whole: this node is disabled", *held_back))


def same_but_for_time(one: MigNodeStatus, other: MigNodeStatus) -> bool:
    """Whether two statuses differ in the heartbeat alone: then nothing needs to be written yet."""
    return _timeless(one) == _timeless(other)


def timestamp(now: float) -> str:
    """RFC 3339 in UTC with milliseconds."""
    return datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _timeless(status: MigNodeStatus) -> tuple[object, ...]:
    agent = status.agent
    return (
        status.observed_generation,
        status.revision,
        (agent.version, agent.driver, agent.boot_id) if agent else None,
        status.summary,
        status.models,
        status.gpus,
        status.last_repartition,
        status.conditions,
    )


def _models_and_gpus(
    observation: Observation, revisions: Revisions
) -> tuple[tuple[ObservedModel, ...], tuple[ObservedGpu, ...]]:
    distinct: list[GpuModel] = []
    for gpu in observation.driver.gpus:
        if gpu.model not in distinct:
            distinct.append(gpu.model)
    gpus = tuple(
        ObservedGpu(
            pci_bus_id=gpu.pci_bus_id,
            uuid=gpu.uuid[:63],
            model=distinct.index(gpu.model),
            mig_mode=gpu.mig_mode,
            devices=tuple(_device(observation, gpu, each, revisions) for each in gpu.instances),
            problem=gpu.trouble[:LONGEST],
        )
        for gpu in observation.driver.gpus
    )
    return tuple(model_to_api(each) for each in distinct), gpus


def _device(observation: Observation, gpu: GpuReading, instance: GpuInstance, revisions: Revisions) -> ObservedDevice:
    holder = observation.holders.get(instance.device_uuid) if instance.device_uuid else None
    return ObservedDevice(
        profile_id=instance.placement.profile_id,
        start=instance.placement.start,
        uuid=instance.device_uuid[:63],
        state=observation.state_of(instance),
        revision=revisions.of(InstanceKey(gpu.pci_bus_id, instance.placement, instance.device_uuid)),
        pod=PodReference(namespace=holder.namespace, name=holder.name, uid=holder.uid) if holder else None,
        problem=instance.fault[:LONGEST],
    )


def _with_silent(
    observation: Observation,
    models: tuple[ObservedModel, ...],
    gpus: tuple[ObservedGpu, ...],
    previous: MigNodeStatus,
) -> tuple[tuple[ObservedModel, ...], tuple[ObservedGpu, ...]]:
    """GPUs that an earlier agent of this boot saw, and that have not answered this one, as they were."""
    if not observation.driver.silent:
        return models, gpus
    there = {each.pci_bus_id for each in gpus}
    for gpu in previous.gpus:
        if gpu.pci_bus_id in there or gpu.model >= len(previous.models):
            continue
        model = previous.models[gpu.model]
        models = models if model in models else (*models, model)
        problem = gpu.problem or "it does not answer any more: look for XIDs in the kernel log and reboot the node"
        gpus = (*gpus, replace(gpu, model=models.index(model), problem=problem))
    return models, tuple(sorted(gpus, key=lambda each: each.pci_bus_id))


def _summary(report: Report, models: tuple[ObservedModel, ...], gpus: tuple[ObservedGpu, ...]) -> Summary:
    cut = [each for each in gpus if each.mig_mode == MigMode.ENABLED]
    devices = [device for gpu in cut for device in gpu.devices]
    in_use = sum(each.state == DeviceState.IN_USE for each in devices)
    free = 0
    for gpu in cut:
        model = models[gpu.model] if gpu.model < len(models) else None
        sizes = {each.id: each.size for each in model.profiles} if model else {}
        total = model.memory_slots if model else 0
        free += 0 if gpu.problem else max(0, total - sum(sizes.get(each.profile_id, 0) for each in gpu.devices))
    phase = "Repartitioning" if report.changing else "Ready" if report.health.ready else report.health.reason.value
    return Summary(gpus=len(cut), slices=f"{in_use}/{len(devices)}", free_slots=free, phase=phase[:31])


def _conditions(
    report: Report, gpus: tuple[ObservedGpu, ...], previous: MigNodeStatus, now: float
) -> tuple[Condition, ...]:
    unhealthy = _unhealthy(gpus)
    before = {each.type: each for each in previous.conditions}
    wanted = (
        (ConditionType.READY, report.health.ready, report.health.reason.value, report.health.message),
        (
            ConditionType.REPARTITIONING,
            report.changing,
            "Repartitioning" if report.changing else "Idle",
            "",
        ),
        (ConditionType.GPUS_HEALTHY, not unhealthy, "Unhealthy" if unhealthy else "Healthy", "; ".join(unhealthy)),
        (
            ConditionType.MODE_SETTLED,
            report.modes.reason is ModeReason.AS_WANTED,
            report.modes.reason.value,
            report.modes.message,
        ),
    )
    conditions = []
    for kind, holds, reason, message in wanted:
        status = "True" if holds else "False"
        old = before.get(kind)
        since = old.last_transition_time if old is not None and old.status == status else timestamp(now)
        conditions.append(
            Condition(type=kind, status=status, reason=reason, message=message[:LONGEST], last_transition_time=since)
        )
    return tuple(conditions)


def _unhealthy(gpus: tuple[ObservedGpu, ...]) -> list[str]:
    """A phrase for each GPU and each slice that is not to be used."""
    found = []
    for gpu in gpus:
        if gpu.problem:
            found.append(f"GPU {gpu.pci_bus_id}: {gpu.problem}")
        found += [
            f"slice at slot {each.start} of GPU {gpu.pci_bus_id}: {each.problem}"
            for each in gpu.devices
            if each.problem
        ]
    return found
