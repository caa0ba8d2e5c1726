"""Which GPUs lost MIG mode in a reboot: on Hopper and later the mode is gone after it, without anybody wanting that.

The last agent's status says which mode was on before the boot. The first status of this boot overwrites it, so what
was lost lies in a small file until the mode is on again: an agent that is killed in between leaves it to the next.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import structlog

from cdmo.api.decoding import decoder
from cdmo.api.v1alpha1 import MigNodeStatus
from cdmo.hardware.port import DriverReading, GpuReading
from cdmo.model.gpu import MigMode
from cdmo.runtime.hostpaths import read_text, replace_file

LONGEST = 64  # GPUs; no host has as many
_MAX_BYTES = 8192

_decode = decoder(list[str])

logger = structlog.get_logger(__name__)


class LostModes:
    """Remembers them, in `path`. All calls are short and local."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lost: frozenset[str] = frozenset()  # PCI bus ids

    def begin(self, status: MigNodeStatus, boot_id: str) -> None:
        """Take up what the last agent saw. Call it before the first status of this boot is written."""
        self._lost = self._read()
        agent = status.agent
        if agent is not None and agent.boot_id and agent.boot_id != boot_id:
            on = {each.pci_bus_id for each in status.gpus if each.mig_mode == MigMode.ENABLED}
            self._replace(self._lost | on)

    def see(self, driver: DriverReading) -> None:
        """Once it is on again a mode is no longer lost: whoever then switches it off means it."""
        self._replace(self._lost - {each.pci_bus_id for each in driver.gpus if each.mig_mode is MigMode.ENABLED})

    def lost(self, gpu: GpuReading) -> bool:
        """Whether MIG mode is off on this GPU because of a reboot."""
        return gpu.hopper_or_later and gpu.mig_mode is MigMode.DISABLED and gpu.pci_bus_id in self._lost

    def _replace(self, lost: frozenset[str]) -> None:
        if lost == self._lost:
            return
        self._lost = lost
        try:
            if not lost:
                self._path.unlink(missing_ok=True)
                return
            replace_file(self._path, msgspec.json.encode(sorted(lost)[:LONGEST]))
        except OSError as error:
            # This process still knows it; only one that is killed before the mode is on again would forget.
            logger.warning("lost MIG modes could not be written down", path=str(self._path), error=error.strerror)

    def _read(self) -> frozenset[str]:
        try:
            return frozenset(_decode(read_text(self._path, _MAX_BYTES).encode())[:LONGEST])
        except FileNotFoundError:
            return frozenset()
        except (OSError, ValueError, msgspec.MsgspecError) as error:
            logger.warning("lost MIG modes could not be read", path=str(self._path), error=str(error)[:200])
            return frozenset()
