"""Processes on the slices of the simulated driver."""

from __future__ import annotations

from pathlib import Path

from cdmo_harness.driver import SimulatedDriver, SimulatorRefused

from .runtime import SliceGone

_NOT_FOUND = 6  # NVML_ERROR_NOT_FOUND
_PROCESS_BYTES = 512 * 2**20  # about what a CUDA context with a small model holds


class SimulatedSlices:
    """The ProcessMarker of a simulated node."""

    def __init__(self, driver: SimulatedDriver) -> None:
        self._driver = driver

    @classmethod
    def open(cls, library: Path, state: Path, root: Path) -> SimulatedSlices:
        """Raises HarnessError when the library or the state cannot be used."""
        return cls(SimulatedDriver(library, state, root))

    def mark(self, uuid: str, pid: int) -> None:
        """A process now uses the slice; raises SliceGone when there is no such slice."""
        try:
            self._driver.add_process(uuid, pid, memory_bytes=_PROCESS_BYTES)
        except SimulatorRefused as error:
            if error.code == _NOT_FOUND:
                raise SliceGone(uuid) from error
            raise

    def unmark(self, uuid: str, pid: int) -> None:
        """The process ended; a slice that is gone meanwhile has none any more."""
        try:
            self._driver.remove_process(uuid, pid)
        except SimulatorRefused as error:
            if error.code != _NOT_FOUND:
                raise
