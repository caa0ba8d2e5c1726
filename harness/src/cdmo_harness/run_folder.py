"""A folder for one run: short path, private, locked by its owner, removable when the owner was killed.

The lock is an flock on a file inside: the kernel drops it when the owner ends in whatever way, and it works
between containers that share a temporary folder but not their process ids.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

import structlog

from cdmo_harness import cgroups
from cdmo_harness.errors import HarnessError
from cdmo_harness.processes import end_recorded

_log = structlog.get_logger(__name__)

_PREFIX = "cdmo-"
_LOCK = "owner.lock"

# A unix socket's path may have 107 bytes (sun_path, unix(7)); the longest one that the harness puts below
# its folder is a kubelet's device-plugin socket.
_LONGEST_PATH = 60


class RunFolder:
    """The folder of one run. Only one owner at a time; the path is short enough for unix sockets inside."""

    def __init__(self, path: Path) -> None:
        if len(os.fsencode(path)) > _LONGEST_PATH:
            raise HarnessError(
                f"the folder {path} has a longer path than unix sockets inside it allow",
                hint=f"choose one of at most {_LONGEST_PATH} bytes, for example below /tmp",
            )
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.path = path
        descriptor = _lock(path)
        if descriptor is None:
            raise HarnessError(
                f"the folder {path} belongs to another run that is still going",
                hint="stop that run, or choose another folder",
            )
        self._descriptor = descriptor

    @classmethod
    def temporary(cls) -> RunFolder:
        """A fresh folder below the system's temporary folder."""
        return cls(Path(tempfile.mkdtemp(prefix=_PREFIX)))

    def close(self, *, keep: bool) -> None:
        """Give the folder up: remove it, or keep its files (a kept folder is nobody's leftover)."""
        with suppress(FileNotFoundError):
            (self.path / _LOCK).unlink()
        os.close(self._descriptor)
        if not keep:
            shutil.rmtree(self.path)


def cleanup_leftovers(parent: Path | None = None) -> list[Path]:
    """End the processes and remove the folders of runs that were killed; returns those folders.

    Looks at `cdmo-*` in `parent` (default: the system's temporary folder) and touches only folders of this
    user whose owner is gone.
    """
    removed = []
    for folder in sorted((parent or Path(tempfile.gettempdir())).glob(f"{_PREFIX}*")):
        if not _ours(folder) or not (folder / _LOCK).is_file():
            continue
        descriptor = _lock(folder)
        if descriptor is None:
            continue
        try:
            for record in sorted(folder.rglob("*.process")):
                if end_recorded(record):
                    _log.warning("ended a process that a killed run left", record=str(record))
            for record in sorted(folder.rglob(cgroups.RECORD)):
                cgroups.remove_recorded(record.parent)
            shutil.rmtree(folder)
        finally:
            os.close(descriptor)
        removed.append(folder)
    return removed


def _ours(folder: Path) -> bool:
    """A real folder (no link) of this user: the temporary folder is writable for everybody."""
    try:
        status = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid()


def _lock(folder: Path) -> int | None:
    """Take the folder's lock: its descriptor, or None if another run holds it."""
    descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor
