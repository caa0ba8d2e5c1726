"""`nvidia-device-plugin -m cdmo_harness.plugin --root DIR`: the plugin's process.

Exit status 1 when looking at the GPUs fails, 0 after SIGTERM. SIGHUP before the handler is in place ends the
process, as it ends the real one.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
from pathlib import Path

import pynvml
import structlog

from .inventory import EnumerationFailed, enumerate_devices, load_library
from .kubelet_socket import watch_for_creation
from .manager import RETRY_SECONDS, Inventory, PluginManager, Wishes

_log = structlog.get_logger(__name__)


def main() -> int:
    """Entry point; returns the exit status."""
    parser = argparse.ArgumentParser(prog="nvidia-device-plugin", description="Stand-in for NVIDIA's device plugin")
    parser.add_argument("--root", type=Path, required=True, help="the node's host root")
    parser.add_argument("--kubelet-socket", type=Path, help="default: var/lib/kubelet/device-plugins/kubelet.sock")
    parser.add_argument("--retry-seconds", type=float, default=RETRY_SECONDS, help="after a failed registration")
    parser.add_argument("--dev-root", type=Path, default=Path("/"), help="as NVIDIA_DEV_ROOT of the real plugin")
    options = parser.parse_args()
    socket = options.kubelet_socket or options.root / "var/lib/kubelet/device-plugins/kubelet.sock"
    try:
        load_library(options.root)
        asyncio.run(_serve(options, socket))
    except (EnumerationFailed, OSError) as error:
        _log.error(f"Error: {error}")
        # The health thread may sit in a driver call for seconds; the real process does not wait for it either.
        os._exit(1)
    os._exit(0)


async def _serve(options: argparse.Namespace, socket: Path) -> None:
    root: Path = options.root
    wishes = Wishes()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGHUP, wishes.restart)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
        loop.add_signal_handler(number, wishes.stop)
    socket.parent.mkdir(parents=True, exist_ok=True)
    with watch_for_creation(socket, wishes.restart):
        manager = PluginManager(
            root, socket, lambda: _look(root), options.retry_seconds, device_root=options.dev_root
        )
        await manager.run(wishes)


def _look(root: Path) -> Inventory:
    """One session with the driver: init, enumerate, shut down."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        raise EnumerationFailed(f"failed to initialize NVML: {error}") from error
    try:
        return enumerate_devices(root)
    finally:
        pynvml.nvmlShutdown()


if __name__ == "__main__":
    raise SystemExit(main())
