"""Makes the inside of a real node look like a host with an NVIDIA driver, for an agent that runs there as a pod.

Such an agent sees the host as the node's mounts show it: at /host in its container. So the simulated driver has to be
where NVIDIA's driver container is, the kernel's files in /proc and the device nodes in a /dev of the node's own. The
machine's own /dev and /proc are not touched.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from cdmo_harness.namespaces import BIND, RECURSIVE, mount
from cdmo_harness.real_node.layout import Layout

# As the host names them; in the agent's container below /host.
DRIVER_ROOT: Final = "/run/nvidia/driver"  # where NVIDIA's driver container shows its root
STATE_FOLDER: Final = "/run/nvidia/simulated"  # the simulated hardware's own files
# What the simulated library needs to know in the agent's container.
AGENT_ENVIRONMENT: Final = {
    "NVMLSIM_STATE": f"/host{STATE_FOLDER}/driver.state",
    "NVMLSIM_ROOT": f"/host{DRIVER_ROOT}",
}
_STATE: Final = "/var/lib/cdmo"
_NODES = ("null", "zero", "full", "random", "urandom", "tty", "kmsg")
_FOLDERS = ("pts", "shm", "mqueue")
_LINKS = {"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2"}


def furnish(layout: Layout) -> None:
    """Mount everything; inside the node's mount namespace, after its /proc and /run. Raises OSError."""
    for source, target in ((layout.root, DRIVER_ROOT), (layout.folder, STATE_FOLDER)):
        Path(target).mkdir(parents=True, exist_ok=True)
        mount(str(source), target, flags=BIND)
    for name in ("driver", "devices"):
        mount(str(layout.root / "proc" / name), f"/proc/{name}", flags=BIND)
    layout.agent_state.mkdir(exist_ok=True)
    Path(_STATE).mkdir(parents=True, exist_ok=True)
    mount(str(layout.agent_state), _STATE, flags=BIND)
    _own_devices()


def _own_devices() -> None:
    """A /dev with the nodes that every program expects, where the agent may make others."""
    fresh = Path("/run/dev")
    fresh.mkdir()
    mount("tmpfs", str(fresh), "tmpfs")
    for name in _NODES:
        if (Path("/dev") / name).exists():
            (fresh / name).touch()
            mount(f"/dev/{name}", str(fresh / name), flags=BIND)
    for name in _FOLDERS:
        if (Path("/dev") / name).is_dir():
            (fresh / name).mkdir()
            mount(f"/dev/{name}", str(fresh / name), flags=BIND | RECURSIVE)
    for name, target in _LINKS.items():
        (fresh / name).symlink_to(target)
    (fresh / "ptmx").symlink_to("pts/ptmx")
    mount(str(fresh), "/dev", flags=BIND | RECURSIVE)
