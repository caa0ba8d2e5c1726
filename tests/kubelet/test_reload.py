"""A reload with the kubelet stand-in, the plugin stand-in, NVML on the simulated driver and CDMO's own client."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import grpc.aio
import pytest
from cdmo_harness._pb import deviceplugin_pb2_grpc
from cdmo_harness.driver import SimulatedDriver
from cdmo_harness.kubelet.device_manager import DeviceManager
from cdmo_harness.kubelet.plugin_connection import GrpcPlugin, RegistrationService
from cdmo_harness.kubelet.plugins import PluginClients
from cdmo_harness.kubelet.pod_resources import BURST, CALLS_PER_SECOND, PodResourcesService, RateLimit
from cdmo_harness.plugin_program import plugin_command

from cdmo.errors import PluginStuck
from cdmo.hardware.nvml import NvmlGpus
from cdmo.kubelet.deviceplugin import NvidiaDevicePlugin
from cdmo.kubelet.podresources import KubeletPodResources
from cdmo.kubelet.processes import ProcessTable
from cdmo.model.gpu import Placement
from cdmo.runtime.clock import SystemClock
from cdmo.runtime.hostpaths import HostPaths
from tests.contract.hardware_hosts import H100, simulated_driver
from tests.kubelet.fake_kubelet import serving
from tests.kubelet.plugins import NONE
from tests.simulated import this_process_uses

pytestmark = pytest.mark.asyncio

BUS = "00000000:10:00.0"


@dataclass
class Machine:
    """A node with one GPU, its kubelet (in this process) and its device plugin (a process)."""

    root: Path
    driver: SimulatedDriver
    gpus: NvmlGpus
    pods: KubeletPodResources
    plugin: NvidiaDevicePlugin
    process: subprocess.Popen[bytes] = field(init=False)

    def expected(self) -> dict[str, frozenset[str]]:
        """What the kubelet must list: what NVML has."""
        (gpu,) = self.gpus.read().gpus
        found: dict[str, set[str]] = {}
        for each in gpu.instances:
            profile = gpu.model.profile(each.placement.profile_id)
            assert profile is not None
            found.setdefault(profile.resource, set()).add(each.device_uuid)
        return {resource: frozenset(ids) for resource, ids in found.items()}

    def start_plugin(self) -> None:
        """Start the plugin stand-in, and show it in this node's proc."""
        command, extra = plugin_command(self.root, self.root.parent, None)
        environment = {**os.environ, **self.driver.environment(), **extra, "GRPC_VERBOSITY": "ERROR"}
        self.process = subprocess.Popen(
            command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        (self.root / "proc" / str(self.process.pid)).symlink_to(f"/proc/{self.process.pid}")

    async def change(self, number: int) -> None:
        """Cut the GPU anew, another way each time, and reload."""
        for each in self.gpus.read().gpus[0].instances:
            self.gpus.destroy(BUS, each.id, each.placement)
        for placement in ((Placement(9, 0), Placement(19, 5)), (Placement(19, 1), Placement(9, 4)))[number % 2]:
            self.gpus.create(BUS, placement)
        await self.plugin.reload(self.expected(), NONE, NONE)


@asynccontextmanager
async def kubelet(host: HostPaths, end_delay: float) -> AsyncIterator[None]:
    """The stand-in's device manager with both of its sockets. `end_delay`: how late it notices a stream's end."""
    tasks: set[asyncio.Task[None]] = set()

    async def awaited(work: Awaitable[None]) -> None:
        await work

    def spawn(work: Awaitable[None], name: str) -> None:
        tasks.add(asyncio.create_task(awaited(work), name=name))

    manager = DeviceManager(time.monotonic, Random(1), list, lambda *_: None, kubelet_minor=37)
    clients = PluginClients(manager, GrpcPlugin.dial, lambda _: None, spawn, end_delay)
    limit = RateLimit(time.monotonic, CALLS_PER_SECOND, BURST)
    for each in (host.device_plugins, host.pod_resources_socket.parent):
        each.mkdir(parents=True)
    server = grpc.aio.server()
    deviceplugin_pb2_grpc.add_RegistrationServicer_to_server(
        RegistrationService(clients, host.device_plugins), server
    )
    server.add_insecure_port(f"unix:{host.device_plugins / 'kubelet.sock'}")
    await server.start()
    try:
        async with serving(PodResourcesService(manager, limit, list, list), host.pod_resources_socket):
            yield
    finally:
        await clients.disconnect_all()
        await server.stop(None)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture
def driver(simulated_library: Path, short_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SimulatedDriver]:
    """One H100 whose library lies below the node's root, where the plugin looks for it."""
    folder = short_folder / "root/usr/lib/x86_64-linux-gnu"
    folder.mkdir(parents=True)
    library = folder / simulated_library.name
    library.write_bytes(simulated_library.read_bytes())
    with simulated_driver(library, short_folder, H100) as created:
        this_process_uses(created, monkeypatch)
        yield created


@asynccontextmanager
async def machine(driver: SimulatedDriver, *, end_delay: float = 0.0) -> AsyncIterator[Machine]:
    """Everything started, MIG on, the plugin's first look done."""
    host = HostPaths(driver.root)
    pods = KubeletPodResources(host.pod_resources_socket, clock=SystemClock())
    plugin = NvidiaDevicePlugin(
        processes=ProcessTable(host.proc), sockets=host.device_plugins, pods=pods, clock=SystemClock(), limit=8.0
    )
    async with kubelet(host, end_delay), pods, plugin:
        node = Machine(driver.root, driver, NvmlGpus(lambda: driver.library, time.sleep), pods, plugin)
        node.gpus.set_mig_mode(BUS, True)
        node.gpus.create(BUS, Placement(0, 0))
        node.start_plugin()
        try:
            await plugin.reload(node.expected(), NONE, NONE)
            yield node
        finally:
            node.process.kill()
            node.process.wait(5)


async def test_the_kubelet_lists_what_was_cut(driver: SimulatedDriver) -> None:
    async with machine(driver) as node:
        for number in range(3):
            await node.change(number)
            assert await node.pods.allocatable() == node.expected()


async def test_a_plugin_is_reloaded_without_a_slice_and_back(driver: SimulatedDriver) -> None:
    async with machine(driver) as node:
        (whole,) = node.gpus.read().gpus[0].instances
        node.gpus.destroy(BUS, whole.id, whole.placement)
        await node.plugin.reload({}, NONE, NONE)
        assert await node.pods.allocatable() == {}
        await node.change(0)
        assert await node.pods.allocatable() == node.expected()


async def test_a_kubelet_that_notices_late_is_not_broken(driver: SimulatedDriver) -> None:
    """50 ms late: a plain SIGHUP is sure to break this kubelet (next test), longer than one hold lasts."""
    async with machine(driver, end_delay=0.05) as node:
        for number in range(4):
            await node.change(number)
            assert await node.pods.allocatable() == node.expected()


async def test_a_plain_signal_breaks_the_late_kubelet_and_a_reload_says_so(driver: SimulatedDriver) -> None:
    async with machine(driver, end_delay=0.3) as node:
        before = {
            path: path.lstat().st_ctime_ns for path in HostPaths(node.root).device_plugins.glob("nvidia-*.sock")
        }
        node.process.send_signal(signal.SIGHUP)
        async with asyncio.timeout(8):
            while any(path.exists() and path.lstat().st_ctime_ns == made for path, made in before.items()):
                await asyncio.to_thread(time.sleep, 0.001)
        stuck = NvidiaDevicePlugin(
            processes=ProcessTable(node.root / "proc"),
            sockets=HostPaths(node.root).device_plugins,
            pods=node.pods,
            clock=SystemClock(),
            limit=1.5,
        )
        async with stuck:
            with pytest.raises(PluginStuck) as raised:
                await stuck.reload(node.expected(), NONE, NONE)
        assert "restart the kubelet" in raised.value.hint
