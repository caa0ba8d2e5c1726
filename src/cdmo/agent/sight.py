"""What an observation means, together with what earlier ones showed: which instances are new, whose they are, which
modes a reboot took."""

from __future__ import annotations

from cdmo.agent.journal import Entry
from cdmo.agent.lost_modes import LostModes
from cdmo.agent.observe import Observation
from cdmo.agent.revisions import Revisions, key_of
from cdmo.agent.steps import SeenGpu, SeenInstance
from cdmo.agent.wanted import Wanted
from cdmo.api.v1alpha1 import MigNodeStatus
from cdmo.hardware.port import GpuReading
from cdmo.model.gpu import DeviceState, Placement


class Sight:
    """The memory of one agent. It begins with what the last agent of this node reported."""

    def __init__(self, status: MigNodeStatus, boot_id: str, lost_modes: LostModes) -> None:
        self.revisions = Revisions(status)
        self._lost_modes = lost_modes
        self._half_made: frozenset[tuple[str, Placement]] = frozenset()  # instances of an interrupted change
        lost_modes.begin(status, boot_id)

    def see(self, observation: Observation) -> None:
        """Take in an observation."""
        self.revisions.see(observation.driver)
        self._lost_modes.see(observation.driver)

    def gpus(self, observation: Observation, wanted: Wanted, interrupted: Entry | None) -> tuple[SeenGpu, ...]:
        """The GPUs as the steps need them. `interrupted`: the change that this one has to end."""
        ours = self._half_made | (interrupted.being_made() if interrupted else frozenset())
        # Remembered beyond the change that finds them: it may have to leave their GPU alone.
        self._half_made = frozenset(
            (gpu.pci_bus_id, each.placement)
            for gpu in observation.driver.gpus
            for each in gpu.instances
            if observation.state_of(each) is DeviceState.BROKEN and (gpu.pci_bus_id, each.placement) in ours
        )
        return tuple(self._gpu(observation, gpu, wanted, ours) for gpu in observation.driver.gpus)

    def _gpu(
        self, observation: Observation, gpu: GpuReading, wanted: Wanted, ours: frozenset[tuple[str, Placement]]
    ) -> SeenGpu:
        return SeenGpu(
            pci_bus_id=gpu.pci_bus_id,
            mig_mode=gpu.mig_mode,
            model=gpu.model,
            instances=tuple(
                SeenInstance(
                    placement=each.placement,
                    revision=self.revisions.of(key_of(gpu.pci_bus_id, each)),
                    broken=observation.state_of(each) is DeviceState.BROKEN,
                    ours=(gpu.pci_bus_id, each.placement) in ours,
                    unhealthy=observation.state_of(each) is DeviceState.UNHEALTHY,
                )
                for each in gpu.instances
            ),
            problem=gpu.trouble,
            resetless=gpu.hopper_or_later,
            wish=wanted.wish(gpu, lost=self._lost_modes.lost(gpu)),
        )
