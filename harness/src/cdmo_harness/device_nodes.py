"""The /dev of a simulated host: real character nodes where this process may make them, empty files elsewhere.

Nobody opens these nodes; a container runtime looks whether they are there, and CDMO's agent whether they have the
right numbers. Who makes which: control and GPU nodes come with the driver, the nodes of a slice from CDMO's agent.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterable
from pathlib import Path

NVIDIA_MAJOR = 195  # fixed, of nvidiactl and nvidiaN
_CONTROL_MINOR = 255
_UVM_MAJOR = 510  # dynamic on a real host; any number will do
CAPS_FOLDER = "dev/nvidia-caps"


def capability_major(root: Path) -> int:
    """The major number of nvidia-caps, from <root>/proc/devices. Raises LookupError when the driver is not there."""
    for line in (root / "proc/devices").read_text().splitlines():
        number, _, name = line.strip().partition(" ")
        if name == "nvidia-caps":
            return int(number)
    raise LookupError("no nvidia-caps in proc/devices")


def make_driver_nodes(root: Path, gpu_minors: Iterable[int]) -> None:
    """What exists after the driver was loaded; nodes of slices from before are gone, as after a boot."""
    shutil.rmtree(root / CAPS_FOLDER, ignore_errors=True)
    (root / CAPS_FOLDER).mkdir(parents=True)
    make_node(root / "dev/nvidiactl", NVIDIA_MAJOR, _CONTROL_MINOR, 0o666)
    make_node(root / "dev/nvidia-uvm", _UVM_MAJOR, 0, 0o666)
    make_node(root / "dev/nvidia-uvm-tools", _UVM_MAJOR, 1, 0o666)
    for minor in gpu_minors:
        make_node(root / f"dev/nvidia{minor}", NVIDIA_MAJOR, minor, 0o666)
    major = capability_major(root)
    make_node(root / CAPS_FOLDER / "nvidia-cap1", major, 1, 0o400)  # may configure MIG
    make_node(root / CAPS_FOLDER / "nvidia-cap2", major, 2, 0o444)  # may watch MIG


def make_slice_nodes(root: Path, gpu_minor: int, gpu_instance: int) -> None:
    """The nodes of one GPU instance and its compute instances, as CDMO's agent makes them after a cut."""
    major = capability_major(root)
    instance = root / f"proc/driver/nvidia/capabilities/gpu{gpu_minor}/mig/gi{gpu_instance}"
    for access in sorted(instance.rglob("access")):
        fields = dict(line.split(": ") for line in access.read_text().splitlines())
        minor = int(fields["DeviceFileMinor"])
        make_node(root / CAPS_FOLDER / f"nvidia-cap{minor}", major, minor, int(fields["DeviceFileMode"]))


def make_node(path: Path, major: int, minor: int, mode: int) -> None:
    """A character node, or an empty file for a process without CAP_MKNOD; replaces what was there."""
    path.unlink(missing_ok=True)
    try:
        os.mknod(path, stat.S_IFCHR | mode, os.makedev(major, minor))
    except PermissionError:
        path.touch()
    path.chmod(mode)
