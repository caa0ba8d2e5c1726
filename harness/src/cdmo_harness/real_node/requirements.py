"""Whether this machine can run a real node."""

from __future__ import annotations

import os
import shutil
import sys

from cdmo_harness.errors import HarnessError
from cdmo_harness.real_node.containerd import cni_plugins

# Programs, and the Debian packages they come with.
_PROGRAMS = {
    "containerd": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    "ip": "iproute2",
    "nsenter": "util-linux",
    "iptables": "iptables",
}


def check_machine() -> None:
    """Raises HarnessError, which says what is missing and how to get it."""
    if sys.platform != "linux":
        raise HarnessError("a real kubelet runs on Linux only", hint="use the simulated nodes here")
    if os.geteuid() != 0:
        raise HarnessError(
            "a real kubelet needs root", hint="run `make e2e` as root, or use the simulated nodes (make test)"
        )
    search = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))
    missing = sorted({package for name, package in _PROGRAMS.items() if shutil.which(name, path=search) is None})
    if missing:
        raise HarnessError(
            "programs that a real node needs are not installed",
            hint="on Debian and Ubuntu: apt-get install --no-install-recommends "
            + " ".join([*missing, "containernetworking-plugins"]),
        )
    cni_plugins()
