"""Each Event the agent writes, as a function."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from cdmo.agent.change import Outcome, Result
from cdmo.api.v1alpha1 import MigNode, MigNodeStatus, PodReference
from cdmo.kube.port import Event, Involved
from cdmo.model.cluster import NodeInfo
from cdmo.model.reasons import EventReason, ReadyReason

_STILL_FENCED = {
    ReadyReason.DRIVER_HUNG: EventReason.DRIVER_HUNG,
    ReadyReason.CHANGE_STUCK: EventReason.CHANGE_STUCK,
}


def of_change(node: NodeInfo, outcome: Outcome) -> Iterator[Event]:
    """What is worth telling about a change, on the Node; nothing when nothing was needed."""
    involved = Involved("Node", node.name, uid=node.uid)
    if outcome.result is Result.APPLIED:
        message = f"GPUs repartitioned, bindings were held back for {outcome.fenced_seconds:.2f} s"
        yield Event(involved, EventReason.REPARTITIONED, message)
    elif outcome.still_fenced:
        reason = _STILL_FENCED.get(outcome.reason, EventReason.PLUGIN_STUCK)
        yield Event(involved, reason, outcome.message, warning=True)
    elif outcome.reason is ReadyReason.CHANGE_STUCK:
        yield Event(involved, EventReason.CHANGE_STUCK, outcome.message, warning=True)
    elif outcome.result is not Result.UNNEEDED:
        yield Event(involved, EventReason.REPARTITION_FAILED, outcome.message, warning=True)
    if outcome.unasked:
        message = (
            "the scheduler could not be asked whether it knows of this node's change: a pod that it binds here by "
            "what it knew before would fail; the agent's log says what is in the way of the pod cdmo-witness-*"
        )
        yield Event(involved, EventReason.SCHEDULER_NOT_ASKED, message, warning=True)
    if outcome.fence_lapsed:
        message = (
            "bindings were possible while the GPUs were being changed: somebody removed the fence label or its "
            "admission policy"
        )
        yield Event(involved, EventReason.FENCE_LAPSED, message, warning=True)


def of_node(node: NodeInfo, reason: EventReason, message: str) -> Event:
    """Something that is wrong on the node."""
    return Event(Involved("Node", node.name, uid=node.uid), reason, message, warning=True)


def bad_spec(mignode: MigNode, message: str) -> Event:
    """A MigNode whose spec cannot be carried out, on the MigNode."""
    involved = Involved("MigNode", mignode.metadata.name, uid=mignode.metadata.uid)
    return Event(involved, EventReason.BAD_SPEC, message, warning=True)


def of_health(node: NodeInfo, before: MigNodeStatus, now: MigNodeStatus) -> Iterator[Event]:
    """What changed in the health of GPUs and slices: on the Node, and on every pod that uses what went wrong.

    It is told from the statuses alone, so it is told once, also where another agent reported it.
    """
    involved = Involved("Node", node.name, uid=node.uid)
    old, new = _troubles(before), _troubles(now)
    for place, trouble in new.items():
        name = _name(place, now)
        if trouble and trouble != old.get(place, ""):
            yield Event(involved, EventReason.GPU_UNHEALTHY, f"{name} is out of use: {trouble}", warning=True)
        elif not trouble and old.get(place, ""):
            yield Event(involved, EventReason.GPU_RECOVERED, f"{name} is back in use")
    told = frozenset(_pods_in_trouble(before))
    for pod, place, trouble in _pods_in_trouble(now):
        if (pod, place, trouble) not in told:
            yield Event(
                Involved("Pod", pod.name, pod.namespace, pod.uid),
                EventReason.GPU_UNHEALTHY,
                f"its {_name(place, now)} on node {node.name} is not to be relied on: {trouble}",
                warning=True,
            )


@dataclass(frozen=True, slots=True)
class _Place:
    """A GPU, or the slice at a slot of it."""

    gpu: str  # PCI bus id
    profile_id: int = -1
    start: int = -1


def _troubles(status: MigNodeStatus) -> dict[_Place, str]:
    """What is wrong with each GPU and each slice; empty for what is well."""
    found: dict[_Place, str] = {}
    for gpu in status.gpus:
        found[_Place(gpu.pci_bus_id)] = gpu.problem
        for each in gpu.devices:
            found[_Place(gpu.pci_bus_id, each.profile_id, each.start)] = each.problem
    return found


def _pods_in_trouble(status: MigNodeStatus) -> Iterator[tuple[PodReference, _Place, str]]:
    for gpu in status.gpus:
        for each in gpu.devices:
            trouble = each.problem or gpu.problem
            if each.pod is not None and trouble:
                yield each.pod, _Place(gpu.pci_bus_id, each.profile_id, each.start), trouble


def _name(place: _Place, status: MigNodeStatus) -> str:
    """`GPU 00000000:10:00.0`, or `slice 3g.40gb at slot 4 of GPU 00000000:10:00.0`."""
    if place.start < 0:
        return f"GPU {place.gpu}"
    gpu = next(each for each in status.gpus if each.pci_bus_id == place.gpu)
    profiles = status.models[gpu.model].profiles if gpu.model < len(status.models) else ()
    name = next((each.name for each in profiles if each.id == place.profile_id), f"of profile {place.profile_id}")
    return f"slice {name} at slot {place.start} of GPU {place.gpu}"
