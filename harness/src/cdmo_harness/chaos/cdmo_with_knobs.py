"""`cdmo` on a machine whose clock and disk somebody turns: `python -m cdmo_harness.chaos.cdmo_with_knobs agent …`.

- CDMO_CLOCK_OFFSET names a file with the seconds by which Unix time is off, read at every look. The monotonic clock
  is left alone: setting a machine's time does not touch it either.
- CDMO_DISK_FULL names a file; while it is there, what was written to a file cannot be synced: ENOSPC, where a file
  system that allocates late says so. A real one that is filled up would need root, and a killed run would leave it
  mounted.
- CDMO_CARELESS makes the agent destroy slices without asking who uses them.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable
from pathlib import Path

from cdmo.cli import app
from cdmo.runtime import clock
from cdmo_harness.chaos.careless import be_careless

OFFSET_FILE = "CDMO_CLOCK_OFFSET"
DISK_FULL_FILE = "CDMO_DISK_FULL"
CARELESS = "CDMO_CARELESS"


class SteppedClock(clock.SystemClock):
    """The machine's time and an offset."""

    def __init__(self) -> None:
        self._file = Path(os.environ[OFFSET_FILE])

    def now(self) -> float:
        """Unix time as this process is made to believe."""
        try:
            offset = float(self._file.read_text())
        except (FileNotFoundError, ValueError):  # nobody set it, or it is being written
            offset = 0.0
        return time.time() + offset


def failing_sync(sync: Callable[[int], None], full: Path) -> Callable[[int], None]:
    """`os.fsync`, but not for files while the disk is full. Folders need no room: a removal always succeeds."""

    def fsync(descriptor: int) -> None:
        if full.exists() and stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(descriptor)

    return fsync


def main() -> None:
    """Entry point: the verbs take SystemClock from its module when they run."""
    vars(clock)["SystemClock"] = SteppedClock
    if DISK_FULL_FILE in os.environ:
        vars(os)["fsync"] = failing_sync(os.fsync, Path(os.environ[DISK_FULL_FILE]))
    if CARELESS in os.environ:
        be_careless()
    app.main()


if __name__ == "__main__":
    main()
