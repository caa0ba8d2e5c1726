"""A node whose device plugin is reloaded again and again, and whether that ever breaks its kubelet."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from cdmo_harness.gpu_node import PLUGIN_FOLDER, GpuNode
from cdmo_harness.local_cluster import LocalCluster
from cdmo_harness.observer import ClusterView, pod_manifest

from cdmo.errors import KubeletUnavailable, PluginStuck
from cdmo.kubelet.deviceplugin import NvidiaDevicePlugin
from cdmo.kubelet.podresources import KubeletPodResources
from cdmo.kubelet.processes import ProcessTable
from cdmo.kubelet.sockets import PluginSockets, Sockets, socket_of
from cdmo.model.names import MIG_RESOURCE_PREFIX
from cdmo.runtime.clock import SystemClock
from cdmo.runtime.hostpaths import HostPaths

# Three resources on one H100: (GPU, profile id, first slot) of two 1g.10gb, one 2g.20gb, one 3g.40gb.
SLICES = ((0, 19, 0), (0, 19, 1), (0, 14, 2), (0, 9, 4))
NVML_INIT = "nvmlInitWithFlags"  # what a Python process calls; NVIDIA's own plugin calls nvmlInit_v2
RELOAD_LIMIT = 10.0  # seconds: a busy machine is not a broken kubelet
COME_BACK = 8.0  # seconds in which everything must be listed again after a plain signal
TRIES = 3  # reloads until a kubelet counts as broken
POD_LIMIT = 30.0
_LOOK_SECONDS = 0.01


@dataclass
class Tried:
    """What reloads of one kind came to."""

    seconds: list[float] = field(default_factory=list)
    late: int = 0  # came back, but only after one more reload
    broken: int = 0
    refused: int = 0  # pods that failed although everything was listed


class ReloadStand:
    """One node without an agent: this process reloads its plugin as an agent does."""

    def __init__(
        self, node: GpuNode, view: ClusterView, plugin: NvidiaDevicePlugin, pods: KubeletPodResources
    ) -> None:
        self.node = node
        self.view = view
        self.plugin = plugin
        self.pods = pods
        self._sockets = PluginSockets(node.root / PLUGIN_FOLDER)
        self._pods_made = 0

    def expected(self) -> Mapping[str, frozenset[str]]:
        """What the kubelet must list: what NVML has."""
        found: dict[str, set[str]] = {}
        for gpu in self.node.driver.snapshot():
            for each in gpu.slices:
                found.setdefault(f"{MIG_RESOURCE_PREFIX}{each.profile}", set()).add(each.uuid)
        return {resource: frozenset(ids) for resource, ids in found.items()}

    async def held_reload(self, stall: float, tried: Tried) -> None:
        """One reload by CDMO, the kubelet standing still from just before it for `stall` seconds."""
        for attempt in range(TRIES):
            began = time.monotonic()
            stalling = asyncio.create_task(self._stall(stall if attempt == 0 else 0.0))
            try:
                await self.plugin.reload(self.expected(), frozenset(), frozenset())
            except PluginStuck:
                continue
            finally:
                await stalling
            tried.late += attempt > 0
            tried.seconds.append(time.monotonic() - began)
            return
        tried.broken += 1
        await self.heal()

    async def plain_reload(self, stall: float, tried: Tried) -> None:
        """One bare SIGHUP, the kubelet standing still as before."""
        before, began = self._sockets.all(), time.monotonic()
        stalling = asyncio.create_task(self._stall(stall))
        await asyncio.sleep(0)  # it stands still before the signal
        self._signal(signal.SIGHUP)
        try:
            await stalling
            await self._come_back(before)
        except TimeoutError:
            tried.broken += 1
            await self.heal()
        else:
            tried.seconds.append(time.monotonic() - began)

    async def pods_are_served(self, tried: Tried) -> None:
        """A pod of each resource, bound by its spec.nodeName, so that the kubelet alone decides."""
        for resource in self.expected():
            self._pods_made += 1
            spec = {"nodeName": self.node.setup.name}
            key = await self.view.submit(
                pod_manifest(f"reload-{self._pods_made}", {resource: 1}, run_seconds=0.05, spec=spec)
            )
            tried.refused += await self._end_of(key) == "Failed"
            await self.view.delete(key, grace_seconds=0)

    async def _end_of(self, key: str) -> str:
        ended = ("Succeeded", "Failed")
        await self.view.wait(f"{key} ends", lambda: self.view.pods[key].phase in ended, limit=POD_LIMIT)
        return self.view.pods[key].phase

    async def heal(self) -> None:
        """What an administrator does: the kubelet restarts, and the plugin registers anew by itself."""
        before = self._sockets.all()
        await asyncio.to_thread(self.node.restart_kubelet)
        await self._come_back(before, limit=3 * COME_BACK)

    async def _stall(self, seconds: float) -> None:
        if seconds:
            with self.node.paused_kubelet():
                await asyncio.sleep(seconds)

    def _signal(self, number: signal.Signals) -> None:
        plugin = self.node.plugin
        assert plugin is not None
        os.kill(plugin.pid, number)

    async def _come_back(self, before: Sockets, limit: float = COME_BACK) -> None:
        """Return when the kubelet lists everything and every socket is a new one. Raises TimeoutError."""
        wanted = self.expected()
        async with asyncio.timeout(limit):
            while True:
                sockets = self._sockets.all()
                fresh = all(sockets.get(name) not in (None, before.get(name)) for name in map(socket_of, wanted))
                with suppress(KubeletUnavailable):
                    if fresh and await self.pods.allocatable() == wanted:
                        return
                await asyncio.sleep(_LOOK_SECONDS)


@asynccontextmanager
async def reload_stand(cluster: LocalCluster) -> AsyncIterator[ReloadStand]:
    """The cluster's first node, cut into several resources, its plugin in this process' hands."""
    node = next(iter(cluster.nodes.values()))
    host = HostPaths(node.root)
    clock = SystemClock()
    pods = KubeletPodResources(host.pod_resources_socket, clock=clock)
    plugin = NvidiaDevicePlugin(
        processes=ProcessTable(host.proc), sockets=host.device_plugins, pods=pods, clock=clock, limit=RELOAD_LIMIT
    )
    control = cluster.control_plane
    async with ClusterView(control.admin_kubeconfig, control.api) as view, pods, plugin:
        if not any(gpu.slices for gpu in node.driver.snapshot()):  # they stay for the next part
            await asyncio.to_thread(node.cut, *SLICES)
        stand = ReloadStand(node, view, plugin, pods)
        await plugin.reload(stand.expected(), frozenset(), frozenset())
        yield stand
