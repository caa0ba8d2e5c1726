"""What contradicts itself in a MigNode that came from a file, and what is left of it for planning.

The API server and the agents see to it that a live MigNode is sound; a file may hold anything. A GPU that cannot be
as it is said to be takes no part in the plan, a profile that no card can have is left out, and a sentence says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from msgspec import structs

from cdmo.model.gpu import Gpu, Placement
from cdmo.model.profile import GpuModel, Profile
from cdmo.model.snapshot import MigNodeView

SLOT_LIMIT = 32  # memory slots of a card; the largest has 12

Tell = Callable[[str, str], None]  # a field and a sentence about it


def checked(view: MigNodeView, tell: Tell) -> MigNodeView:
    """The view without what contradicts itself, each told as a field and a sentence about it."""
    own = f"MigNode {view.node.name} spec."
    if view.problem.startswith(own):  # layouts that list something twice
        field, _, sentence = view.problem.removeprefix(own).partition(": ")
        tell(f"spec.{field}", sentence)
    models = tuple(_model(model, f"status.models[{index}]", tell) for index, model in enumerate(view.models))
    gpus: dict[str, Gpu] = {}
    for index, gpu in enumerate(view.gpus):
        field = f"status.gpus[{index}]"
        bus = gpu.pci_bus_id
        if bus in gpus:
            tell(f"{field}.pciBusId", f"{bus} is listed twice; nothing is planned on this GPU")
            gpus[bus] = _unfit(gpus[bus], "its status lists it twice")
        else:
            gpus[bus] = _gpu(gpu, models, field, tell)
    for bus, layout in view.desired.items():
        field = f"spec.gpus ({bus})"
        if bus not in gpus:
            tell(field, "its status has no such GPU")
        elif gpus[bus].model < len(models):
            fault = _fault(layout, models[gpus[bus].model])
            if fault:
                tell(field, f"{fault[1]}; what cannot be is not planned with")
    return replace(view, models=models, gpus=tuple(gpus.values()))


def _model(model: GpuModel, field: str, tell: Tell) -> GpuModel:
    slots = model.memory_slots
    if not 0 < slots <= SLOT_LIMIT:
        tell(f"{field}.memorySlots", f"no card has {slots} memory slots; its profiles are left out")
        return structs.replace(model, memory_slots=0, profiles=())
    return structs.replace(model, profiles=tuple(_profiles(model, field, tell)))


def _profiles(model: GpuModel, field: str, tell: Tell) -> Iterator[Profile]:
    ids: set[int] = set()
    for index, profile in enumerate(model.profiles):
        where = f"{field}.profiles[{index}]"
        if profile.id in ids:
            tell(f"{where}.id", f"profile {profile.id} is listed twice; the first one counts")
            continue
        if not 0 < profile.size <= model.memory_slots:
            tell(f"{where}.size", f"{profile.size} memory slots of {model.memory_slots}; the profile is left out")
            continue
        ids.add(profile.id)
        starts = sorted({each for each in profile.starts if each + profile.size <= model.memory_slots})
        if len(starts) != len(profile.starts):
            tell(f"{where}.starts", "a start stands twice or reaches beyond the card; it is left out")
        yield structs.replace(profile, starts=tuple(starts))


def _gpu(gpu: Gpu, models: Sequence[GpuModel], field: str, tell: Tell) -> Gpu:
    if gpu.model >= len(models):
        tell(f"{field}.model", f"status.models has no entry {gpu.model}; nothing is planned on this GPU")
        return _unfit(gpu, "its model is not reported")
    fault = _fault([each.placement for each in gpu.slices], models[gpu.model])
    if fault:
        index, sentence = fault
        tell(f"{field}.devices[{index}]", f"{sentence}; nothing is planned on this GPU")
        return _unfit(gpu, "its status contradicts itself")
    return gpu


def _unfit(gpu: Gpu, problem: str) -> Gpu:
    return replace(gpu, healthy=False, problem=problem)


def _fault(placements: Sequence[Placement], model: GpuModel) -> tuple[int, str] | None:
    """Position and sentence of the first placement that cannot be, or cannot be beside those before it."""
    profiles = {each.id: each for each in model.profiles}
    taken: dict[int, Placement] = {}
    for index, each in enumerate(placements):
        profile = profiles.get(each.profile_id)
        if profile is None:
            return index, f"{model.product} has no profile {each.profile_id}"
        if each.start not in profile.starts:
            return index, f"{model.product} has no placement of {_text(each, profile)}"
        for slot in range(each.start, each.start + profile.size):
            if slot in taken:
                other = taken[slot]
                return index, f"{_text(each, profile)} overlaps {_text(other, profiles[other.profile_id])}"
            taken[slot] = each
    return None


def _text(placement: Placement, profile: Profile) -> str:
    return f"profile {profile.id} ({profile.name}) at slot {placement.start}"
