"""Running a real device plugin's binary against a simulated host: `python -m cdmo_harness.plugin.real ROOT BINARY`.

The real plugin puts its sockets into /var/lib/kubelet/device-plugins and reads /proc/driver, both fixed paths. So it
gets a mount namespace of its own in which these two are the simulated host's, and then takes over this process (same
id, its own name as argv[0]). Needs CAP_SYS_ADMIN.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from cdmo_harness.namespaces import BIND, NEW_MOUNTS, PRIVATE, RECURSIVE, mount, unshare

# Folders of the host that are replaced by those below the root.
_REPLACED = ("/var/lib/kubelet", "/proc/driver")


def main(arguments: list[str]) -> int:
    """Entry point; returns only on failure."""
    root, binary, *rest = arguments
    try:
        enter(Path(root))
        os.execv(binary, [binary, *rest])  # noqa: S606 the caller names the program, and no shell is wanted
    except OSError as error:
        sys.stderr.write(
            f"error: the real device plugin cannot run on a simulated host here: {error}\n"
            "hint: run as root, or leave the binary out and use the stand-in\n"
        )
    return 1


def enter(root: Path) -> None:
    """Move this process into a mount namespace that shows the simulated host's folders. Raises OSError."""
    unshare(NEW_MOUNTS)
    # Nothing that is mounted from here on may show outside.
    mount("", "/", flags=RECURSIVE | PRIVATE)
    for folder in _REPLACED:
        Path(folder).mkdir(parents=True, exist_ok=True)
        mount(str(root / folder.lstrip("/")), folder, flags=BIND | RECURSIVE)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
