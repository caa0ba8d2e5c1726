"""What the agent asks of the kubelet and of the device plugin behind it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class PodDevices:
    """The devices a pod holds, by extended resource. "Listed" is not "admitted": devices may still be empty."""

    namespace: str
    name: str
    devices: Mapping[str, tuple[str, ...]]  # resource -> device ids; nvidia.com/* only


class PodResources(Protocol):
    """The kubelet's PodResources socket. Raises KubeletUnavailable."""

    async def allocatable(self) -> Mapping[str, frozenset[str]]:
        """Healthy `nvidia.com/*` devices the kubelet knows, by resource; resources without any are left out."""
        ...

    async def get(self, namespace: str, name: str) -> PodDevices | None:
        """One pod's devices; None while the kubelet does not know the pod. Does not disturb the kubelet."""
        ...

    async def list(self) -> tuple[PodDevices, ...]:
        """Every pod that holds `nvidia.com/*` devices. Only while fenced: it can disturb an admission."""
        ...


class DevicePlugin(Protocol):
    """NVIDIA's device plugin on this node."""

    async def reload(
        self, expected: Mapping[str, frozenset[str]], doubtful: frozenset[str], cut: frozenset[str]
    ) -> None:
        """Make it enumerate again and wait until the kubelet lists exactly `expected` for every MIG resource, no GPU
        of `cut` (UUIDs) as a whole, and every expected plugin socket exists. Of `doubtful` devices it does not matter
        whether they are listed: the plugin may hold them unhealthy. Raises PluginStuck when that does not come about
        in time, PluginAbsent when no plugin runs here."""
        ...
