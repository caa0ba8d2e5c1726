"""Which revision of the status first reported an instance: what makes "the controller has seen it" exact.

The status carries a revision that grows whenever the set of instances changes, and each device the revision it
was first reported at. The controller copies the status' revision into the spec it plans from, so an instance
whose revision is younger than the spec's was not seen, and is never destroyed on that spec's word.
"""

from __future__ import annotations

from dataclasses import dataclass

from cdmo.api.v1alpha1 import MigNodeStatus
from cdmo.hardware.port import DriverReading, GpuInstance
from cdmo.model.gpu import Placement


@dataclass(frozen=True, slots=True, order=True)
class InstanceKey:
    """An instance over time. The MIG UUID alone is no identity: it comes back when the same id is cut again."""

    gpu: str  # PCI bus id
    placement: Placement
    uuid: str


class Revisions:
    """Remembers the revision of every instance there is."""

    def __init__(self, status: MigNodeStatus) -> None:
        self.current = status.revision
        self._first = {
            InstanceKey(gpu.pci_bus_id, Placement(each.profile_id, each.start), each.uuid): each.revision
            for gpu in status.gpus
            for each in gpu.devices
        }

    def see(self, driver: DriverReading) -> None:
        """Take in an observation: new instances get the next revision, as does their disappearance."""
        there = {key_of(gpu.pci_bus_id, each) for gpu in driver.gpus for each in gpu.instances}
        if there == self._first.keys():
            return
        self.current += 1
        self._first = {key: self._first.get(key, self.current) for key in there}

    def of(self, key: InstanceKey) -> int:
        """The revision that first reported the instance; of one never seen, the next one."""
        return self._first.get(key, self.current + 1)


def key_of(bus: str, instance: GpuInstance) -> InstanceKey:
    """The key of a GPU instance."""
    return InstanceKey(bus, instance.placement, instance.device_uuid)
