"""The device nodes of slices: /dev/nvidia-caps/nvidia-capN, one for each GPU instance and each compute instance.

The kernel module makes only the /proc files that describe them, and since version 1.18 of NVIDIA's container
toolkit nothing makes the nodes on the host after a slice is cut; a container that is given the slice then fails
with CreateContainerError. What a right node is follows nvidia-modprobe (nvidia_cap_mknod) and the toolkit's links in
/dev/char, without which containers lose their devices when systemd reloads its device rules.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from cdmo.errors import DriverFault, DriverUnavailable, NotAllowed, NotThere
from cdmo.runtime.hostpaths import HostPaths, read_text

CAPABILITIES = "nvidia-caps"
_MAX_ACCESS_BYTES = 4096
_MAX_MINOR = (1 << 20) - 1  # 20 bits, linux/kdev_t.h
_FIELD = re.compile(r"^(DeviceFileMinor|DeviceFileMode):[ \t]*(\d{1,9})$", re.MULTILINE | re.ASCII)
_DEVICE = re.compile(r"^[ ]*(\d{1,9})[ ]+nvidia-caps$", re.MULTILINE | re.ASCII)


class NodeKind(StrEnum):
    """What is made: the real thing, or on a simulated node a regular file that says which node it stands for."""

    CHARACTER = "character"
    PLACEHOLDER = "placeholder"  # making character devices needs CAP_MKNOD, which no test should need


@dataclass(frozen=True, slots=True)
class Capability:
    """A capability device as the driver describes it."""

    major: int
    minor: int
    mode: int  # permission bits

    @property
    def name(self) -> str:
        """Its file name below /dev/nvidia-caps."""
        return f"nvidia-cap{self.minor}"


class CapabilityNodes:
    """Makes and mends the nodes in every folder in which containers look for them (`dev_roots`)."""

    def __init__(self, host: HostPaths, dev_roots: Callable[[], tuple[Path, ...]], kind: NodeKind) -> None:
        self._host = host
        self._dev_roots = dev_roots
        self._kind = kind

    def ensure(self, gpu_minor: int, gpu_instance: int, compute_instances: tuple[int, ...]) -> None:
        """Make the nodes of one GPU instance and its compute instances, or mend them.

        Raises NotThere when the driver has no such instance, NotAllowed, DriverUnavailable, DriverFault.
        """
        folder = self._host.proc / f"driver/nvidia/capabilities/gpu{gpu_minor}/mig/gi{gpu_instance}"
        files = [folder / "access", *(folder / f"ci{each}/access" for each in compute_instances)]
        major = self._major()
        wanted = [_capability(each, major) for each in files]
        for root in self._dev_roots():
            for each in wanted:
                with _translated(root / CAPABILITIES / each.name):
                    self._make(root, each)

    def _major(self) -> int:
        """The number of nvidia-caps, which the kernel gives out anew each time the module is loaded."""
        path = self._host.proc / "devices"
        try:
            found = _DEVICE.search(read_text(path).partition("Block devices:")[0])
        except (OSError, ValueError) as error:
            raise DriverUnavailable(f"{path} cannot be read: {error}") from error
        if found is None:
            raise DriverUnavailable(
                f"{path} has no {CAPABILITIES}", hint="load the NVIDIA driver; MIG needs version 450 or later"
            )
        return int(found[1])

    def _make(self, root: Path, capability: Capability) -> None:
        with _folder(root) as dev:
            with _subfolder(dev, CAPABILITIES) as folder:
                self._make_node(folder, capability)
            with _subfolder(dev, "char") as folder:
                link = f"{capability.major}:{capability.minor}"
                _make_link(folder, link, f"../{CAPABILITIES}/{capability.name}")

    def _make_node(self, folder: int, capability: Capability) -> None:
        if not self._is_right(folder, capability):
            _remove(folder, capability.name)
            self._create(folder, capability)
        # Through a descriptor of the node itself: by name a link put there meanwhile would be followed.
        node = os.open(capability.name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
        try:
            status = os.fstat(node)
            if stat.S_IMODE(status.st_mode) != capability.mode:
                Path(f"/proc/self/fd/{node}").chmod(capability.mode)
            if self._kind is NodeKind.CHARACTER and (status.st_uid, status.st_gid) != (0, 0):
                os.chown(f"/proc/self/fd/{node}", 0, 0)
        finally:
            os.close(node)

    def _is_right(self, folder: int, capability: Capability) -> bool:
        try:
            status = os.stat(capability.name, dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            return False
        if self._kind is NodeKind.CHARACTER:
            right = os.makedev(capability.major, capability.minor)
            return stat.S_ISCHR(status.st_mode) and status.st_rdev == right
        return stat.S_ISREG(status.st_mode) and _read_placeholder(folder, capability.name) == _placeholder(capability)

    def _create(self, folder: int, capability: Capability) -> None:
        if self._kind is NodeKind.CHARACTER:
            device = os.makedev(capability.major, capability.minor)
            os.mknod(capability.name, stat.S_IFCHR | capability.mode, device, dir_fd=folder)
            return
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(capability.name, flags, 0o600, dir_fd=folder), "w") as stream:
            stream.write(_placeholder(capability))


def _capability(path: Path, major: int) -> Capability:
    """One access file: `DeviceFileMinor: 30` and `DeviceFileMode: 292`, both decimal."""
    try:
        fields = {name: int(number) for name, number in _FIELD.findall(read_text(path, _MAX_ACCESS_BYTES))}
    except FileNotFoundError as error:
        raise NotThere(f"the driver has no such instance: {path} is not there") from error
    except (OSError, ValueError) as error:
        raise DriverFault(f"{path} cannot be read: {error}") from error
    minor, mode = fields.get("DeviceFileMinor", -1), fields.get("DeviceFileMode", -1)
    if not (0 <= minor <= _MAX_MINOR and 0 <= mode <= 0o777):
        raise DriverFault(f"{path} does not describe a device node: minor {minor}, mode {mode}")
    return Capability(major, minor, mode)


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except PermissionError as error:
        raise NotAllowed(
            f"{path} cannot be made: {error.strerror}", hint="the agent must run privileged, with the host's /dev"
        ) from error
    except OSError as error:
        raise DriverFault(f"{path} cannot be made: {error.strerror or error}") from error


@contextmanager
def _folder(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def _subfolder(parent: int, name: str) -> Iterator[int]:
    """A folder in a folder, made if need be; a symbolic link in its place is refused (ENOTDIR)."""
    with suppress(FileExistsError):
        os.mkdir(name, 0o755, dir_fd=parent)
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(name, flags, dir_fd=parent)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _remove(folder: int, name: str) -> None:
    try:
        os.unlink(name, dir_fd=folder)
    except FileNotFoundError:
        return


def _make_link(folder: int, name: str, target: str) -> None:
    try:
        if os.readlink(name, dir_fd=folder) == target:
            return
    except OSError:
        pass  # not there, or not a link: both are mended the same way
    _remove(folder, name)
    os.symlink(target, name, dir_fd=folder)


def _placeholder(capability: Capability) -> str:
    return f"c {capability.major}:{capability.minor}\n"


def _read_placeholder(folder: int, name: str) -> str:
    """At most as much as a placeholder has; opened without following a link or waiting for a FIFO's writer."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with os.fdopen(os.open(name, flags, dir_fd=folder), "rb") as stream:
        return (stream.read(64) or b"").decode(errors="replace")
