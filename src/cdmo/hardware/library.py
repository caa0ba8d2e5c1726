"""Where this host's NVML library is: libnvidia-ml.so.1 belongs to the driver, not to CDMO's image.

The driver is on the host itself or in NVIDIA's driver container, whose root is mounted at /run/nvidia/driver.
No nvidia runtime class is needed: the library is opened by its absolute path below the mounted host root.
The order of places is that of NVIDIA's own DRA driver (cmd/gpu-kubelet-plugin/root.go), with the file the
gpu-operator's validator writes before it and a few distributions' places after it.
"""

from __future__ import annotations

import ctypes
import platform
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cdmo.errors import DriverUnavailable
from cdmo.runtime.hostpaths import HostPaths, read_text, resolve_inside

LIBRARY_NAME = "libnvidia-ml.so.1"
DRIVER_CONTAINER_ROOT = "/run/nvidia/driver"
DRIVER_READY = "/run/nvidia/validations/driver-ready"

_FOLDERS = (
    "/usr/lib64",
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/lib64",
    "/lib/x86_64-linux-gnu",
    "/lib/aarch64-linux-gnu",
)
_OTHER_FOLDERS = (
    "/home/kubernetes/bin/nvidia/lib64",  # Google Kubernetes Engine
    "/usr/local/nvidia/lib64",
    "/usr/lib/wsl/lib",
    "/run/opengl-driver/lib",  # NixOS
)
_ELF_MACHINES = {"x86_64": 62, "aarch64": 183}  # e_machine of elf(5)
_MAX_READY_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Driver:
    """A driver that was found: its library, every /dev in which containers look for device nodes, and its root."""

    library: Path
    dev_roots: tuple[Path, ...]
    root: Path  # of its programs


@dataclass(frozen=True, slots=True)
class _Place:
    root: Path
    folder: str
    dev_root: str = ""  # what driver-ready says, as the host names it


class DriverSearch:
    """Finds the driver below a host root; `driver_root` (as the host names it) leaves no other place to look."""

    def __init__(self, host: HostPaths, driver_root: str = "") -> None:
        self._host = host
        self._driver_root = driver_root

    def __call__(self) -> Driver:
        """Look again, for a driver may arrive late. Raises DriverUnavailable saying under which roots was looked."""
        tried = list(dict.fromkeys(self._places()))
        objections: list[str] = []
        for place in tried:
            library, objection = _library_in(place)
            if library is not None:
                return Driver(library, self._dev_roots(place), place.root)
            if objection:
                objections.append(objection)
        roots = ", ".join(dict.fromkeys(str(place.root) for place in tried))
        unusable = f"; not usable: {', '.join(dict.fromkeys(objections))}" if objections else ""
        raise DriverUnavailable(
            f"no usable {LIBRARY_NAME} in {len(tried)} folders under {roots}{unusable}",
            hint="install the NVIDIA driver, or wait for the gpu-operator's driver container; where it lies "
            "elsewhere, name its root in the agent's settings",
        )

    def _places(self) -> Iterator[_Place]:
        if self._driver_root:
            yield from self._below(self._driver_root)
            return
        ready = self._driver_ready()
        if ready.get("NVIDIA_DRIVER_ROOT"):
            yield from self._below(ready["NVIDIA_DRIVER_ROOT"], ready.get("NVIDIA_DEV_ROOT", ""))
        yield from self._below(DRIVER_CONTAINER_ROOT)
        yield from self._below("/")
        for folder in _OTHER_FOLDERS:
            yield _Place(self._host.root, folder)

    def _below(self, driver_root: str, dev_root: str = "") -> Iterator[_Place]:
        if "\0" in driver_root:
            return
        try:
            root = resolve_inside(self._host.root, driver_root)
        except OSError:  # a loop of links, or a name that is too long: no driver is there
            return
        for folder in _FOLDERS:
            yield _Place(root, folder, dev_root)

    def _driver_ready(self) -> dict[str, str]:
        """KEY=value lines of the file that exists while the gpu-operator's validator runs; else nothing."""
        try:
            text = read_text(resolve_inside(self._host.root, DRIVER_READY), _MAX_READY_BYTES)
        except (OSError, ValueError):
            return {}
        pairs = (line.partition("=") for line in text.splitlines())
        # A path that could not be printed is none that anybody meant; a null byte is one that no call takes.
        return {
            key.strip(): value.strip().strip("'\"")
            for key, separator, value in pairs
            if separator and value.isprintable()
        }

    def _dev_roots(self, place: _Place) -> tuple[Path, ...]:
        """The host's /dev, and the driver root's own where containers are given nodes from there."""
        if place.dev_root:
            try:
                other = resolve_inside(self._host.root, place.dev_root) / "dev"
            except OSError:
                other = self._host.dev
        elif (place.root / "dev/nvidiactl").exists():
            other = place.root / "dev"
        else:
            other = self._host.dev
        return tuple(dict.fromkeys((self._host.dev, other)))


def load(library: Path) -> ctypes.CDLL:
    """Map the library. Raises DriverUnavailable with what the loader says."""
    try:
        return ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
    except OSError as error:
        raise DriverUnavailable(
            f"{library} cannot be loaded: {error}",
            hint="the image needs glibc (not musl) and the architecture of the driver",
        ) from error


def _library_in(place: _Place) -> tuple[Path | None, str]:
    """The library there, or what stands against the file there; neither when there is no file."""
    named = place.root / place.folder.lstrip("/") / LIBRARY_NAME
    try:
        found = resolve_inside(place.root, f"{place.folder}/{LIBRARY_NAME}")
        with found.open("rb") as stream:
            header = stream.read(20)
    except FileNotFoundError:
        return None, ""
    except OSError as error:
        return None, f"{named} ({error.strerror or error})"
    objection = _elf_objection(header)
    return (None, f"{named} ({objection})") if objection else (found, "")


def _elf_objection(header: bytes) -> str:
    """Why these first bytes are not a library for this machine; empty when they are."""
    if len(header) < 20 or header[:4] != b"\x7fELF":
        return "not a shared library"
    if header[4] != 2:
        return "a 32-bit library"
    (machine,) = struct.unpack_from("<H" if header[5] == 1 else ">H", header, 18)
    expected = _ELF_MACHINES.get(platform.machine(), machine)
    return "" if machine == expected else "for another kind of processor"
