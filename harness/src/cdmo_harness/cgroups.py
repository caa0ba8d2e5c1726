"""Control groups of the harness: one of the same name in every hierarchy, noted on disk so that a later run can
remove what a killed one left.

Version 1 has a hierarchy for each controller, version 2 one for all; "hybrid" machines have both.
"""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

from cdmo_harness.errors import HarnessError

RECORD = "cgroups.made"  # a folder's file with the groups that were made for it, one path a line

_MOUNTS = Path("/proc/self/mountinfo")
_INHERITED = ("cpuset.cpus", "cpuset.mems")  # empty in a new group of version 1, and then nothing can run in it
_REMOVE_LIMIT = 10.0  # seconds; a group is busy until the kernel has taken down its last process
_POLL_SECONDS = 0.02


def hierarchies(mounts: str) -> list[Path]:
    """The mount points of control groups of both versions, from the text of /proc/self/mountinfo."""
    found = []
    for line in mounts.splitlines():
        fields, _, rest = line.partition(" - ")
        if rest.split()[:1] in (["cgroup"], ["cgroup2"]):
            found.append(Path(fields.split()[4]))
    return list(dict.fromkeys(found))


def make(name: str, folder: Path) -> None:
    """Make the group in every hierarchy; `folder` gets the record. Raises HarnessError."""
    groups = [hierarchy / name for hierarchy in hierarchies(_MOUNTS.read_text())]
    (folder / RECORD).write_text("".join(f"{group}\n" for group in groups))
    try:
        for group in groups:
            group.mkdir(exist_ok=True)
            for setting in _INHERITED:
                if (group.parent / setting).exists():
                    (group / setting).write_text((group.parent / setting).read_text())
    except OSError as error:
        raise HarnessError(
            f"the control group {name} cannot be made: {error}", hint="this needs root and writable cgroups"
        ) from error


def remove_recorded(folder: Path) -> None:
    """Remove the groups that `make` noted in this folder; their processes must have ended. Raises HarnessError."""
    record = folder / RECORD
    with suppress(FileNotFoundError):
        for line in record.read_text().splitlines():
            _remove(Path(line))
        record.unlink()


def _remove(group: Path) -> None:
    limit = time.monotonic() + _REMOVE_LIMIT
    while group.is_dir():
        # Only folders count: a group's files are the kernel's and go with it. Children before their parents.
        for each in sorted((path for path in group.rglob("*") if path.is_dir()), reverse=True):
            with suppress(OSError):
                each.rmdir()
        with suppress(OSError):
            group.rmdir()
            return
        if time.monotonic() > limit:
            raise HarnessError(f"the control group {group} is still in use", hint="cgroup.procs in it says by whom")
        time.sleep(_POLL_SECONDS)
