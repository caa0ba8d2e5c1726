"""An agent that stops the device plugin of a node and then does nothing more, until it is killed.

Run as a program with the node's proc and folder of sockets as arguments; prints "held" and the guardian's process id.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from cdmo.kubelet.guardian import Guardian
from cdmo.kubelet.hold import PluginHold
from cdmo.kubelet.processes import ProcessTable
from cdmo.kubelet.sockets import PluginSockets


def main() -> None:
    """Stop and wait."""
    proc, sockets = map(Path, sys.argv[1:3])
    guardian = Guardian()
    guardian.start()
    (plugin,) = ProcessTable(proc).find("nvidia-device-plugin")
    folder = PluginSockets(sockets)
    hold = PluginHold(plugin, folder, folder.all(), guardian)
    sys.stdout.write(f"held {guardian.pid} {hold.stop()}\n")
    sys.stdout.flush()
    signal.pause()


if __name__ == "__main__":
    main()
