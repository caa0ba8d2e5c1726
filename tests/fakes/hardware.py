"""GPUs in memory that refuse as the driver does: GpuReader and GpuWriter without NVML.

A test arranges through the knobs: processes, failures of the next calls, lost GPUs, resets, reboots.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count

from cdmo.errors import CdmoError, GpuLost, InUse, NoRoom, NotAllowed, NotSupported, NotThere
from cdmo.hardware.port import ComputeInstance, DriverReading, GpuHealth, GpuInstance, GpuReading
from cdmo.model.gpu import MigMode, Placement
from cdmo.model.profile import Engines, Profile
from tests.fakes.cards import Card, card

_NAMESPACE = uuid.UUID("51a70000-0000-4000-8000-000000000000")
_ON = (MigMode.ENABLED, MigMode.DISABLE_PENDING)


@dataclass
class FakeGpu:
    """One GPU. `hollow`: ids of GPU instances without a compute instance."""

    card: Card
    pci_bus_id: str
    uuid: str
    minor: int
    mig_mode: MigMode = MigMode.DISABLED
    instances: dict[int, Placement] = field(default_factory=dict)  # by GPU instance id
    hollow: set[int] = field(default_factory=set)
    processes: dict[int, str] = field(default_factory=dict)  # process id -> uuid of slice or GPU
    lost: bool = False
    ecc: bool = False  # uncorrectable errors in its memory since the last reset
    remap_pending: bool = False
    remap_failed: bool = False
    recovery_action: int = 0
    faults: tuple[str, ...] = ()
    opened_by: tuple[str, ...] = ()  # programs that have it open, which keeps it from being reset
    slice_faults: dict[int, str] = field(default_factory=dict)  # by GPU instance id

    def __post_init__(self) -> None:
        if not self.card.model.profiles:
            self.mig_mode = MigMode.UNSUPPORTED

    def profile(self, placement: Placement) -> Profile:
        """The profile of a placement. Raises NotThere."""
        found = self.card.model.profile(placement.profile_id)
        if found is None or placement.start not in found.starts:
            raise NotThere(f"{self.pci_bus_id} has no placement {placement}")
        return found

    def slice_uuid(self, instance_id: int) -> str:
        """Made from the ids alone, so the same ids give the same UUID, as with the real driver."""
        return f"MIG-{uuid.uuid5(_NAMESPACE, f'{self.uuid}/{instance_id}/0')}"

    def users(self, device: str) -> tuple[int, ...]:
        """Processes on a slice or on the whole GPU."""
        return tuple(sorted(pid for pid, where in self.processes.items() if where == device))

    def reset(self) -> None:
        """Instances and processes go, the pending mode becomes the current one."""
        self.instances.clear()
        self.hollow.clear()
        self.processes.clear()
        self.slice_faults.clear()
        self.lost = self.ecc = self.remap_pending = False
        self.recovery_action = 0
        self.faults = ()
        if self.mig_mode is not MigMode.UNSUPPORTED:
            pending = self.mig_mode in (MigMode.ENABLED, MigMode.ENABLE_PENDING)
            self.mig_mode = MigMode.ENABLED if pending else MigMode.DISABLED

    def require_room(self, profile: Profile, start: int) -> None:
        """Raises NoRoom unless slots, compute slices, media engines and the profile's own maximum allow one more."""
        others = [self.profile(each) for each in self.instances.values()]
        taken = {
            slot
            for placement, other in zip(self.instances.values(), others, strict=True)
            for slot in range(placement.start, placement.start + other.size)
        }
        model = self.card.model
        fits = (
            not taken & set(range(start, start + profile.size))
            and sum(other.id == profile.id for other in others) < profile.max_instances
            and sum(other.compute_slices for other in others) + profile.compute_slices <= model.compute_slices
            and _within([*(other.engines for other in others), profile.engines], model.engines)
        )
        if not fits:
            raise NoRoom(f"{profile.name} at {start} of {self.pci_bus_id} is taken", code=23)

    def free_id(self) -> int:
        """Ids say nothing about the start; 0 is the driver's for the whole card."""
        return next(each for each in count(1) if each not in self.instances)

    def instance(self, instance_id: int) -> GpuInstance:
        """An instance as it is read."""
        placement = self.instances[instance_id]
        device = self.slice_uuid(instance_id)
        inside = () if instance_id in self.hollow else (ComputeInstance(0, device),)
        fault = self.slice_faults.get(instance_id, "")
        return GpuInstance(instance_id, placement, self.profile(placement).size, inside, self.users(device), fault)


