"""The agent as `cdmo agent` runs it, but killed when its first change enters the phase in CDMO_CRASH_AT.

`python -m cdmo_harness.crashing_agent` takes the arguments of `cdmo agent` that a local cluster gives. SIGKILL, from
inside: no handler runs, nothing is flushed, as when the kernel or a person kills the process at that line.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
from pathlib import Path

from cdmo.agent.change import Phase
from cdmo.agent.main import AgentSettings, run_agent
from cdmo.kube.connect import ConnectSettings
from cdmo.kubelet.devicenodes import NodeKind
from cdmo.runtime.clock import SystemClock
from cdmo.runtime.hostpaths import HostPaths
from cdmo.runtime.logging import configure_logging

CRASH_AT = "CDMO_CRASH_AT"


class KilledOnEntering:
    """A Progress that ends the process when a change enters `phase`."""

    def __init__(self, phase: Phase) -> None:
        self._phase = phase

    def entered(self, phase: Phase) -> None:
        """Die, or go on."""
        if phase is self._phase:
            os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description="cdmo agent that is killed in the middle of a change")
    parser.add_argument("--node", required=True)
    parser.add_argument("--kubeconfig", required=True, type=Path)
    parser.add_argument("--root", required=True, type=Path)
    parser.add_argument("--placeholder-device-nodes", action="store_true")
    given = parser.parse_args()
    configure_logging("agent", "info")
    settings = AgentSettings(
        node=given.node,
        connect=ConnectSettings(given.kubeconfig),
        paths=HostPaths(given.root),
        device_node_kind=NodeKind.PLACEHOLDER if given.placeholder_device_nodes else NodeKind.CHARACTER,
    )
    progress = KilledOnEntering(Phase(os.environ[CRASH_AT]))
    asyncio.run(run_agent(settings, os.environ, SystemClock(), progress))


if __name__ == "__main__":
    main()
