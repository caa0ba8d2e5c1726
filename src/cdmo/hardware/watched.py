"""The GPUs with their health: every reading says which GPUs and slices are not to be used, and why.

What is remembered survives the process, in a small file: an agent that starts anew must not give out what its
predecessor had taken out of use. In its first start on a host there is nothing to remember: XIDs from before then are
left to the device plugin and to what NVML says.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import msgspec
import structlog

from cdmo.api.decoding import decoder
from cdmo.hardware.health import Memory, judge
from cdmo.hardware.kernel_log import XidEvent
from cdmo.hardware.port import DriverReading, GpuInstance, GpuReader, GpuWriter
from cdmo.model.gpu import MigMode, Placement
from cdmo.runtime.hostpaths import read_text, replace_file

_MAX_BYTES = 1 << 18

_decode = decoder(Memory)

logger = structlog.get_logger(__name__)


class Gpus(GpuReader, GpuWriter, Protocol):
    """All that is asked of a driver."""


class XidLog(Protocol):
    """Where XIDs are told."""

    @property
    def newest(self) -> int:
        """The sequence number of the last record that was read; -1 when none was."""
        ...

    def read(self) -> tuple[XidEvent, ...]:
        """The XIDs that came since the last call; never fails, never blocks."""
        ...


class WatchedGpus:
    """GpuReader and GpuWriter. Calls come from one thread, or one after the other."""

    def __init__(self, gpus: Gpus, log: XidLog, path: Path, boot_id: Callable[[], str]) -> None:
        """`path`: of the file in which is remembered what stands. `boot_id` raises BadSettings."""
        self._gpus = gpus
        self._log = log
        self._path = path
        self._boot_id = boot_id
        self._memory: Memory | None = None

    def read(self) -> DriverReading:
        """Everything about every GPU, with its faults. Raises HardwareError."""
        reading = self._gpus.read()
        events = self._log.read()
        before = self._recalled()
        reading, after = judge(reading, events, before)
        self._remember(after)
        return reading

    def create(self, pci_bus_id: str, placement: Placement) -> GpuInstance:
        """As GpuWriter.create."""
        return self._gpus.create(pci_bus_id, placement)

    def destroy(self, pci_bus_id: str, instance_id: int, placement: Placement) -> None:
        """As GpuWriter.destroy; with the instance its fault is gone: the next one may have its id and its UUID."""
        self._gpus.destroy(pci_bus_id, instance_id, placement)
        self._remember(self._recalled().without(pci_bus_id, instance_id))

    def set_mig_mode(self, pci_bus_id: str, enabled: bool) -> MigMode:
        """As GpuWriter.set_mig_mode."""
        return self._gpus.set_mig_mode(pci_bus_id, enabled)

    def reset(self, pci_bus_id: str) -> None:
        """As GpuWriter.reset; what stood against the GPU is judged by its next reading, as after any reset."""
        self._gpus.reset(pci_bus_id)

    def _recalled(self) -> Memory:
        """What is known of this boot: nothing of another one counts any more."""
        boot_id = self._boot_id()
        memory = self._memory
        if memory is None:
            memory = self._loaded() or Memory(boot_id, self._log.newest)
        return memory if memory.boot_id == boot_id else Memory(boot_id, -1)

    def _remember(self, memory: Memory) -> None:
        before, self._memory = self._memory, memory
        if before is not None and before.standing() == memory.standing():
            return
        try:
            replace_file(self._path, msgspec.json.encode(memory))
        except OSError as error:
            # This process still knows; one that starts after it has to find out anew.
            logger.warning("GPU faults could not be written down", path=str(self._path), error=error.strerror)

    def _loaded(self) -> Memory | None:
        try:
            return _decode(read_text(self._path, _MAX_BYTES).encode())
        except FileNotFoundError:
            return None
        except (OSError, ValueError, msgspec.MsgspecError) as error:
            logger.warning("remembered GPU faults could not be read", path=str(self._path), error=str(error)[:200])
            return None
