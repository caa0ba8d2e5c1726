"""An agent that reloads the device plugin of a node and does nothing more once it is stopped, until it is killed.

Run as a program with the node's proc and folder of sockets as arguments; prints "held" and the guardian's process id.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

from cdmo.kubelet.guardian import Guardian
from cdmo.kubelet.processes import ProcessTable
from cdmo.kubelet.sockets import PluginSockets


async def main(proc: Path, sockets: Path) -> None:
    """Stop and wait."""
    guardian = Guardian()
    guardian.start()
    (plugin,) = ProcessTable(proc).find("nvidia-device-plugin")
    there = frozenset(PluginSockets(sockets).all())
    async with guardian.watch(plugin, sockets, there, {}, seconds=60) as hold:
        plugin.signal(signal.SIGHUP)
        await hold.stopped()
        sys.stdout.write(f"held {guardian.pid}\n")
        sys.stdout.flush()
        signal.pause()


if __name__ == "__main__":
    asyncio.run(main(*map(Path, sys.argv[1:3])))
