"""PURE: what a Node offers of each MIG resource: how many devices there are, and how many the scheduler may give.

The scheduler counts, the kubelet picks. A pod that ends on a withheld slice leaves room in the scheduler's count at
once, before anybody can destroy the slice, so the count must be lower beforehand:

    some withheld slice is free, or nothing else is      allocatable = devices - withheld
    every withheld slice is held, and others are free    allocatable = devices

A device that nobody is to get because something went wrong on it counts for nobody, in use or not: the kubelet counts
the devices that its plugin holds unhealthy in the same way.

The second case keeps a window from costing what lies outside it: the scheduler subtracts every running pod, also
those on withheld slices, so under the lower count an idle slice on another GPU would be out of reach for as long as
they run. Withholding only lowers allocatable. The kubelet decides by its own devices and leaves running pods alone:
a number that is too low costs a wait and never a pod.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from cdmo.agent.observe import Observation, servable
from cdmo.api.convert import Withheld
from cdmo.model.cluster import NodeInfo, PodInfo
from cdmo.model.names import is_mig_resource


@dataclass(frozen=True, slots=True)
class Offer:
    """Devices by extended resource; a resource that is not named has none."""

    capacity: Mapping[str, int] = field(default_factory=dict)
    allocatable: Mapping[str, int] = field(default_factory=dict)

    @property
    def lowered(self) -> bool:
        """Whether some device is kept from the scheduler."""
        return self.capacity != self.allocatable

    def shown_by(self, node: NodeInfo) -> bool:
        """Whether the scheduler sees this offer."""
        resources = {*self.allocatable, *(name for name in node.allocatable if is_mig_resource(name))}
        return all(node.allocatable.get(name, 0) == self.allocatable.get(name, 0) for name in resources)


def offer_of(observation: Observation, withheld: Withheld, bound: Iterable[PodInfo]) -> Offer:
    """The offer that fits what is on the node; `bound` are the pods that the scheduler counts there.

    What is free is told from devices, not from a difference of counts: a pod that ended or was bound between the two
    looks would make that difference wrong, and a whole count that is offered wrongly lets somebody into a window.
    """
    devices = observation.expected_devices()
    capacity = {resource: len(ids) for resource, ids in devices.items()}
    doubtful = observation.doubtful_devices()
    usable = {resource: ids - doubtful for resource, ids in devices.items()}
    allocatable = {resource: len(ids) for resource, ids in usable.items()}
    kept_back = _devices_at(observation, withheld)
    if not kept_back:
        return Offer(capacity, allocatable)
    coming = _coming(observation, devices, bound)
    for resource, ids in usable.items():
        # A device without a holder is free for the kubelet, also while a process lingers on it.
        free = ids - observation.holders.keys()
        if free & kept_back or len(free) <= coming[resource]:
            allocatable[resource] -= len(ids & kept_back)
    return Offer(capacity, allocatable)


def _coming(
    observation: Observation, devices: Mapping[str, frozenset[str]], bound: Iterable[PodInfo]
) -> Counter[str]:
    """How many devices bound pods have asked for and do not show, by resource: they are about to be taken."""
    shown: Counter[tuple[str, str, str]] = Counter()
    for resource, ids in devices.items():
        for holder in (observation.holders[each] for each in ids & observation.holders.keys()):
            shown[(holder.namespace, holder.name, resource)] += 1
    coming: Counter[str] = Counter()
    for pod in bound:
        if pod.node_name and not pod.finished:
            for resource, count in pod.demand:
                coming[resource] += max(0, count - shown[(pod.key.namespace, pod.key.name, resource)])
    return coming


def _devices_at(observation: Observation, withheld: Withheld) -> frozenset[str]:
    """The devices at these placements, as far as they exist."""
    return frozenset(
        instance.device_uuid
        for gpu in observation.driver.gpus
        for instance in servable(gpu)
        if instance.placement in withheld.get(gpu.pci_bus_id, ())
    )
