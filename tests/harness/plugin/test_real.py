"""The way in which a real plugin's binary runs against a simulated host."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from cdmo_harness.plugin_program import PLUGIN, plugin_command


def test_a_real_binary_sees_the_hosts_folders_or_says_why_not(tmp_path: Path) -> None:
    root = tmp_path / "root"
    for folder in ("var/lib/kubelet", "proc/driver/nvidia-caps"):
        (root / folder).mkdir(parents=True)
    (root / "proc/driver/nvidia-caps/mig-minors").write_text("config 1\n")
    command, environment = plugin_command(root, tmp_path / "plugin", Path("/bin/cat"))
    done = subprocess.run(
        [*command, "/proc/driver/nvidia-caps/mig-minors"],
        env={"PATH": os.environ["PATH"], **environment, "LD_LIBRARY_PATH": ""},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "config 1\n") or "hint: run as root" in done.stderr
    assert not Path("/proc/driver/nvidia-caps/mig-minors").exists(), "nothing shows outside its mount namespace"


def test_the_real_plugin_gets_its_usual_environment_and_name(tmp_path: Path) -> None:
    command, environment = plugin_command(tmp_path, tmp_path / "plugin", Path("/bin/cat"))
    assert environment["MIG_STRATEGY"] == "mixed"
    assert environment["DEVICE_LIST_STRATEGY"] == "volume-mounts"
    assert environment["NVIDIA_DEV_ROOT"] == str(tmp_path)
    assert Path(command[-1]).name == PLUGIN
    assert command[0] == sys.executable
