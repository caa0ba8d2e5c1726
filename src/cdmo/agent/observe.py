"""What is on this node: the driver's word joined with the kubelet's.

Outside the fence single pods are asked for (`Get`): the kubelet's `List` purges and can disturb an admission
that is under way. Inside the fence `List` is right, for it also shows pods nobody told us of.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from cdmo.hardware.port import DriverReading, GpuInstance, GpuReader, GpuReading
from cdmo.kubelet.port import PodDevices, PodResources
from cdmo.model.cluster import PodInfo
from cdmo.model.gpu import DeviceState, MigMode, PodKey
from cdmo.model.names import is_mig_resource, whole_gpus
from cdmo.runtime.worker import Worker

_ON = (MigMode.ENABLED, MigMode.DISABLE_PENDING)  # the mode that holds now


@dataclass(frozen=True, slots=True)
class Observation:
    """One look at the node."""

    driver: DriverReading
    holders: Mapping[str, PodKey]  # device id -> the pod that holds it

    def state_of(self, instance: GpuInstance) -> DeviceState:
        """What the slice is doing; what pods use is in use, however unwell."""
        if instance.processes or (instance.device_uuid and instance.device_uuid in self.holders):
            return DeviceState.IN_USE
        if not instance.device_uuid:
            return DeviceState.BROKEN
        return DeviceState.UNHEALTHY if instance.fault else DeviceState.IDLE

    def expected_devices(self) -> dict[str, frozenset[str]]:
        """MIG devices the plugin must advertise, by extended resource; resources without any are left out."""
        expected: dict[str, set[str]] = {}
        for gpu in self.driver.gpus:
            for instance in servable(gpu):
                profile = gpu.model.profile(instance.placement.profile_id)
                if profile is not None:
                    expected.setdefault(profile.resource, set()).add(instance.device_uuid)
        return {resource: frozenset(uuids) for resource, uuids in expected.items()}

    def doubtful_devices(self) -> frozenset[str]:
        """Those that nobody is to get. The plugin may or may not hold them unhealthy, by rules of its own; what it
        holds unhealthy the kubelet does not list."""
        return frozenset(
            instance.device_uuid
            for gpu in self.driver.gpus
            for instance in gpu.instances
            if instance.device_uuid and (gpu.trouble or instance.fault)
        )

    def disagreement(self, listed: Mapping[str, frozenset[str]]) -> frozenset[str]:
        """The devices that the kubelet lists and the hardware does not have, or the other way round."""
        known = frozenset(each for name, ids in listed.items() if is_mig_resource(name) for each in ids)
        expected = frozenset(each for ids in self.expected_devices().values() for each in ids)
        whole = whole_gpus(listed)
        return (
            (known - expected)
            | (expected - known - self.doubtful_devices())
            | (self.cut_gpus() & whole)
            | (self._uncut_gpus() - whole)
        )

    def cut_gpus(self) -> frozenset[str]:
        """UUIDs of the GPUs whose MIG mode is on: nobody gets one of them as a whole."""
        return frozenset(each.uuid for each in self.driver.gpus if each.mig_mode in _ON)

    def _uncut_gpus(self) -> frozenset[str]:
        """Those that could be cut and are not: the plugin has to offer them as a whole."""
        return frozenset(
            each.uuid
            for each in self.driver.gpus
            if each.mig_mode not in _ON and each.model.profiles and not each.trouble
        )

    @property
    def hold(self) -> str:
        """Why nothing on this node may be changed, one sentence; empty when it may.

        A change ends with the device plugin enumerating all GPUs, and one that does not answer makes it exit
        (k8s-device-plugin: any error of the enumeration does): the slices of the others would be lost with it.
        """
        silent = [f"GPU {each.pci_bus_id}: {each.problem}" for each in self.driver.gpus if each.problem]
        if self.driver.silent:
            silent.append(f"{self.driver.silent} GPUs have not answered since the agent was started")
        if not silent:
            return ""
        return f"nothing is changed on this node while a GPU does not answer: {'; '.join(silent)}"


def servable(gpu: GpuReading) -> tuple[GpuInstance, ...]:
    """The instances of a GPU that the device plugin serves."""
    if gpu.mig_mode not in _ON:
        return ()
    return tuple(each for each in gpu.instances if each.device_uuid)


class Observer:
    """Looks at the node. Raises HardwareError and KubeletError."""

    def __init__(
        self,
        gpus: GpuReader,
        pods: PodResources,
        worker: Worker,
        pods_here: Callable[[], Iterable[PodInfo]],
    ) -> None:
        self._gpus = gpus
        self._pods = pods
        self._worker = worker
        self._pods_here = pods_here

    async def look(self) -> Observation:
        """A look that disturbs nothing: asks the kubelet only for pods that are known to want slices."""
        holders: dict[str, PodKey] = {}
        for pod in self._pods_here():
            if pod.finished or not pod.node_name or not _wants_gpu(pod):
                continue
            found = await self._pods.get(pod.key.namespace, pod.key.name)
            if found is not None:
                _add(holders, found, pod.key)
            for _, ids in pod.devices:
                holders.update(dict.fromkeys(ids, pod.key))
        return Observation(await self.driver(), holders)

    async def look_fenced(self, bound: Iterable[PodInfo]) -> Observation:
        """A complete look, for use inside the fence only."""
        holders: dict[str, PodKey] = {}
        keys = {(each.key.namespace, each.key.name): each.key for each in bound}
        for found in await self._pods.list():
            _add(holders, found, keys.get((found.namespace, found.name), PodKey(found.namespace, found.name)))
        for pod in bound:
            for _, ids in pod.devices if not pod.finished else ():
                holders.update(dict.fromkeys(ids, pod.key))
        return Observation(await self.driver(), holders)

    async def driver(self) -> DriverReading:
        """The driver's part alone."""
        return await self._worker.run(self._gpus.read)


def _wants_gpu(pod: PodInfo) -> bool:
    return any(name.startswith("nvidia.com/") and count for name, count in pod.requests.items())


def _add(holders: dict[str, PodKey], found: PodDevices, key: PodKey) -> None:
    for ids in found.devices.values():
        holders.update(dict.fromkeys(ids, key))