class FakeGpus:
    """All GPUs of a host. Calls are noted in `calls`, in order; `on_call` hears of each before it acts."""

    def __init__(self, *gpus: FakeGpu, driver_version: str = "580.159.04") -> None:
        self.gpus = {each.pci_bus_id: each for each in gpus}
        self.driver_version = driver_version
        self.privileged = True
        self.calls: list[str] = []
        self.on_call: Callable[[str], None] = lambda _: None
        self._failures: dict[str, list[CdmoError | None]] = {}

    # --- knobs ----------------------------------------------------------------------------------------------

    def fail(self, call: str, error: CdmoError, *, nth: int = 1) -> None:
        """The nth next call of read, create, destroy, set_mig_mode or "create compute instance" raises this."""
        self._failures.setdefault(call, []).extend([*[None] * (nth - 1), error])

    def gpu(self, device: str) -> FakeGpu:
        """The GPU with this PCI bus id or UUID, or that has the slice with this UUID."""
        for gpu in self.gpus.values():
            if device in (gpu.pci_bus_id, gpu.uuid, *map(gpu.slice_uuid, gpu.instances)):
                return gpu
        raise KeyError(device)

    def add_process(self, device: str, pid: int) -> None:
        """A process starts on a slice (MIG UUID) or on a whole GPU (GPU UUID)."""
        self.gpu(device).processes[pid] = device

    def remove_process(self, pid: int) -> None:
        """The process ends."""
        for gpu in self.gpus.values():
            gpu.processes.pop(pid, None)

    def reboot(self) -> None:
        """Instances and processes go; MIG mode too on Hopper and later."""
        for gpu in self.gpus.values():
            if gpu.card.hopper_or_later and gpu.mig_mode is not MigMode.UNSUPPORTED:
                gpu.mig_mode = MigMode.DISABLED
            gpu.reset()

    # --- GpuReader and GpuWriter ----------------------------------------------------------------------------

    def read(self) -> DriverReading:
        """Everything about every GPU."""
        self._called("read")
        return DriverReading(self.driver_version, tuple(_reading(self.gpus[bus]) for bus in sorted(self.gpus)))

    def create(self, pci_bus_id: str, placement: Placement) -> GpuInstance:
        """Create one instance."""
        gpu = self._changeable("create", pci_bus_id)
        if gpu.mig_mode not in _ON:
            raise NotSupported(f"MIG is off on {pci_bus_id}", code=3)
        profile = gpu.profile(placement)
        self._require_privilege()
        if not gpu.instances and gpu.processes:
            raise InUse(f"processes run on {pci_bus_id}", code=19)
        gpu.require_room(profile, placement.start)
        self._may_fail("create compute instance")
        instance_id = gpu.free_id()
        gpu.instances[instance_id] = placement
        return gpu.instance(instance_id)

    def destroy(self, pci_bus_id: str, instance_id: int, placement: Placement) -> None:
        """Destroy one instance, if it is the one meant."""
        gpu = self._changeable("destroy", pci_bus_id)
        if gpu.mig_mode not in _ON:
            raise NotSupported(f"MIG is off on {pci_bus_id}", code=3)
        if gpu.instances.get(instance_id) != placement:
            raise NotThere(f"{pci_bus_id} has no instance {instance_id} at {placement}", code=6)
        if gpu.users(gpu.slice_uuid(instance_id)):
            raise InUse(f"processes run on instance {instance_id} of {pci_bus_id}", code=19)
        self._require_privilege()
        del gpu.instances[instance_id]
        gpu.slice_faults.pop(instance_id, None)
        gpu.hollow.discard(instance_id)

    def set_mig_mode(self, pci_bus_id: str, enabled: bool) -> MigMode:
        """Switch the mode: at once on Hopper and later, pending before."""
        gpu = self._changeable("set_mig_mode", pci_bus_id)
        if gpu.mig_mode is MigMode.UNSUPPORTED:
            raise NotSupported(f"{pci_bus_id} has no MIG", code=3)
        self._require_privilege()
        now = MigMode.ENABLED if gpu.mig_mode in _ON else MigMode.DISABLED
        wanted = MigMode.ENABLED if enabled else MigMode.DISABLED
        if now is wanted:
            gpu.mig_mode = now
        elif not gpu.card.hopper_or_later:
            gpu.mig_mode = MigMode.ENABLE_PENDING if enabled else MigMode.DISABLE_PENDING
        elif gpu.instances or gpu.processes:
            raise InUse(f"{pci_bus_id} is in use", code=19)
        else:
            gpu.mig_mode = wanted
        return gpu.mig_mode

    def reset(self, pci_bus_id: str) -> None:
        """Reset one GPU: its instances go, the pending mode holds."""
        gpu = self._changeable("reset", pci_bus_id)
        if gpu.processes or gpu.opened_by:
            raise InUse(f"{pci_bus_id} is open in {', '.join(gpu.opened_by) or 'a process'}")
        gpu.reset()

    def _called(self, call: str, about: str = "") -> None:
        self.calls.append(f"{call} {about}".strip())
        self.on_call(call)
        self._may_fail(call)

    def _may_fail(self, call: str) -> None:
        waiting = self._failures.get(call)
        error = waiting.pop(0) if waiting else None
        if error is not None:
            raise error

    def _changeable(self, call: str, pci_bus_id: str) -> FakeGpu:
        self._called(call, pci_bus_id)
        gpu = self.gpus.get(pci_bus_id)
        if gpu is None:
            raise NotThere(f"there is no GPU {pci_bus_id}")
        if gpu.lost:
            raise GpuLost(f"{pci_bus_id} is lost", code=15)
        return gpu

    def _require_privilege(self) -> None:
        if not self.privileged:
            raise NotAllowed("this process may not configure MIG", code=4)


