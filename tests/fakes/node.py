"""One node's API objects, kubelet and device plugin in memory, as the fence protocol meets them.

They refuse as the real ones do: the fence works by the label alone, the kubelet knows what the plugin last
enumerated, a pod shows its devices only once it was admitted. Every call is noted in `calls`, in order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from cdmo.errors import CdmoError, NotFound, PluginAbsent, PluginStuck
from cdmo.hardware.port import GpuReader
from cdmo.kube.port import LabelsBeside, Provided, in_any_case, no_labels
from cdmo.kubelet.port import PodDevices
from cdmo.model.cluster import NodeInfo, PodInfo, Taint
from cdmo.model.gpu import MigMode
from cdmo.model.names import (
    CHANGE_LABEL,
    FENCE_CHANGING,
    FENCE_LABEL,
    FENCE_VALUE,
    PARTITIONING_LABEL,
    PARTITIONING_VALUE,
    is_mig_resource,
    whole_gpus,
)

WHOLE = "nvidia.com/gpu"


@dataclass
class FakeNode:
    """A labelled node. Set `fails[call]` to an error to have that call raise it, once for each entry."""

    gpus: GpuReader
    name: str = "gpu-1"
    info: NodeInfo = field(init=False)
    pods: dict[tuple[str, str], PodInfo] = field(default_factory=dict)
    shown: dict[tuple[str, str], dict[str, tuple[str, ...]]] = field(default_factory=dict)  # kubelet's PodResources
    listed: dict[str, frozenset[str]] = field(default_factory=dict)  # what the kubelet last heard from the plugin
    policy_installed: bool = True
    version: int = 100  # of the Node; counted up by every write of labels
    server_lags: dict[str, int] = field(default_factory=dict)  # by how many versions an API server is behind
    witness: str = ""  # the change whose witness there is
    scheduler_hears: bool = True
    plugin_comes_back: bool = True
    plugin_runs: bool = True
    calls: list[str] = field(default_factory=list)
    fails: dict[str, list[CdmoError]] = field(default_factory=dict)
    on_call: Callable[[str], None] = lambda _: None

    def __post_init__(self) -> None:
        self.info = NodeInfo(self.name, uid="node-uid", labels={PARTITIONING_LABEL: PARTITIONING_VALUE})
        self.listed = self.enumerate()

    # --- what a test arranges -------------------------------------------------------------------------------

    def enumerate(self) -> dict[str, frozenset[str]]:
        """What the device plugin would advertise now."""
        found: dict[str, set[str]] = {}
        for gpu in self.gpus.read().gpus:
            if gpu.mig_mode in (MigMode.DISABLED, MigMode.ENABLE_PENDING):
                found.setdefault(WHOLE, set()).add(gpu.uuid)
                continue
            for instance in gpu.instances:
                profile = gpu.model.profile(instance.placement.profile_id)
                if instance.device_uuid and profile is not None:
                    found.setdefault(profile.resource, set()).add(instance.device_uuid)
        return {name: frozenset(ids) for name, ids in found.items()}

    def bind(self, pod: PodInfo) -> None:
        """The scheduler bound the pod; the kubelet has not admitted it yet."""
        self.pods[(pod.key.namespace, pod.key.name)] = replace(pod, node_name=self.name)

    def admit(self, pod: PodInfo, devices: Mapping[str, Iterable[str]]) -> None:
        """The kubelet admitted the pod with these devices."""
        self.bind(replace(pod, phase="Running"))
        self.shown[(pod.key.namespace, pod.key.name)] = {name: tuple(ids) for name, ids in devices.items()}

    def hold_unhealthy(self, *devices: str) -> None:
        """The device plugin holds these unhealthy until it enumerates again: the kubelet no longer lists them."""
        listed = {resource: ids.difference(devices) for resource, ids in self.listed.items()}
        self.listed = {resource: ids for resource, ids in listed.items() if ids}

    @property
    def fenced(self) -> bool:
        """Whether a binding would be refused now."""
        return self.policy_installed and self.info.labels.get(FENCE_LABEL) in (FENCE_VALUE, FENCE_CHANGING)

    def _called(self, call: str) -> None:
        self.calls.append(call)
        self.on_call(call)
        if self.fails.get(call):
            raise self.fails[call].pop(0)

    # --- FenceApi -------------------------------------------------------------------------------------------

    async def node(self, name: str) -> NodeInfo:
        self._called("node")
        return self.info

    async def set_taint(
        self, name: str, key: str, effect: str, beside: LabelsBeside = no_labels
    ) -> tuple[NodeInfo, int]:
        self._called("set_taint")
        rest = tuple(each for each in self.info.taints if each.key != key)
        labels = {**self.info.labels, **beside(self.info.labels)}
        self.info = replace(self.info, labels=labels, taints=(*rest, Taint(key, "", effect)))
        self.version += 1
        return self.info, self.version

    async def remove_taint(self, name: str, key: str) -> None:
        self._called("remove_taint")
        self.info = replace(self.info, taints=tuple(each for each in self.info.taints if each.key != key))

    async def set_labels(self, name: str, labels: Mapping[str, str | None], provided: Provided = in_any_case) -> bool:
        if provided is not in_any_case:
            self._called("compare")
        if not provided(self.info):
            return False
        self._called("label" if FENCE_LABEL not in labels else "fence" if labels[FENCE_LABEL] else "unfence")
        merged = {**self.info.labels, **labels}
        self.info = replace(self.info, labels={key: value for key, value in merged.items() if value is not None})
        self.version += 1
        return True

    async def swap_label(self, name: str, label: str, before: str, after: str, *, beside: str) -> bool:
        self._called("mark")
        so = self.info.labels.get(label) == before and any(each.key == beside for each in self.info.taints)
        if so:
            self.info = replace(self.info, labels={**self.info.labels, label: after})
        return so

    async def take_off(self, name: str, label: str, value: str | None, taint: str) -> bool:
        self._called("unfence")
        had = self.info.labels.get(label) == value
        if had:
            labels = {key: text for key, text in self.info.labels.items() if key != label}
            taints = tuple(each for each in self.info.taints if each.key != taint)
            self.info = replace(self.info, labels=labels, taints=taints)
        return had

    async def api_servers(self) -> tuple[str, ...]:
        self._called("api_servers")
        return ("https://one", "https://two")

    async def refused_as_of(self, node: str, server: str) -> int | None:
        self._called("probe")
        return self.version - self.server_lags.get(server, 0) if self.fenced else None

    async def pods_on(self, node: str) -> tuple[PodInfo, ...]:
        self._called("pods_on")
        return tuple(self.pods.values())

    async def set_mig_capacity(
        self, node: str, capacity: Mapping[str, int], allocatable: Mapping[str, int]
    ) -> NodeInfo:
        self._called("set_mig_capacity")
        had = (*self.info.capacity, *self.info.allocatable)
        none = {name: 0 for name in had if is_mig_resource(name)}
        self.info = replace(
            self.info,
            capacity={**self.info.capacity, **none, **capacity},
            allocatable={**self.info.allocatable, **none, **allocatable},
        )
        return self.info

    # --- WitnessApi -----------------------------------------------------------------------------------------

    async def call(self, node: str, change: str) -> None:
        self._called("witness")
        self.witness = change

    async def has_heard(self, node: str, change: str) -> bool:
        self._called("has_heard")
        if not self.witness:
            raise NotFound("there is no witness")
        assert self.witness == change
        return self.scheduler_hears and self.info.labels.get(CHANGE_LABEL) == change

    async def dismiss(self, node: str) -> None:
        self._called("dismiss")
        self.witness = ""

    # --- PodResources and DevicePlugin ----------------------------------------------------------------------

    async def allocatable(self) -> Mapping[str, frozenset[str]]:
        self._called("allocatable")
        return dict(self.listed)

    async def get(self, namespace: str, name: str) -> PodDevices | None:
        self._called("get")
        devices = self.shown.get((namespace, name))
        return None if devices is None else PodDevices(namespace, name, devices)

    async def list(self) -> tuple[PodDevices, ...]:
        self._called("list")
        return tuple(PodDevices(namespace, name, devices) for (namespace, name), devices in self.shown.items())

    async def reload(
        self, expected: Mapping[str, frozenset[str]], doubtful: frozenset[str], cut: frozenset[str]
    ) -> None:
        self._called("reload")
        if not self.plugin_runs:
            raise PluginAbsent("no process nvidia-device-plugin runs on this node")
        if not self.plugin_comes_back:
            raise PluginStuck("the device plugin did not come back", hint="restart the kubelet")
        if any(each.problem for each in self.gpus.read().gpus):
            self.listed = {}
            raise PluginStuck("the device plugin ended while it looked at the GPUs")
        self.listed = self.enumerate()
        assert not whole_gpus(self.listed) & cut
        listed = frozenset(each for name, ids in self.listed.items() if is_mig_resource(name) for each in ids)
        wanted = frozenset(each for ids in expected.values() for each in ids)
        if not wanted - doubtful <= listed <= wanted:
            raise PluginStuck(f"the kubelet lists {self.listed}, NVML has {dict(expected)}")
