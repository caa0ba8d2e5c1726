"""PURE: what must be done to a node's GPUs, as an ordered list of steps, each with its undo.

Destroys come before creates, GPU by GPU, and a switch of the MIG mode (modes.py) between them. A GPU that the spec
does not name is left as it is, but for its mode. An instance that
the controller had not seen when it planned (its revision is younger than `spec.observedRevision`) is adopted:
it is never destroyed, and a create that would overlap it is left out until the controller has seen it. An idle
instance that an error hit is destroyed and created anew in its place, which nobody needs to plan.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from cdmo.agent.modes import STAYS, GpuMode, ModeWish
from cdmo.errors import BadSpec
from cdmo.model.gpu import MigMode, Placement
from cdmo.model.profile import GpuModel
from cdmo.planner.placement import table_of


class Action(StrEnum):
    """What a step does."""

    ENABLE_MIG = "EnableMig"
    DISABLE_MIG = "DisableMig"
    RESET = "Reset"  # of the GPU, for a mode that the driver has only noted
    DESTROY = "Destroy"
    CREATE = "Create"


@dataclass(frozen=True, slots=True)
class Step:
    """One change of one GPU. Its precondition: DESTROY finds the instance idle, CREATE finds its slots free, every
    other that nothing uses the GPU."""

    action: Action
    gpu: str  # PCI bus id
    placement: Placement | None = None  # of DESTROY and CREATE

    @property
    def undo(self) -> Step | None:
        """The step that takes this one back; the mode of a GPU is not taken back."""
        match self.action:
            case Action.DESTROY:
                return Step(Action.CREATE, self.gpu, self.placement)
            case Action.CREATE:
                return Step(Action.DESTROY, self.gpu, self.placement)
        return None

    def __str__(self) -> str:
        where = f" profile {self.placement.profile_id} at slot {self.placement.start}" if self.placement else ""
        return f"{self.action}{where} on GPU {self.gpu}"


@dataclass(frozen=True, slots=True)
class SeenInstance:
    """A GPU instance as the steps need it."""

    placement: Placement
    revision: int  # status.revision at which it was first reported
    broken: bool = False  # no full-width compute instance in it
    ours: bool = False  # the journal says that CDMO was making it when it was interrupted
    unhealthy: bool = False  # idle, and an error hit it

    @property
    def to_renew(self) -> bool:
        """Whether it is to be destroyed and created anew where it is wanted."""
        return self.unhealthy or (self.broken and self.ours)


@dataclass(frozen=True, slots=True)
class SeenGpu:
    """A GPU as the steps need it."""

    pci_bus_id: str
    mig_mode: MigMode
    model: GpuModel
    instances: tuple[SeenInstance, ...] = ()
    problem: str = ""
    resetless: bool = True  # its mode switches without a reset
    wish: ModeWish = STAYS

    @property
    def mode(self) -> GpuMode:
        """As far as its mode goes."""
        return GpuMode(self.pci_bus_id, self.mig_mode, self.resetless, self.wish)


@dataclass(frozen=True, slots=True)
class Steps:
    """What to do now, and what cannot be done now with the reason."""

    steps: tuple[Step, ...] = ()
    held_back: tuple[str, ...] = ()
    take_back: bool = True  # what was done before a step that fails

    def without_gpu(self, pci_bus_id: str, reason: str) -> Steps:
        """The same without anything on one GPU."""
        rest = tuple(each for each in self.steps if each.gpu != pci_bus_id)
        return replace(self, steps=rest, held_back=(*self.held_back, reason))


def steps_for(
    layouts: Mapping[str, tuple[Placement, ...]], gpus: tuple[SeenGpu, ...], observed_revision: int
) -> Steps:
    """The steps from what is to what is wanted. Raises BadSpec when a layout cannot exist on its GPU."""
    known = {each.pci_bus_id: each for each in gpus}
    steps: list[Step] = []
    held_back: list[str] = []
    for bus in sorted(layouts.keys() | known.keys()):
        gpu = known.get(bus)
        if gpu is None:
            raise BadSpec(
                f"spec.gpus: this node has no GPU {bus}",
                hint=f"the GPUs here are {', '.join(sorted(known)) or 'none'}",
            )
        wanted = layouts.get(bus)
        if wanted is None:
            wanted = tuple(each.placement for each in gpu.instances)
        else:
            _check(gpu, wanted)
        done, left = _steps_for_gpu(gpu, wanted, observed_revision)
        steps += done
        held_back += left
    return Steps(tuple(steps), tuple(held_back))


def _check(gpu: SeenGpu, wanted: tuple[Placement, ...]) -> None:
    problem = table_of(gpu.model).fault(wanted)
    if problem:
        raise BadSpec(
            f"spec.gpus[{gpu.pci_bus_id}].layout cannot exist on a {gpu.model.product}: {problem}",
            hint="take `gpus` out of the spec; the controller writes it anew",
        )


def _steps_for_gpu(
    gpu: SeenGpu, wanted: tuple[Placement, ...], observed_revision: int
) -> tuple[list[Step], list[str]]:
    there = {each.placement: each for each in gpu.instances}
    wrong = [each for each in gpu.instances if each.placement not in wanted or each.to_renew]
    missing = [each for each in wanted if each not in there or there[each].to_renew]
    switching = _switch(gpu)
    if not wrong and not missing and not switching:
        return [], []
    if gpu.problem:
        return [], [f"GPU {gpu.pci_bus_id}: {gpu.problem}"]
    adopted = [each for each in wrong if each.revision > observed_revision and not (each.ours or each.unhealthy)]
    steps = [
        Step(Action.DESTROY, gpu.pci_bus_id, each.placement)
        for each in sorted(wrong, key=_where)
        if each not in adopted
    ]
    steps += switching
    if gpu.mig_mode is not MigMode.ENABLED and not _comes_on(gpu):
        return steps, [f"GPU {gpu.pci_bus_id}: MIG mode is {gpu.mig_mode}"] if missing else []
    held_back: list[str] = []
    for each in sorted(missing, key=lambda placement: (placement.start, placement.profile_id)):
        blocker = next((other for other in adopted if _overlap(gpu.model, each, other.placement)), None)
        if blocker is None:
            steps.append(Step(Action.CREATE, gpu.pci_bus_id, each))
        else:
            held_back.append(
                f"GPU {gpu.pci_bus_id}: profile {each.profile_id} at slot {each.start} waits, the controller has "
                f"not yet seen profile {blocker.placement.profile_id} at slot {blocker.placement.start}"
            )
    return steps, held_back


def _switch(gpu: SeenGpu) -> list[Step]:
    mode, steps = gpu.mode, []
    if mode.to_switch:
        steps.append(Step(Action.ENABLE_MIG if gpu.wish.on else Action.DISABLE_MIG, gpu.pci_bus_id))
    if mode.to_reset:
        steps.append(Step(Action.RESET, gpu.pci_bus_id))
    return steps


def _comes_on(gpu: SeenGpu) -> bool:
    """Whether MIG mode is on once the GPU's steps are done."""
    mode = gpu.mode
    at_once = mode.to_switch and (gpu.resetless or gpu.mig_mode is MigMode.DISABLE_PENDING)
    return bool(gpu.wish.on) and (at_once or mode.to_reset)


def _where(instance: SeenInstance) -> tuple[int, int]:
    return instance.placement.start, instance.placement.profile_id


def _overlap(model: GpuModel, one: Placement, other: Placement) -> bool:
    """Whether two placements share a memory slot; one of a profile the model does not list overlaps everything."""
    sizes = [profile.size if (profile := model.profile(each.profile_id)) else None for each in (one, other)]
    if sizes[0] is None or sizes[1] is None:
        return True
    return one.start < other.start + sizes[1] and other.start < one.start + sizes[0]
