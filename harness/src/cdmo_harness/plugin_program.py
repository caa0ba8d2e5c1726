"""How the device plugin of a simulated node is started: its command, under the name by which agents find it.

CDMO's agent (as NVIDIA's own config-manager) knows the plugin by the base name of its argv[0]. The stand-in is a
Python module, so it runs through a link to the interpreter that has that name, beside a copy of the virtual
environment's marker file, by which Python finds its packages.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

PLUGIN = "nvidia-device-plugin"


def plugin_command(root: Path, folder: Path, binary: Path | None) -> tuple[list[str], dict[str, str]]:
    """Command and additional environment. `folder` holds the links; `binary` is a real plugin or None."""
    named = folder / "bin" / PLUGIN
    named.parent.mkdir(parents=True, exist_ok=True)
    named.unlink(missing_ok=True)
    if binary is not None:
        named.symlink_to(binary.resolve())
        return [sys.executable, "-m", "cdmo_harness.plugin.real", str(root), str(named)], _real_environment(root)
    named.symlink_to(os.path.realpath(sys.executable))
    _link_environment(folder)
    return [str(named), "-m", "cdmo_harness.plugin", "--root", str(root)], {}


def _link_environment(folder: Path) -> None:
    """Make `folder` a virtual environment like this one; nothing to do outside of one."""
    marker = Path(sys.prefix) / "pyvenv.cfg"
    if not marker.is_file():
        return
    shutil.copyfile(marker, folder / "pyvenv.cfg")
    packages = folder / "lib"
    if not packages.is_symlink():
        packages.symlink_to(Path(sys.prefix) / "lib")


def _real_environment(root: Path) -> dict[str, str]:
    return {
        "MIG_STRATEGY": "mixed",
        "DEVICE_LIST_STRATEGY": "volume-mounts",
        "PASS_DEVICE_SPECS": "true",
        "NVIDIA_DEV_ROOT": str(root),
        "LD_LIBRARY_PATH": str(root / "usr/lib/x86_64-linux-gnu"),
    }