def fake_gpus(*cards: str, mig: bool = True, first_bus: int = 0x10) -> FakeGpus:
    """A host with these cards, MIG mode on where they have it."""
    gpus = [_fake_gpu(key, number, first_bus) for number, key in enumerate(cards or ("H100-SXM5-80GB",))]
    for gpu in gpus:
        if mig and gpu.mig_mode is not MigMode.UNSUPPORTED:
            gpu.mig_mode = MigMode.ENABLED
    return FakeGpus(*gpus)


def _fake_gpu(key: str, number: int, first_bus: int) -> FakeGpu:
    bus = f"00000000:{first_bus + 0x10 * number:02X}:00.0"
    return FakeGpu(card(key), bus, f"GPU-51a70000-0000-4000-8000-{number:012x}", number)


def _reading(gpu: FakeGpu) -> GpuReading:
    """A lost GPU shows what was known of it."""
    on = gpu.mig_mode in _ON
    instances = [gpu.instance(each) for each in gpu.instances] if on else []
    return GpuReading(
        pci_bus_id=gpu.pci_bus_id,
        uuid=gpu.uuid,
        minor=gpu.minor,
        memory_mib=gpu.card.memory_mib,
        hopper_or_later=gpu.card.hopper_or_later,
        mig_mode=gpu.mig_mode,
        model=gpu.card.model,
        instances=tuple(sorted(instances, key=lambda each: each.placement.start)),
        processes=() if on else gpu.users(gpu.uuid),
        problem="the GPU is lost" if gpu.lost else "",
        lost=gpu.lost,
        health=GpuHealth(
            ecc_uncorrectable=None if on else gpu.ecc,
            remap_pending=None if instances else gpu.remap_pending,
            remap_failed=None if instances else gpu.remap_failed,
            recovery_action=gpu.recovery_action,
        ),
        faults=gpu.faults,
    )


def _within(parts: Sequence[Engines], whole: Engines) -> bool:
    return all(
        sum(used) <= most for used, most in zip(zip(*map(_numbers, parts), strict=True), _numbers(whole), strict=True)
    )


def _numbers(engines: Engines) -> Iterator[int]:
    return iter((engines.decoder, engines.encoder, engines.jpeg, engines.ofa))
