"""Builders and fakes for the tests of the kubelet stand-in."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

from cdmo_harness.kubelet.device_manager import DeviceManager
from cdmo_harness.kubelet.devices import ContainerResponse, Device, EndpointFailed, PluginOptions
from cdmo_harness.kubelet.pods import Container, Pod

ONE_G = "nvidia.com/mig-1g.10gb"
SOCKET = "/var/lib/kubelet/device-plugins/nvidia-mig-1g.10gb.sock"

_uids = itertools.count(1)


def container(name: str = "main", *, sidecar: bool = False, cpu: int = 0, **asks: int) -> Container:
    """`asks` are devices by short name: one_g=2 asks for two of nvidia.com/mig-1g.10gb."""
    limits = {{"one_g": ONE_G, "three_g": "nvidia.com/mig-3g.40gb"}[key]: count for key, count in asks.items()}
    requests = {**limits, **({"cpu": cpu} if cpu else {})}
    return Container(name, "image", requests, limits, sidecar)


def pod(
    *containers: Container, name: str = "", init: Sequence[Container] = (), grace: int | None = None, **asks: int
) -> Pod:
    """A pod with one container that asks for `asks`, or with the given containers."""
    number = next(_uids)
    return Pod(
        uid=f"uid-{number}",
        namespace="default",
        name=name or f"pod-{number}",
        containers=containers or (container(**asks),),
        init_containers=tuple(init),
        deletion_grace_seconds=grace,
    )


@dataclass(eq=False)
class FakePlugin:
    """A plugin connection that answers from memory. `gone` breaks every call with that text."""

    socket_path: str = SOCKET
    prefers: frozenset[str] | None = None
    gone: str | None = None
    asked: list[frozenset[str]] = field(default_factory=list)
    sent: asyncio.Queue[Sequence[Device] | None] = field(default_factory=asyncio.Queue)
    closed: bool = False

    async def options(self) -> PluginOptions:
        return PluginOptions(preferred_allocation=self.prefers is not None)

    async def allocate(self, device_ids: Sequence[str]) -> ContainerResponse:
        if self.gone is not None:
            raise EndpointFailed(self.gone)
        self.asked.append(frozenset(device_ids))
        return ContainerResponse(("/dev/nvidia0",), b"answer")

    async def preferred(self, available: Sequence[str], must_include: Sequence[str], size: int) -> frozenset[str]:
        if self.gone is not None:
            raise EndpointFailed(self.gone)
        return self.prefers or frozenset()

    async def lists(self) -> AsyncIterator[Sequence[Device]]:
        while (devices := await self.sent.get()) is not None:
            yield devices

    async def close(self) -> None:
        self.closed = True

    def lists_devices(self, *ids: str) -> None:
        """The plugin sends its list."""
        self.sent.put_nowait([Device(i) for i in ids])

    def ends(self) -> None:
        """The plugin's end of the stream closes."""
        self.sent.put_nowait(None)


@dataclass
class Node:
    """A device manager with its clock and its set of active pods."""

    kubelet_minor: int = 37
    time: float = 1000.0
    active: set[str] = field(default_factory=set)
    saved: int = 0
    manager: DeviceManager = field(init=False)

    def __post_init__(self) -> None:
        self.manager = DeviceManager(
            clock=lambda: self.time,
            rng=Random(7),
            active_pods=lambda: self.active,
            save=self._save,
            kubelet_minor=self.kubelet_minor,
            sources_ready=True,
        )

    def _save(self, allocations: object, resources: object) -> None:
        self.saved += 1

    def offers(self, *ids: str, plugin: FakePlugin | None = None, resource: str = ONE_G) -> FakePlugin:
        """A plugin registers and lists these devices."""
        plugin = plugin or FakePlugin()
        options = PluginOptions(preferred_allocation=plugin.prefers is not None)
        self.manager.plugin_connected(resource, plugin, options)
        self.manager.devices_listed(resource, [Device(i) for i in ids])
        return plugin

    async def admits(self, admitted: Pod) -> Mapping[str, frozenset[str]]:
        """Allocate for a pod that the node knows; returns its devices by container."""
        self.active.add(admitted.uid)
        await self.manager.allocate_pod(admitted)
        return {
            name: frozenset().union(*(allocation.device_ids for allocation in resources.values()))
            for name, resources in self.manager.pods.by_pod.get(admitted.uid, {}).items()
        }


class Tasks:
    """Runs spawned work and lets a test wait until all of it is done."""

    def __init__(self) -> None:
        self.running: set[asyncio.Task[None]] = set()

    def spawn(self, work: Awaitable[None], name: str) -> None:
        async def awaited() -> None:
            await work

        task = asyncio.get_running_loop().create_task(awaited(), name=name)
        self.running.add(task)
        task.add_done_callback(self.running.discard)

    async def settle(self) -> None:
        """Let everything that can run now run."""
        for _ in range(20):
            await asyncio.sleep(0)
