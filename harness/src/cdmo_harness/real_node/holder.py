"""The process whose namespaces are a real node: `python -m cdmo_harness.real_node.holder FOLDER ROOT NAME`.

Namespaces live as long as somebody is in them, so one process only waits there. It is the first of its process id
namespace: when it ends the kernel ends kubelet, containerd and every container with it, then nobody holds the mounts
and the network any more and they go too. It ends when its parent does, and that one ends with the harness.

Inside, `/` is the machine's own, with these exceptions:

- /proc shows this node's processes alone, with its own boot id, and files in place of the settings of the whole
  machine that a kubelet writes.
- /var/lib/kubelet is the one below ROOT, where agents, plugins and tests outside find the same sockets.
- /var/log, /run and /var/lib/cni are the node's own.
- The network has the node's address on a pair of connected interfaces, and no way out.
- With `gpu-host` as one more argument it looks like a host with an NVIDIA driver (see `gpu_host`).
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from pathlib import Path

from cdmo_harness.namespaces import (
    BIND,
    NEW_MOUNTS,
    NEW_NETWORK,
    NEW_PROCESS_IDS,
    PRIVATE,
    RECURSIVE,
    SHARED,
    mount,
    unshare,
)
from cdmo_harness.processes import ProcessIdentity, write_record
from cdmo_harness.real_node.gpu_host import furnish
from cdmo_harness.real_node.layout import Layout

# What a kubelet sets unless it finds it so (pkg/kubelet/cm and pkg/util/sysctl of Kubernetes). /proc/sys/net is not
# among them: it belongs to the network namespace.
TUNABLES = {
    "vm/overcommit_memory": "1",
    "vm/panic_on_oom": "0",
    "kernel/panic": "10",
    "kernel/panic_on_oops": "1",
    "kernel/keys/root_maxkeys": "1000000",
    "kernel/keys/root_maxbytes": "25000000",
}
_BOOT_ID = "proc/sys/kernel/random/boot_id"
_PR_SET_PDEATHSIG = 1
GPU_HOST = "gpu-host"  # the argument by which the inside looks like a host with a driver (`gpu_host`)


def main(arguments: list[str]) -> int:
    """Entry point; returns when the inner process has ended."""
    folder, root, name, *more = arguments
    layout = Layout(Path(folder), Path(root), name)
    gpu_host = GPU_HOST in more
    try:
        unshare(NEW_PROCESS_IDS)
    except OSError as error:
        sys.stderr.write(f"error: no namespaces can be made here: {error}\n")
        return 1
    told, tell = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(tell)
        _be_first(layout, told, gpu_host)
    os.close(told)
    identity = ProcessIdentity.of(child)
    if identity is not None:
        write_record(layout.init_record, identity)
        os.write(tell, b"!")
    os.close(tell)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status) % 256


def _be_first(layout: Layout, told: int, gpu_host: bool) -> None:
    """The inner process, from its birth to its end."""
    status = 1
    try:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        # An empty answer: the parent has ended, and its death signal cannot come any more.
        if os.read(told, 1):
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
            unshare(NEW_MOUNTS | NEW_NETWORK)
            _mount(layout)
            if gpu_host:
                furnish(layout)
            _connect(layout)
            layout.holder_ready.touch()
            _reap()
    except (OSError, subprocess.SubprocessError) as error:
        sys.stderr.write(f"error: the node's namespaces cannot be furnished: {error}\n")
    finally:
        sys.stderr.flush()
        os._exit(status)


def _mount(layout: Layout) -> None:
    mount("", "/", flags=RECURSIVE | PRIVATE)  # nothing of this may show outside
    mount("", "/", flags=RECURSIVE | SHARED)  # containers may be given mounts that spread
    mount("proc", "/proc", "proc")
    for path, value in TUNABLES.items():
        stand_in = layout.tunables / path.replace("/", ".")
        stand_in.write_text(f"{value}\n")
        if Path("/proc/sys", path).exists():
            mount(str(stand_in), f"/proc/sys/{path}", flags=BIND)
    mount(str(layout.root / _BOOT_ID), f"/{_BOOT_ID}", flags=BIND)
    for folder in ("/run", "/var/lib/cni"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        mount("tmpfs", folder, "tmpfs")
    Path("/var/lib/kubelet").mkdir(parents=True, exist_ok=True)
    mount(str(layout.root / "var/lib/kubelet"), "/var/lib/kubelet", flags=BIND)
    mount(str(layout.logs), "/var/log", flags=BIND)


def _connect(layout: Layout) -> None:
    """A kubelet takes no loopback address for its node's; a pair of interfaces works in every kernel."""
    for command in (
        "link set lo up",
        "link add node0 type veth peer name node1",
        f"addr add {layout.address}/24 dev node0",
        "link set node0 up",
        "link set node1 up",
        "route add default dev node0",
    ):
        subprocess.run(["ip", *command.split()], check=True, timeout=10)


def _reap() -> None:
    """For ever: take leave of processes whose parents have ended."""
    while True:
        signal.sigwait([signal.SIGCHLD])
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            continue


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
