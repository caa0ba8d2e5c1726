"""The kubelet's device manager without sockets: which devices exist, which are healthy, who holds them.

Modelled on pkg/kubelet/cm/devicemanager/manager.go of Kubernetes 1.37.2. The texts of failures are the kubelet's,
because programs (and this project's tests) match on them. Everything between two awaits is atomic here, as what
happens under the manager's mutex is there; the awaits are exactly the places where the real one lets go of it:
the calls to the plugin.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

from .devices import (
    HEALTHY,
    Allocation,
    AllocationFailed,
    ContainerResponse,
    Device,
    Endpoint,
    EndpointFailed,
    PluginOptions,
    PodAllocations,
    Registration,
)
from .pods import Container, Pod


@dataclass(frozen=True, slots=True)
class Capacity:
    """What one status tick learns from the device manager."""

    capacity: Mapping[str, int]
    allocatable: Mapping[str, int]
    removed: frozenset[str]  # resources whose plugin has been gone longer than the grace time


@dataclass(slots=True)
class DeviceManager:
    """`kubelet_minor` picks the registration bookkeeping: per socket from 37 on, per resource before."""

    clock: Callable[[], float]
    rng: Random  # the real one iterates over Go maps: which of several equal devices it picks is arbitrary
    active_pods: Callable[[], Collection[str]]
    save: Callable[[PodAllocations, Iterable[str]], None]
    kubelet_minor: int
    sources_ready: bool = False
    running_before: frozenset[tuple[str, str]] = frozenset()  # (pod UID, container) alive across a restart
    registrations: dict[str, Registration] = field(default_factory=dict)
    by_socket: dict[str, dict[str, Registration]] = field(default_factory=dict)
    all_devices: dict[str, dict[str, Device]] = field(default_factory=dict)
    healthy: dict[str, set[str]] = field(default_factory=dict)
    unhealthy: dict[str, set[str]] = field(default_factory=dict)
    allocated: dict[str, set[str]] = field(default_factory=dict)
    pods: PodAllocations = field(default_factory=PodAllocations)
    _reusable: tuple[str, dict[str, set[str]]] = ("", {})

    # ---- plugins -------------------------------------------------------------------------------------------

    def restore(self, allocations: PodAllocations, resources: Iterable[str]) -> None:
        """Take over a checkpoint: allocations stay, resources count as known but without a single device."""
        self.pods = allocations
        self.allocated = allocations.devices()
        for resource in resources:
            self.healthy[resource] = set()
            self.unhealthy[resource] = set()
            self.registrations[resource] = Registration(None, PluginOptions(), self.clock())

    def plugin_connected(self, resource: str, endpoint: Endpoint, options: PluginOptions) -> None:
        """A plugin registered. Raises EndpointFailed when its socket already counts as connected (1.37)."""
        registration = Registration(endpoint, options)
        if self.kubelet_minor >= 37:
            sockets = self.by_socket.setdefault(resource, {})
            if endpoint.socket_path in sockets:
                raise EndpointFailed(f"device plugin already connected: {endpoint.socket_path}")
            sockets[endpoint.socket_path] = registration
        self.registrations[resource] = registration

    def plugin_disconnected(self, resource: str, socket_path: str) -> None:
        """A plugin's stream ended: with its last endpoint gone, all devices of the resource are unhealthy."""
        if self.kubelet_minor < 37:
            registration = self.registrations.get(resource)
            if registration is not None:
                self._all_unhealthy(resource)
                registration.stopped_at = self.clock()
            return
        sockets = self.by_socket.get(resource, {})
        ended = sockets.pop(socket_path, None)
        if ended is None:
            return
        ended.stopped_at = self.clock()
        if sockets:
            self.registrations[resource] = next(iter(sockets.values()))
        else:
            del self.by_socket[resource]
            self._all_unhealthy(resource)

    def devices_listed(self, resource: str, devices: Sequence[Device]) -> frozenset[str]:
        """A ListAndWatch message: it replaces all that was known. Returns UIDs of pods whose devices changed."""
        before = self.all_devices.get(resource, {})
        affected: set[str] = set()
        for device in devices:
            old = before.get(device.id)
            if old is None or old.health != device.health:
                holder = self.pods.holder(resource, device.id)
                if holder is not None:
                    affected.add(holder)
        self.all_devices[resource] = {device.id: device for device in devices}
        self.healthy[resource] = {d.id for d in devices if d.health == HEALTHY}
        self.unhealthy[resource] = {d.id for d in devices if d.health != HEALTHY}
        self._checkpoint()
        return frozenset(affected)

    def _all_unhealthy(self, resource: str) -> None:
        lost = self.healthy.get(resource, set())
        self.healthy[resource] = set()
        self.unhealthy[resource] = self.unhealthy.get(resource, set()) | lost

    # ---- views ---------------------------------------------------------------------------------------------

    def manages(self, resource: str) -> bool:
        """Whether a plugin ever listed this resource here, or a pod holds some of it."""
        return resource in self.healthy or resource in self.allocated

    def allocatable(self) -> dict[str, list[Device]]:
        """All healthy devices, held or not, by resource."""
        result: dict[str, list[Device]] = {}
        for resource, healthy in self.healthy.items():
            known = self.all_devices.get(resource)
            if known is not None:
                result[resource] = [device for device in known.values() if device.id in healthy]
        return result

    def health(self, resource: str, device_id: str) -> str:
        """A device the plugin no longer lists counts as healthy, as in the real status of a pod."""
        device = self.all_devices.get(resource, {}).get(device_id)
        return HEALTHY if device is None else device.health

    def capacity(self) -> Capacity:
        """For a status tick. Forgets resources past their grace time, so call it once a tick."""
        now = self.clock()
        removed = frozenset(
            resource
            for resource in self.healthy.keys() | self.unhealthy.keys()
            if resource not in self.registrations or self.registrations[resource].expired(now)
        )
        allocatable = {r: len(ids) for r, ids in self.healthy.items() if r not in removed}
        capacity = dict(allocatable)
        for resource, ids in self.unhealthy.items():
            if resource not in removed:
                capacity[resource] = capacity.get(resource, 0) + len(ids)
        for resource in removed:
            self.registrations.pop(resource, None)
            self.healthy.pop(resource, None)
            self.unhealthy.pop(resource, None)
        if removed:
            self._checkpoint()
        return Capacity(capacity, allocatable, removed)

    def raised_allocatable(self, allocatable: Mapping[str, int]) -> dict[str, int]:
        """A node's allocatable, raised to what is allocated: predicates never reject what was just given."""
        raised = dict(allocatable)
        for resource, ids in self.allocated.items():
            if raised.get(resource, -1) < len(ids):
                raised[resource] = len(ids)
        return raised

    # ---- allocation ----------------------------------------------------------------------------------------

    def free_ended_pods(self) -> None:
        """Forget the devices of pods that are no longer active. Happens at allocations and List only."""
        if not self.sources_ready:
            return
        active = set(self.active_pods())
        ended = [uid for uid in self.pods.by_pod if uid not in active]
        if ended:
            for uid in ended:
                del self.pods.by_pod[uid]
            self.allocated = self.pods.devices()

    async def allocate_pod(self, pod: Pod) -> None:
        """Admission's first step: every container gets its devices, or AllocationFailed says why not."""
        for container in pod.init_containers:
            reusable = self._reusable_of(pod.uid)
            await self._allocate_container(pod, container, reusable)
            for resource, allocation in self.pods.of_container(pod.uid, container.name).items():
                pool = reusable.setdefault(resource, set())
                if container.sidecar:
                    pool.difference_update(allocation.device_ids)
                else:
                    pool.update(allocation.device_ids)
        for container in pod.containers:
            reusable = self._reusable_of(pod.uid)
            await self._allocate_container(pod, container, reusable)
            for resource, allocation in self.pods.of_container(pod.uid, container.name).items():
                reusable.setdefault(resource, set()).difference_update(allocation.device_ids)

    def _reusable_of(self, pod_uid: str) -> dict[str, set[str]]:
        if self._reusable[0] != pod_uid:
            self._reusable = (pod_uid, {})
        return self._reusable[1]

    async def _allocate_container(self, pod: Pod, container: Container, reusable: dict[str, set[str]]) -> None:
        freed = changed = False
        for resource, needed in container.limits.items():
            if not self.manages(resource):
                continue  # never registered here: the pod goes on WITHOUT a device, as on a real node
            if not freed:
                self.free_ended_pods()
                freed = True
            chosen = await self._choose(pod.uid, container.name, resource, needed, reusable.get(resource, set()))
            if not chosen:
                continue
            changed = True
            await self._ask_plugin(pod.uid, container.name, resource, chosen)
        if changed:
            self._checkpoint()

    async def _ask_plugin(self, pod_uid: str, container: str, resource: str, chosen: set[str]) -> None:
        registration = self.registrations.get(resource)
        if registration is None:
            self.allocated = self.pods.devices()
            raise AllocationFailed(f"unknown Device Plugin {resource}")
        try:
            endpoint = self._live(registration, resource)
            response: ContainerResponse = await endpoint.allocate(self._shuffled(chosen))
        except EndpointFailed as error:
            self.allocated = self.pods.devices()
            raise AllocationFailed(str(error)) from error
        known = self.all_devices.get(resource, {})
        numa = {i: known[i].numa_nodes for i in chosen if i in known}
        self.pods.insert(pod_uid, container, resource, Allocation(frozenset(chosen), numa, response))

    async def _choose(
        self, pod_uid: str, container: str, resource: str, required: int, reusable: set[str]
    ) -> set[str]:
        """The devices to ask for; empty when nothing is needed. The order of the checks is the kubelet's."""
        held = self.pods.held(pod_uid, container, resource)
        needed = required
        if held is not None:
            needed -= len(held)
            if needed != 0:
                raise AllocationFailed(
                    f'pod "{pod_uid}" container "{container}" changed request for resource "{resource}" '
                    f"from {len(held)} to {required}"
                )
        if not self.sources_ready and (pod_uid, container) in self.running_before:
            return set()
        self._check_health(resource, held or frozenset())
        if needed == 0:
            return set()
        chosen = set(self._shuffled(reusable)[:needed])
        in_use = self.allocated.setdefault(resource, set())
        in_use |= chosen
        if len(chosen) == needed:
            return chosen
        available = self.healthy[resource] - in_use
        missing = needed - len(chosen)
        if len(available) < missing:
            raise AllocationFailed(
                f"requested number of devices unavailable for {resource}. "
                f"Requested: {missing}, Available: {len(available)}"
            )
        preferred = await self._preferred(resource, available | chosen, chosen, required)
        for candidates in (preferred & available, available):
            chosen.update(self._shuffled(candidates - chosen)[: needed - len(chosen)])
        self.allocated.setdefault(resource, set()).update(chosen)
        return chosen

    def _check_health(self, resource: str, held: frozenset[str]) -> None:
        healthy = self.healthy.get(resource)
        if healthy is None:
            raise AllocationFailed(f"cannot allocate unregistered device {resource}")
        if not healthy:
            raise AllocationFailed(f"no healthy devices present; cannot allocate unhealthy devices {resource}")
        if not held <= healthy:
            raise AllocationFailed(
                f"previously allocated devices are no longer healthy; cannot allocate unhealthy devices {resource}"
            )

    async def _preferred(self, resource: str, available: set[str], include: set[str], size: int) -> frozenset[str]:
        registration = self.registrations.get(resource)
        if registration is None:
            raise AllocationFailed(f"endpoint not found in cache for a registered resource: {resource}")
        if not registration.options.preferred_allocation:
            return frozenset()
        try:
            endpoint = self._live(registration, resource)
            return await endpoint.preferred(self._shuffled(available), self._shuffled(include), size)
        except EndpointFailed as error:
            raise AllocationFailed(f"device plugin GetPreferredAllocation rpc failed with err: {error}") from error

    def _live(self, registration: Registration, resource: str) -> Endpoint:
        if registration.endpoint is None or registration.stopped_at is not None:
            raise EndpointFailed(f"endpoint {resource} has been stopped")
        return registration.endpoint

    def _shuffled(self, ids: Iterable[str]) -> list[str]:
        result = sorted(ids)
        self.rng.shuffle(result)
        return result

    def _checkpoint(self) -> None:
        self.save(self.pods, self.healthy.keys())
