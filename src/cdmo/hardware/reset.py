"""Resetting a GPU with the driver's own `nvidia-smi`: NVML has no call for it.

The program is run from the driver's root with the driver's library, as NVIDIA's DRA driver does it
(cmd/gpu-kubelet-plugin/root.go). A reset fails while any process has the GPU open, so these are looked for first and
named: the driver itself says only that somebody has.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

from cdmo.errors import DriverFault, DriverUnavailable, InUse
from cdmo.hardware.library import Driver
from cdmo.runtime.hostpaths import read_text, resolve_inside

PROGRAM = "nvidia-smi"
_FOLDERS = ("/usr/bin", "/usr/sbin", "/bin", "/sbin", "/opt/bin", "/usr/local/nvidia/bin")
_PERSISTENCE_DAEMON = "nvidia-persistenced"  # nvidia-smi has it let go of the GPU
_MAX_NAME_BYTES = 64
_MAX_SAID = 300  # characters of the program's output that are repeated
_MOST_NAMED = 5


class GpuReset:
    """Resets GPUs of this host. Calls block."""

    def __init__(
        self, find_driver: Callable[[], Driver], proc: Path, environment: Mapping[str, str], limit: float
    ) -> None:
        """`limit`: seconds for the program; the driver may hang in it."""
        self._find_driver = find_driver
        self._proc = proc
        self._environment = environment
        self._limit = limit

    def __call__(self, pci_bus_id: str, minor: int) -> None:
        """Reset one GPU. Raises InUse naming who has it open, DriverUnavailable, DriverFault with what was said."""
        doing = f"resetting GPU {pci_bus_id}"
        holders = open_by(self._proc, minor)
        if holders:
            more = f" and {len(holders) - _MOST_NAMED} more" if len(holders) > _MOST_NAMED else ""
            raise InUse(
                f"{doing}: it is open in {', '.join(holders[:_MOST_NAMED])}{more}",
                hint="stop them, as `cdmo enable --reset` and `cdmo disable --reset` do, or reboot the node",
            )
        driver = self._find_driver()
        command = [str(_program(driver, doing)), "--gpu-reset", "-i", pci_bus_id]
        try:
            done = subprocess.run(
                command,
                env={**self._environment, "LD_PRELOAD": str(driver.library)},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=self._limit,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise DriverFault(f"{doing}: {PROGRAM} has not ended after {self._limit:g} s", hint=_REBOOT) from error
        except OSError as error:
            raise DriverFault(f"{doing}: {PROGRAM} cannot be run: {error.strerror}", hint=_REBOOT) from error
        if done.returncode != 0:
            raise DriverFault(f"{doing}: {PROGRAM} says: {_one_line(done.stdout)}", hint=_REBOOT)


_REBOOT = "reboot the node: the mode that the driver has noted comes about then"


def open_by(proc: Path, minor: int) -> list[str]:
    """The other processes that have /dev/nvidia<minor> open, `name (process id)` each; none that cannot be seen."""
    node = re.compile(rf"/dev/nvidia{minor}")
    found = []
    for folder in proc.iterdir():
        if not (folder.name.isascii() and folder.name.isdecimal()) or int(folder.name) == os.getpid():
            continue
        try:
            if not any(node.fullmatch(_within_dev(each)) for each in (folder / "fd").iterdir()):
                continue
            name = _name_of(folder)
        except OSError:
            continue  # it ended, or cannot be seen
        # The kernel cuts names to 15 characters.
        if name != _PERSISTENCE_DAEMON[:15]:
            found.append(f"{name} ({folder.name})")
    return sorted(found)


def _name_of(folder: Path) -> str:
    """What a process calls itself, which may be anything, or `?`."""
    try:
        name = read_text(folder / "comm", _MAX_NAME_BYTES).strip()
    except ValueError:
        return "?"
    return name if name.isprintable() else "?"


def _within_dev(descriptor: Path) -> str:
    """What a descriptor is of, from the last `/dev` on: a driver container has a root of its own."""
    try:
        target = str(descriptor.readlink())
    except FileNotFoundError:  # closed meanwhile
        return ""
    return target[max(target.rfind("/dev/"), 0) :]


def _program(driver: Driver, doing: str) -> Path:
    for folder in _FOLDERS:
        try:
            found = resolve_inside(driver.root, f"{folder}/{PROGRAM}")
        except OSError:
            continue
        if found.is_file() and os.access(found, os.X_OK):
            return found
    raise DriverUnavailable(f"{doing}: there is no {PROGRAM} under {driver.root}", hint=_REBOOT)


def _one_line(said: bytes) -> str:
    text = " ".join(said.decode(errors="replace").split())
    return "".join(each for each in text if each.isprintable())[:_MAX_SAID] or "nothing"
