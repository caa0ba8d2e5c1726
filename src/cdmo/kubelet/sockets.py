"""The device plugin's sockets in the kubelet's folder, one for each resource it serves."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from cdmo.model.names import RESOURCE_PREFIX

_BEFORE, _AFTER = "nvidia-", ".sock"
_CONNECT_LIMIT = 0.1  # seconds; connecting to a Unix socket needs only room in its queue

# File name -> inode and time of creation, for the same name comes back, and with some file systems the same inode.
Sockets = Mapping[str, tuple[int, int]]


def socket_of(resource: str) -> str:
    """The file name of a resource's socket: nvidia-mig-3g.40gb.sock for nvidia.com/mig-3g.40gb."""
    return f"{_BEFORE}{resource.removeprefix(RESOURCE_PREFIX)}{_AFTER}"


def resource_of(name: str) -> str:
    """The resource a socket is for."""
    return RESOURCE_PREFIX + name.removeprefix(_BEFORE).removesuffix(_AFTER)


class PluginSockets:
    """A look at the folder; a resource that vanished may have left a socket nobody serves."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def all(self) -> Sockets:
        """Every socket of the plugin, served or not."""
        found: dict[str, tuple[int, int]] = {}
        # Not Path.glob, which takes twice as long: the guardian looks here every 0.3 ms while the plugin is reloaded.
        try:
            entries = os.scandir(self.folder)
        except OSError:
            return found  # without the folder there are none
        with entries:
            for entry in entries:
                if not (entry.name.startswith(_BEFORE) and entry.name.endswith(_AFTER)):
                    continue
                with suppress(FileNotFoundError):
                    status = entry.stat(follow_symlinks=False)
                    found[entry.name] = (status.st_ino, status.st_ctime_ns)
        return found

    def abandoned(self) -> Sockets:
        """Those that refuse connections: an earlier process made them, and the kubelet knows nothing of them."""
        return {name: identity for name, identity in self.all().items() if self._refuses(name)}

    def _refuses(self, name: str) -> bool:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(_CONNECT_LIMIT)
            try:
                probe.connect(str(self.folder / name))
            except (ConnectionRefusedError, FileNotFoundError):
                return True
            except OSError:
                return False  # a full queue, or a path too long to ask: somebody may be there
        return False


def without(sockets: Sockets, others: Sockets) -> Sockets:
    """The sockets that are not, by identity, among the others."""
    return {name: identity for name, identity in sockets.items() if others.get(name) != identity}
