"""PURE: what is wanted of a node's GPUs now, from the Node's label and annotation and from its MigNode."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from cdmo.agent.modes import ModeReport, ModeWish, mode_report, wish_for
from cdmo.agent.observe import Observation
from cdmo.agent.steps import SeenGpu, Steps, steps_for
from cdmo.api.convert import Withheld, layouts_from_spec, withheld_from_spec
from cdmo.api.v1alpha1 import MigNode, Mode
from cdmo.hardware.port import GpuReading
from cdmo.model.cluster import NodeInfo, labelled
from cdmo.model.gpu import Placement
from cdmo.model.modes import ModePolicy, policy_of


@dataclass(frozen=True, slots=True)
class Wanted:
    """One answer for everything that looks at a node's GPUs."""

    managed: bool  # the label is there; without it nothing is changed
    mode: Mode
    policy: ModePolicy
    observed_revision: int
    layouts: Mapping[str, tuple[Placement, ...]] = field(default_factory=dict)
    _withheld: Withheld = field(default_factory=dict)

    def wish(self, gpu: GpuReading, *, lost: bool) -> ModeWish:
        """What is wanted of a GPU's MIG mode; `lost`: a reboot took it."""
        return wish_for(self.mode, self.policy, lost=lost, can_be_cut=bool(gpu.model.profiles))

    def steps(self, gpus: tuple[SeenGpu, ...]) -> Steps:
        """The steps from what is to what is wanted. Raises BadSpec when a layout cannot exist on its GPU."""
        if self.mode is Mode.MANAGED:
            return steps_for(self.layouts, gpus, self.observed_revision)
        # An administrator wants every slice gone, whether the controller has seen it or not, and none back.
        newest = max((each.revision for gpu in gpus for each in gpu.instances), default=0)
        steps = steps_for({each.pci_bus_id: () for each in gpus}, gpus, newest)
        return Steps(steps.steps, steps.held_back, take_back=False)

    def modes(self, gpus: tuple[SeenGpu, ...], held_back: Iterable[str]) -> ModeReport:
        """What is told about the GPUs' MIG modes; `held_back`: why some are left alone."""
        return mode_report((each.mode for each in gpus), held_back)

    def withheld(self, observation: Observation) -> Withheld:
        """What is kept from the scheduler: nothing where CDMO changes nothing, everything that is to go."""
        if not self.managed:
            return {}
        if self.mode is Mode.MANAGED:
            return self._withheld
        return {gpu.pci_bus_id: tuple(each.placement for each in gpu.instances) for gpu in observation.driver.gpus}


def wanted_of(node: NodeInfo, mignode: MigNode, default: ModePolicy) -> Wanted:
    """What Node and MigNode ask for. Raises BadSpec when the spec contradicts itself."""
    wanted = without_spec(node, mignode, default)
    if wanted.mode is Mode.DISABLED:
        return wanted
    layouts, withheld = layouts_from_spec(mignode), withheld_from_spec(mignode)
    return Wanted(wanted.managed, wanted.mode, wanted.policy, wanted.observed_revision, layouts, withheld)


def without_spec(node: NodeInfo, mignode: MigNode, default: ModePolicy) -> Wanted:
    """The same where nothing is known of the layouts: every GPU stays as it is."""
    policy = policy_of(node.mig_mode, default)
    return Wanted(labelled(node), mignode.spec.mode, policy, mignode.spec.observed_revision)
