"""A kubelet's device manager behind a real registration socket, for tests of the plugin."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import grpc.aio
from cdmo_harness._pb import deviceplugin_pb2_grpc
from cdmo_harness.kubelet.device_manager import DeviceManager
from cdmo_harness.kubelet.plugin_connection import GrpcPlugin, RegistrationService
from cdmo_harness.kubelet.plugins import PluginClients
from cdmo_harness.plugin.inventory import EnumerationFailed, PluginDevice
from cdmo_harness.plugin.manager import Inventory, PluginManager, Wishes

from tests.harness.kubelet.builders import Tasks

ONE_G, THREE_G, WHOLE = "nvidia.com/mig-1g.10gb", "nvidia.com/mig-3g.40gb", "nvidia.com/gpu"
LIMIT = 10.0


@dataclass
class Bench:
    """A kubelet's device manager behind its real socket, and a plugin whose GPUs are `inventory`."""

    folder: Path
    inventory: dict[str, list[str]]
    retry_seconds: float = 30.0
    looks: int = 0
    fails: bool = False
    wishes: Wishes = field(default_factory=Wishes)
    tasks: Tasks = field(default_factory=Tasks)

    def __post_init__(self) -> None:
        self.changed = asyncio.Event()
        self.manager = DeviceManager(
            clock=lambda: 0.0,
            rng=Random(1),
            active_pods=lambda: (),
            save=lambda allocations, resources: self.changed.set(),
            kubelet_minor=37,
            sources_ready=True,
        )
        self.clients = PluginClients(self.manager, GrpcPlugin.dial, lambda uids: None, self.tasks.spawn)

    @property
    def kubelet_socket(self) -> Path:
        return self.folder / "kubelet.sock"

    def look(self) -> Inventory:
        self.looks += 1
        if self.fails:
            raise EnumerationFailed("no matching profile IDs found")
        return {resource: [_device(i) for i in ids] for resource, ids in self.inventory.items()}

    @asynccontextmanager
    async def kubelet(self) -> AsyncIterator[None]:
        server = grpc.aio.server()
        service = RegistrationService(self.clients, self.folder)
        deviceplugin_pb2_grpc.add_RegistrationServicer_to_server(service, server)
        server.add_insecure_port(f"unix:{self.kubelet_socket}")
        await server.start()
        try:
            yield
        finally:
            await self.clients.disconnect_all()
            await server.stop(None)

    @asynccontextmanager
    async def plugin(self) -> AsyncIterator[asyncio.Task[None]]:
        manager = PluginManager(self.folder, self.kubelet_socket, self.look, self.retry_seconds)
        task = asyncio.create_task(manager.run(self.wishes))
        try:
            yield task
        finally:
            self.wishes.stop()
            if not task.done():
                await task

    async def until_healthy(self, **expected: Sequence[str]) -> None:
        """Wait until exactly these devices are healthy: one_g=["MIG-a"]."""
        wanted = {
            {"one_g": ONE_G, "three_g": THREE_G, "whole": WHOLE}[key]: set(ids) for key, ids in expected.items()
        }
        async with asyncio.timeout(LIMIT):
            while {r: {d.id for d in found} for r, found in self.manager.allocatable().items() if found} != wanted:
                self.changed.clear()
                await asyncio.wait([asyncio.create_task(self.changed.wait())], timeout=0.05)


def _device(device_id: str) -> PluginDevice:
    return PluginDevice(device_id, f"GPU-of-{device_id}", ("/dev/nvidia0", "/dev/nvidia-caps/nvidia-cap12"), 1, 0)
