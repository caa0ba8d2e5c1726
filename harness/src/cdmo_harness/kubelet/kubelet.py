"""One simulated kubelet: everything that runs in its process, started and stopped in one place."""

from __future__ import annotations

import asyncio
import stat
import zlib
from collections.abc import Awaitable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from time import monotonic
from typing import Any

import grpc.aio
import structlog

from cdmo.kubelet._pb import podresources_pb2_grpc
from cdmo_harness._pb import deviceplugin_pb2_grpc

from . import checkpoint
from .api import Api
from .counters import Counters
from .device_manager import DeviceManager
from .devices import PodAllocations
from .node import NodeAgent, NodeSettings
from .plugin_connection import GrpcPlugin, RegistrationService, response_of
from .plugins import PluginClients
from .pod_resources import BURST, CALLS_PER_SECOND, PodResourcesService, RateLimit, SlowedDown
from .pods import Pod, parse
from .runtime import ProcessMarker, Runtime
from .workers import Workers

_log = structlog.get_logger(__name__)

PLUGIN_FOLDER = "var/lib/kubelet/device-plugins"
POD_RESOURCES_FOLDER = "var/lib/kubelet/pod-resources"
SOCKET = "kubelet.sock"


@dataclass(frozen=True, slots=True)
class KubeletSettings:
    """All that distinguishes one kubelet from another. `counters`, `runtime` and `pod_resources_delay` are files
    outside the host root."""

    node: NodeSettings
    root: Path
    counters: Path
    runtime: Path
    pod_resources_delay: Path  # seconds that each call of the PodResources socket takes longer; need not exist
    start_latency: float  # seconds from a pod's admission to its running
    kubelet_minor: int
    seed: int | None
    stream_end_delay: float  # seconds; see PluginClients


class Kubelet:
    """Built once, run once."""

    def __init__(self, settings: KubeletSettings, api: Api, marker: ProcessMarker) -> None:
        self._settings = settings
        self._api = api
        self._plugins = settings.root / PLUGIN_FOLDER
        self._sockets = settings.root / POD_RESOURCES_FOLDER
        for folder in (self._plugins, self._sockets):
            folder.mkdir(parents=True, exist_ok=True)
        rng = Random(settings.seed)
        self._file = self._plugins / checkpoint.FILE_NAME
        self._runtime = Runtime(settings.runtime, settings.root, marker)
        self._manager = DeviceManager(
            clock=monotonic,
            rng=rng,
            active_pods=self._active_uids,
            save=self._save,
            kubelet_minor=settings.kubelet_minor,
            running_before=self._runtime.containers(),
        )
        kept = checkpoint.read(self._file, response_of)
        if kept is not None:
            self._manager.restore(*kept)
        self._node = NodeAgent(
            settings.node, api, self._manager, settings.root, _now, monotonic, rng, fresh=not self._file.exists()
        )
        self._workers = Workers(
            self._manager,
            self._runtime,
            Counters(settings.counters),
            api,
            self._node.allocatable,
            self._spawn,
            _now,
            settings.start_latency,
            settings.node.address,
            _address,
        )
        self._clients = PluginClients(
            self._manager, GrpcPlugin.dial, self._devices_changed, self._spawn, settings.stream_end_delay
        )
        self._group: asyncio.TaskGroup | None = None

    async def run(self) -> None:
        """Until cancelled. Containers stay when it ends, as they do when a kubelet stops."""
        registration = grpc.aio.server()
        pod_resources = grpc.aio.server(interceptors=[SlowedDown(self._settings.pod_resources_delay)])
        deviceplugin_pb2_grpc.add_RegistrationServicer_to_server(
            RegistrationService(self._clients, self._plugins), registration
        )
        service = PodResourcesService(
            self._manager,
            RateLimit(monotonic, CALLS_PER_SECOND, BURST),
            self._workers.pods,
            self._workers.active,
        )
        podresources_pb2_grpc.add_PodResourcesListerServicer_to_server(service, pod_resources)
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                await self._open_sockets(registration, pod_resources)
                await self._node.register()
                group.create_task(self._node.follow(), name="node watch")
                group.create_task(self._node.keep_status(), name="node status")
                group.create_task(self._node.keep_lease(), name="node lease")
                group.create_task(self._follow_pods(), name="pod watch")
                _log.info("kubelet runs", node=self._settings.node.name)
        finally:
            await registration.stop(0)
            await pod_resources.stop(0)
            await self._api.close()

    async def _open_sockets(self, registration: grpc.aio.Server, pod_resources: grpc.aio.Server) -> None:
        _remove_sockets(self._sockets)
        pod_resources.add_insecure_port(f"unix:{self._sockets / SOCKET}")
        await pod_resources.start()
        # All plugin sockets go with it: plugins notice the new kubelet.sock and register again.
        _remove_sockets(self._plugins)
        registration.add_insecure_port(f"unix:{self._plugins / SOCKET}")
        await registration.start()

    async def _follow_pods(self) -> None:
        selector = f"spec.nodeName={self._settings.node.name}"
        async for event in self._api.follow("/api/v1/pods", selector):
            if event.kind == "LISTED":
                await self._workers.replaced([pod for item in event.items if (pod := _readable(item))])
            elif event.kind == "DELETED":
                self._workers.removed(event.item["metadata"]["uid"])
            elif pod := _readable(event.item):
                await self._workers.changed(pod)

    def _devices_changed(self, uids: frozenset[str]) -> None:
        if uids:
            self._spawn(self._workers.devices_changed(uids), "device health")

    def _spawn(self, work: Awaitable[None], name: str) -> None:
        if self._group is None:
            raise AssertionError("tasks are started while the kubelet runs")
        self._group.create_task(_awaited(work), name=name)

    def _active_uids(self) -> list[str]:
        return [pod.uid for pod in self._workers.active()]

    def _save(self, allocations: PodAllocations, resources: Iterable[str]) -> None:
        checkpoint.write(self._file, allocations, resources)


async def _awaited(work: Awaitable[None]) -> None:
    await work


def _readable(item: Mapping[str, Any]) -> Pod | None:
    """The pod, or None (and a line in the log) when an annotation or a quantity in it makes no sense."""
    try:
        return parse(item)
    except ValueError as error:
        _log.error("pod ignored", pod=item["metadata"]["name"], error=str(error))
        return None


def _remove_sockets(folder: Path) -> None:
    for path in folder.iterdir():
        if stat.S_ISSOCK(path.lstat().st_mode):
            path.unlink()


def _address(pod: Pod) -> str:
    """An address for show. Two pods may share one: nothing is sent to it."""
    a, b, c = zlib.crc32(pod.uid.encode()).to_bytes(4)[:3]
    return f"10.{a}.{b}.{c % 250 + 2}"


def _now() -> datetime:
    return datetime.now(UTC)
