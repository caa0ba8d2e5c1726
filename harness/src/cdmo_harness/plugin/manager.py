"""When the plugin looks at the GPUs, and in what order it stops and starts its servers.

Modelled on cmd/nvidia-device-plugin/main.go of v0.20: SIGHUP and a new kubelet.sock restart everything; an error
while looking ends the process with status 1; a server that cannot register makes everything restart in 30 seconds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

from .health import HealthWatch
from .inventory import PluginDevice
from .server import ResourceServer, StartFailed

_log = structlog.get_logger(__name__)

RETRY_SECONDS = 30.0

Inventory = Mapping[str, Sequence[PluginDevice]]


class Wishes:
    """What reaches the plugin from outside. Several wishes to restart that come during one restart are one."""

    def __init__(self) -> None:
        self._came = asyncio.Event()
        self._stop = False

    def restart(self) -> None:
        """Look at the GPUs again."""
        self._came.set()

    def stop(self) -> None:
        """End the process; wins over any restart."""
        self._stop = True
        self._came.set()

    async def next(self, limit: float | None) -> bool:
        """Wait for a wish, at most `limit` seconds; True for a restart (or when time is up), False for a stop."""
        try:
            async with asyncio.timeout(limit):
                await self._came.wait()
        except TimeoutError:
            return True
        self._came.clear()
        return not self._stop


@dataclass(slots=True)
class PluginManager:
    """`look` enumerates the GPUs (it may block; raises EnumerationFailed). `device_root`: see ResourceServer."""

    root: Path
    kubelet_socket: Path
    look: Callable[[], Inventory]
    retry_seconds: float
    device_root: Path = Path("/")

    async def run(self, wishes: Wishes) -> None:
        """Until told to stop. A wish that comes during a restart is served after it."""
        servers: list[ResourceServer] = []
        watch: HealthWatch | None = None
        try:
            while True:
                # All of the old generation goes before anything new is looked at.
                if watch is not None:
                    watch.stop()
                for server in servers:
                    await server.stop()
                inventory = await asyncio.to_thread(self.look)
                servers = [
                    ResourceServer(
                        resource, devices, self.root, self.kubelet_socket.parent, device_root=self.device_root
                    )
                    for resource, devices in inventory.items()
                    if devices
                ]
                complete = await self._start(servers)
                watch = self._watch(inventory, servers)
                if not complete:
                    _log.error("Failed to start one or more plugins. Retrying in 30s...")
                if not await wishes.next(None if complete else self.retry_seconds):
                    return
        finally:
            if watch is not None:
                watch.stop()
            for server in servers:
                await server.stop()

    async def _start(self, servers: Sequence[ResourceServer]) -> bool:
        """One after the other; False when one failed, and then the later ones are not even tried."""
        for server in servers:
            try:
                await server.start(self.kubelet_socket)
            except StartFailed as error:
                _log.error(f"Failed to start plugin: {error}", resource=server.resource)
                return False
        if not servers:
            _log.info("No devices found. Waiting indefinitely.")
        return True

    def _watch(self, inventory: Inventory, servers: Sequence[ResourceServer]) -> HealthWatch:
        loop = asyncio.get_running_loop()

        def report(device_ids: Sequence[str]) -> None:
            for server in servers:
                loop.call_soon_threadsafe(server.mark_unhealthy, device_ids)

        watch = HealthWatch([device for devices in inventory.values() for device in devices], report)
        watch.start()
        return watch
