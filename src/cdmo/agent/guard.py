"""PURE: the last look before anything is destroyed.

A slice may go only if no pod holds it (the kubelet's PodResources, and the device ids in the pods' status), no
process runs on it, and what stays covers the demand of every pod bound to the node. A force-deleted pod frees
its device in the kubelet while its process still runs: that is why both are asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cdmo.agent.steps import Action, Step
from cdmo.model.cluster import PodInfo
from cdmo.model.gpu import PodKey
from cdmo.model.names import RESOURCE_PREFIX, is_whole_gpu_resource


@dataclass(frozen=True, slots=True)
class Witness:
    """What is known of one existing slice at the moment of the last look."""

    resource: str
    uuid: str
    processes: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class GpuWitness:
    """What is known of one GPU: needed before its MIG mode is switched or it is reset."""

    uuid: str
    processes: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that the guard judges by, gathered inside the fence."""

    slices: Mapping[tuple[str, tuple[int, int]], Witness]  # (PCI bus id, (profile id, start))
    gpus: Mapping[str, GpuWitness]
    holders: Mapping[str, PodKey]  # device id -> pod, from PodResources and from the pods' status
    bound: tuple[PodInfo, ...]  # pods bound or nominated to the node
    hidden: Mapping[str, PodKey]  # resource -> a running pod that holds some of it, nobody says which


def refusals(steps: tuple[Step, ...], evidence: Evidence) -> dict[str, str]:
    """Why GPUs must be left alone, by PCI bus id; a GPU that is not named may be changed."""
    refused: dict[str, str] = {}
    for step in steps:
        reason = _refusal(step, evidence)
        if reason and step.gpu not in refused:
            refused[step.gpu] = reason
    short = _uncovered(steps, evidence)
    for step in steps:
        if step.action is not Action.DESTROY or step.placement is None or step.gpu in refused:
            continue
        witness = evidence.slices.get((step.gpu, (step.placement.profile_id, step.placement.start)))
        if witness is not None and witness.resource in short:
            refused[step.gpu] = short[witness.resource]
    return refused


def hidden_resources(pods: tuple[PodInfo, ...], holders: Mapping[str, PodKey]) -> dict[str, PodKey]:
    """Resources of running pods that show fewer devices than they asked for, as pods do whose init containers
    alone ask for GPUs: the kubelet holds the device for the pod's life but lists it nowhere."""
    return {
        resource: pod.key
        for pod in unexplained(pods, holders)
        if pod.phase == "Running"
        for resource, count in pod.requests.items()
        if count and resource.startswith(RESOURCE_PREFIX)
    }


def unexplained(pods: tuple[PodInfo, ...], holders: Mapping[str, PodKey]) -> tuple[PodInfo, ...]:
    """Bound pods that ask for GPU resources and show fewer devices than they asked for.

    Such a pod is about to be admitted: nothing may be destroyed and the device plugin must not be disturbed.
    Pods that are only nominated to the node are not waited for: the fence refuses their binding.
    """
    shown: dict[tuple[str, str], int] = {}
    for holder in holders.values():
        key = (holder.namespace, holder.name)
        shown[key] = shown.get(key, 0) + 1
    return tuple(
        pod
        for pod in pods
        if pod.node_name
        and not pod.finished
        and sum(count for name, count in pod.requests.items() if name.startswith(RESOURCE_PREFIX))
        > shown.get((pod.key.namespace, pod.key.name), 0)
    )


def _refusal(step: Step, evidence: Evidence) -> str:
    if step.action in (Action.ENABLE_MIG, Action.DISABLE_MIG, Action.RESET):
        return _use_as_a_whole(step.gpu, evidence)
    if step.action is not Action.DESTROY or step.placement is None:
        return ""
    witness = evidence.slices.get((step.gpu, (step.placement.profile_id, step.placement.start)))
    if witness is None:
        return ""
    where = f"{witness.resource} at slot {step.placement.start} of GPU {step.gpu}"
    if witness.resource in evidence.hidden:
        return f"{where} may be the one that pod {evidence.hidden[witness.resource]} holds without showing it"
    holder = evidence.holders.get(witness.uuid) if witness.uuid else None
    if holder is not None:
        return f"{where} is held by pod {holder}"
    if witness.processes:
        return f"{where} still has process {witness.processes[0]} running on it"
    return ""


def _use_as_a_whole(bus: str, evidence: Evidence) -> str:
    gpu = evidence.gpus.get(bus)
    if gpu is None:
        return ""
    for device, pod in evidence.holders.items():
        # A GPU that pods share is several devices of the plugin: "GPU-…::0", "GPU-…::1".
        if device.partition("::")[0] == gpu.uuid:
            return f"GPU {bus} is held as a whole by pod {pod}"
    if gpu.processes:
        return f"GPU {bus} still has process {gpu.processes[0]} running on it"
    for resource, pod in evidence.hidden.items():
        if is_whole_gpu_resource(resource):
            return f"GPU {bus} may be the one that pod {pod} holds without showing it"
    return ""


def _uncovered(steps: tuple[Step, ...], evidence: Evidence) -> dict[str, str]:
    """Resources of which too few would stay for the pods bound here, with the sentence that says so."""
    going = {
        (step.gpu, (step.placement.profile_id, step.placement.start))
        for step in steps
        if step.action is Action.DESTROY and step.placement is not None
    }
    left: dict[str, int] = {}
    for key, witness in evidence.slices.items():
        left[witness.resource] = left.get(witness.resource, 0) + (key not in going)
    asked: dict[str, int] = {}
    for pod in evidence.bound:
        if not pod.finished:
            for resource, count in pod.demand:
                asked[resource] = asked.get(resource, 0) + count
    return {
        resource: f"pods bound to the node ask for {count} {resource}, only {left.get(resource, 0)} would stay"
        for resource, count in asked.items()
        if count > left.get(resource, 0)
    }
