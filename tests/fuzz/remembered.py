"""What lies on a node's disk and in its kernel's log: faults of GPUs, lost modes, XIDs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from cdmo.agent.lost_modes import LostModes
from cdmo.api.v1alpha1 import MigNodeStatus
from cdmo.hardware.health import GpuMemory, Memory, SliceFault, judge
from cdmo.hardware.kernel_log import KernelLog
from cdmo.hardware.port import DriverReading
from cdmo.hardware.watched import WatchedGpus
from cdmo.model.gpu import Placement
from tests.builders import BUS
from tests.fakes.hardware import fake_gpus
from tests.fuzz.mutate import Json
from tests.fuzz.target import Run, Target

BOOT = "boot-1"


class _Silence:
    """A log without XIDs."""

    newest = -1

    def read(self) -> tuple[()]:
        return ()


@contextmanager
def _kernel_log(folder: Path) -> Iterator[Run]:
    """The log is read to its end, and whatever it says is a judgement that can be written down."""
    path = folder / "kmsg"
    gpus = fake_gpus("H100-SXM5-80GB")
    bus = gpus.read().gpus[0].pci_bus_id
    gpus.set_mig_mode(bus, True)
    gpus.create(bus, Placement(19, 0))

    def run(content: bytes) -> bool:
        path.write_bytes(content)
        log = KernelLog(path)
        try:
            events = log.read()
        finally:
            log.close()
        reading, memory = judge(gpus.read(), events, Memory(BOOT, -1))
        assert all(each.isprintable() for gpu in reading.gpus for each in gpu.faults)
        assert msgspec.json.decode(msgspec.json.encode(memory), type=Memory) == memory
        return bool(events)

    yield run


def _logs() -> list[bytes]:
    bus = fake_gpus("H100-SXM5-80GB").read().gpus[0].pci_bus_id.removesuffix(".0")[4:]
    lines = (
        f"3,100,5000,-;NVRM: Xid (PCI:{bus}): 79, pid=1, GPU has fallen off the bus.",
        f"3,101,5001,-;NVRM: Xid (PCI:{bus} GPU-I:01 GPU-CI:00): 94, pid=2",
        f"11,102,5002,-;NVRM: Xid (PCI:{bus}): 48",
        " SUBSYSTEM=pci",
    )
    text = "".join(f"{line}\n" for line in lines).encode()
    return [text, text[: len(text) // 2]]


@contextmanager
def _memory(folder: Path) -> Iterator[Run]:
    """Faults that were remembered are known again, or known to be lost; the GPUs are read all the same."""
    path = folder / "health.json"
    gpus = fake_gpus("H100-SXM5-80GB")

    def run(content: bytes) -> bool:
        path.write_bytes(content)
        reading = WatchedGpus(gpus, _Silence(), path, lambda: BOOT).read()
        assert len(reading.gpus) == 1
        assert WatchedGpus(gpus, _Silence(), path, lambda: BOOT).read() == reading
        return bool(reading.gpus[0].faults)

    yield run


def _memories() -> list[Json]:
    bus = fake_gpus("H100-SXM5-80GB").read().gpus[0].pci_bus_id
    slices = (SliceFault(1, 19, 0, "MIG-1", (94,)),)
    memory = Memory(BOOT, 5, {bus: GpuMemory(ecc=True, remap_failed=True, xids=(79, 48), slices=slices, energy=7)})
    made: Json = msgspec.json.decode(msgspec.json.encode(memory))
    return [made, {**made, "boot_id": "boot-0"}]


@contextmanager
def _lost_modes(folder: Path) -> Iterator[Run]:
    path = folder / "lost-modes.json"
    off = fake_gpus("H100-SXM5-80GB", mig=False).read().gpus

    def run(content: bytes) -> bool:
        path.write_bytes(content)
        modes = LostModes(path)
        modes.begin(MigNodeStatus(), BOOT)
        modes.see(DriverReading("550.1", ()))
        return any(map(modes.lost, off))

    yield run


TARGETS = (
    Target("kernellog", 4, _logs, _kernel_log),
    Target("memory", 4, _memories, _memory),
    Target(
        "lostmodes",
        1,
        lambda: [[*BUS, *(each.pci_bus_id for each in fake_gpus("H100-SXM5-80GB").read().gpus)]],
        _lost_modes,
    ),
)
