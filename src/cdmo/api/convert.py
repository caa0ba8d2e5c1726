"""Between the API's MigNode and the model: the only place that knows both."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache

from cdmo.api.v1alpha1 import (
    EngineCounts,
    GpuLayout,
    MigNode,
    ModelProfile,
    ObservedModel,
    PlacedProfile,
)
from cdmo.errors import BadSpec
from cdmo.model.gpu import DeviceState, Gpu, MigMode, Placement, PodKey, Slice
from cdmo.model.profile import Engines, GpuModel, Profile

# Of what an agent reports: an agent that lies must not make the planner work for seconds on its node alone.
MOST_MODELS = 8  # of one node; real ones have one, or two
MOST_PLACEMENTS = 64  # of one card; today's have at most 30

Layouts = dict[str, tuple[Placement, ...]]  # desired placements, ascending, by PCI bus id
Withheld = Mapping[str, tuple[Placement, ...]]  # those of a layout that no new pod may get, by PCI bus id


def model_to_api(model: GpuModel) -> ObservedModel:
    """A model's profile table as the agent reports it."""
    return ObservedModel(
        product=model.product[:127],
        memory_slots=model.memory_slots,
        profiles=tuple(
            ModelProfile(
                id=each.id,
                name=each.name,
                resource=each.resource,
                compute_slices=each.compute_slices,
                size=each.size,
                starts=each.starts,
                max=each.max_instances,
                memory_mib=each.memory_mib,
                engines=EngineCounts(
                    decoder=each.engines.decoder,
                    encoder=each.engines.encoder,
                    jpeg=each.engines.jpeg,
                    ofa=each.engines.ofa,
                ),
            )
            for each in model.profiles
        ),
    )


@lru_cache(maxsize=1024)
def models_from_api(observed: tuple[ObservedModel, ...]) -> tuple[GpuModel, ...]:
    """The models of a node. Nodes that report the same share them: a cluster has few sorts of nodes.

    What no node has is not believed: nothing can be cut from models beyond MOST_MODELS.
    """
    believed = tuple(map(model_from_api, observed[:MOST_MODELS]))
    return (*believed, *(GpuModel(each.product, 0, ()) for each in observed[MOST_MODELS:]))


def model_from_api(observed: ObservedModel) -> GpuModel:
    """The model an agent reported; without profiles when it has more than MOST_PLACEMENTS."""
    if sum(len(each.starts) for each in observed.profiles) > MOST_PLACEMENTS:
        return GpuModel(observed.product, 0, ())
    return GpuModel(
        product=observed.product,
        memory_slots=observed.memory_slots,
        profiles=tuple(
            Profile(
                id=each.id,
                name=each.name,
                resource=each.resource,
                compute_slices=each.compute_slices,
                size=each.size,
                starts=each.starts,
                max_instances=each.max,
                memory_mib=each.memory_mib,
                engines=Engines(
                    decoder=each.engines.decoder,
                    encoder=each.engines.encoder,
                    jpeg=each.engines.jpeg,
                    ofa=each.engines.ofa,
                ),
            )
            for each in observed.profiles
        ),
    )


def gpus_from_api(node: MigNode) -> tuple[Gpu, ...]:
    """The GPUs an agent reported; words this version does not know make a GPU unhealthy, never an error."""
    return tuple(
        Gpu(
            pci_bus_id=each.pci_bus_id,
            uuid=each.uuid,
            model=each.model,
            mig_mode=_mig_mode(each.mig_mode),
            slices=tuple(
                Slice(
                    placement=Placement(device.profile_id, device.start),
                    state=_device_state(device.state),
                    uuid=device.uuid,
                    pod=PodKey(device.pod.namespace, device.pod.name, device.pod.uid) if device.pod else None,
                )
                for device in each.devices
            ),
            healthy=not each.problem and each.model < len(node.status.models),
            problem=each.problem,
        )
        for each in node.status.gpus
    )


def layouts_from_spec(node: MigNode) -> Layouts:
    """Desired layouts by PCI bus id. Raises BadSpec naming the field when the spec contradicts itself."""
    layouts: Layouts = {}
    for index, gpu in enumerate(node.spec.gpus):
        field = f"MigNode {node.metadata.name} spec.gpus[{index}]"
        if gpu.pci_bus_id in layouts:
            raise BadSpec(f"{field}.pciBusId: {gpu.pci_bus_id} is listed twice", hint="list each GPU once")
        placements = tuple(sorted(Placement(each.profile_id, each.start) for each in gpu.layout))
        if len(set(placements)) != len(placements):
            raise BadSpec(f"{field}.layout: the same placement is listed twice", hint="list each placement once")
        layouts[gpu.pci_bus_id] = placements
    return layouts


def withheld_from_spec(node: MigNode) -> Withheld:
    """Withheld placements by PCI bus id, GPUs without any left out. Raises BadSpec naming the field."""
    withheld: dict[str, tuple[Placement, ...]] = {}
    for index, gpu in enumerate(node.spec.gpus):
        foreign = [each for each in gpu.withheld if each not in gpu.layout]
        if foreign:
            raise BadSpec(
                f"MigNode {node.metadata.name} spec.gpus[{index}].withheld: profile {foreign[0].profile_id} at slot "
                f"{foreign[0].start} is not part of the layout",
                hint="withhold only what the layout of the same GPU lists",
            )
        if gpu.withheld:
            placements = {Placement(each.profile_id, each.start) for each in gpu.withheld}
            withheld[gpu.pci_bus_id] = tuple(sorted(placements))
    return withheld


def layouts_to_spec(layouts: Layouts, withheld: Withheld) -> tuple[GpuLayout, ...]:
    """Desired layouts as `spec.gpus`, in a stable order; of `withheld` what the layouts hold."""
    return tuple(
        GpuLayout(
            pci_bus_id=bus,
            layout=_placed(placements),
            withheld=_placed(sorted(frozenset(withheld.get(bus, ())) & frozenset(placements))),
        )
        for bus, placements in sorted(layouts.items())
    )


def _placed(placements: Iterable[Placement]) -> tuple[PlacedProfile, ...]:
    return tuple(PlacedProfile(profile_id=each.profile_id, start=each.start) for each in placements)


def _mig_mode(word: str) -> MigMode:
    return MigMode(word) if word in frozenset(MigMode) else MigMode.UNSUPPORTED


def _device_state(word: str) -> DeviceState:
    # An unknown word may mean "in use": nothing is ever destroyed on a guess.
    return DeviceState(word) if word in frozenset(DeviceState) else DeviceState.IN_USE
