"""Where the host's files are, all below one root: `/host` in the agent's pod, any folder for a simulated node."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from cdmo.errors import BadSettings

KUBELET_ROOT = PurePosixPath("/var/lib/kubelet")
MAX_FILE_BYTES = 1 << 20  # no file that CDMO reads from a host is near this
# Nothing that was put in a new file's place is followed or written into.
_MAKE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_MAX_LINKS = 40  # as the kernel: path_resolution(7)
_MAX_PARTS = 1024  # of a path, those of its links among them


@dataclass(frozen=True, slots=True)
class HostPaths:
    """The places CDMO uses on a host. `kubelet` is the kubelet's root directory as the host names it; raises
    BadSettings for one that is not absolute."""

    root: Path
    kubelet: PurePosixPath = KUBELET_ROOT

    def __post_init__(self) -> None:
        """Refuse what would depend on where this process was started."""
        if not self.kubelet.is_absolute() or ".." in self.kubelet.parts:
            raise BadSettings(
                f"the kubelet's root directory {str(self.kubelet)!r} is not an absolute path",
                hint="give --kubelet-root as the kubelet has it: /var/lib/kubelet, on MicroK8s "
                "/var/snap/microk8s/common/var/lib/kubelet",
            )

    def under(self, path: str | PurePosixPath) -> Path:
        """A path of the host, for example "/run/nvidia/driver", as this process reaches it."""
        return self.root / str(path).lstrip("/")

    @property
    def proc(self) -> Path:
        """The process and kernel information file system."""
        return self.under("/proc")

    @property
    def dev(self) -> Path:
        """The device nodes."""
        return self.under("/dev")

    @property
    def device_plugins(self) -> Path:
        """The directory where device plugins make their sockets. Raises BadSettings."""
        return self._kubelet_folder("device-plugins")

    @property
    def pod_resources_socket(self) -> Path:
        """The kubelet's PodResources socket. Raises BadSettings."""
        return self._kubelet_folder("pod-resources") / "kubelet.sock"

    def _kubelet_folder(self, name: str) -> Path:
        # Often a symbolic link to a larger disk, and absolute: from a pod it would lead into the pod's own root.
        try:
            return resolve_inside(self.root, self.kubelet / name)
        except OSError as error:
            raise BadSettings(
                f"the kubelet's folder {self.kubelet / name} cannot be followed below {self.root}: {error}",
                hint="give --kubelet-root the directory that its symbolic links mean",
            ) from error

    @property
    def state(self) -> Path:
        """CDMO's own directory: the journal of a change that is under way."""
        return self.under("/var/lib/cdmo")

    def boot_id(self) -> str:
        """The kernel's id of this boot. Raises BadSettings when it cannot be read."""
        path = self.proc / "sys/kernel/random/boot_id"
        try:
            return read_text(path).strip()[:63]
        except (OSError, ValueError) as error:
            raise BadSettings(
                f"the boot id cannot be read from {path}: {error}",
                hint=f"mount the host's root file system at {self.root}",
            ) from error


def read_text(path: Path, limit: int = MAX_FILE_BYTES) -> str:
    """A text file of at most `limit` bytes. Raises OSError, or ValueError when it is longer or not UTF-8.

    Without blocking on a FIFO or a device that lies where a file should be.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    with os.fdopen(descriptor, "rb") as stream:
        content = stream.read(limit + 1) or b""
    if len(content) > limit:
        raise ValueError(f"longer than {limit} bytes")
    return content.decode()


def replace_file(path: Path, content: bytes) -> None:
    """Put a file of CDMO's own in place of what is there: whole after a kill at any line, synced. Raises OSError."""
    fresh = path.with_name(path.name + ".new")
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh.unlink(missing_ok=True)  # of a write that was killed
    with os.fdopen(os.open(fresh, _MAKE, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Put on disk which files a folder has. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def resolve_inside(root: Path, path: str | PurePosixPath) -> Path:
    """Follow `path` and every symbolic link in it as if `root` were "/". The target need not exist.

    A driver container's root is full of absolute links that mean something else outside of it, and a link must
    not lead a privileged process out of the tree it was told to look at. Raises OSError on a loop and for a path that
    is too long.
    """
    pending = _names(PurePosixPath(path))
    found: list[str] = []
    links = 0
    while pending:
        if len(pending) + len(found) > _MAX_PARTS:
            raise OSError(f"the path is longer than {_MAX_PARTS} names")
        part = pending.pop()
        if part == "..":
            found = found[:-1]
            continue
        here = root.joinpath(*found, part)
        if not here.is_symlink():
            found.append(part)
            continue
        links += 1
        if links > _MAX_LINKS:
            raise OSError(f"too many symbolic links in {path}")
        target = here.readlink()
        if target.is_absolute():
            found = []
        pending.extend(_names(PurePosixPath(target)))
    return root.joinpath(*found)


def _names(path: PurePosixPath) -> list[str]:
    """Its names, the last one first. The root's own is left out, which can be "//" as well: joined to another path
    either would begin anew at the real root."""
    return [each for each in reversed(path.parts) if each.strip("/")]
