"""Where everything of one real node lies, and its addresses.

The node's network namespace has no link to the outside, so nodes can have any addresses; each gets its own all the
same, from the range for tests of network devices (RFC 2544), that Nodes are not mixed up by who looks at them.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Layout:
    """Files below the folder of one node."""

    folder: Path
    root: Path
    name: str

    @property
    def init_record(self) -> Path:
        """The record of the process that holds the namespaces; whoever ends it ends everything inside."""
        return self.folder / "init.process"

    @property
    def holder_ready(self) -> Path:
        """Appears when mounts and network are made."""
        return self.folder / "holder.ready"

    @property
    def relay_ready(self) -> Path:
        """Appears when the API server can be reached from inside."""
        return self.folder / "relay.ready"

    @property
    def tunables(self) -> Path:
        """Files that stand for the kernel's settings: the kubelet writes them, and they are the whole machine's."""
        return self.folder / "tunables"

    @property
    def logs(self) -> Path:
        """/var/log inside: the kubelet writes containers' output there."""
        return self.folder / "log"

    @property
    def containerd_folder(self) -> Path:
        """containerd's disk."""
        return self.folder / "containerd"

    @property
    def containerd_socket(self) -> Path:
        """containerd's socket; reachable from outside the namespaces too."""
        return self.folder / "containerd.sock"

    @property
    def agent_state(self) -> Path:
        """/var/lib/cdmo inside, where the agent runs as a pod."""
        return self.folder / "agent-state"

    @property
    def records(self) -> Path:
        """What the slice hook writes."""
        return self.folder / "slices"

    @property
    def cgroup(self) -> str:
        """The name of the node's control group, like no other's on this machine."""
        digest = hashlib.sha256(os.fsencode(self.folder)).hexdigest()[:8]
        return f"cdmo-{digest}-{self.name}"

    @property
    def address(self) -> str:
        """The Node's InternalIP."""
        return f"198.18.{self._number}.10"

    @property
    def pod_range(self) -> str:
        """Where pods get their addresses from."""
        return f"198.19.{self._number}.0/24"

    @property
    def _number(self) -> int:
        return hashlib.sha256(self.name.encode()).digest()[0]
