"""The life of the pods of one node: admission one at a time, then each pod by itself.

Order matters and follows the kubelet: a pod is known (and shows in PodResources, without devices) before it is
admitted; devices are given before anything else is judged; a pod's devices count as free when its containers are
dead, or at once when the object was deleted by force, whatever still runs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import structlog

from . import pod_status
from .api import STRATEGIC_MERGE, Api, ApiRefused
from .counters import Counters
from .device_manager import DeviceManager
from .devices import AllocationFailed
from .node_status import is_extended
from .pod_status import Place, Run
from .pods import Pod
from .predicates import Rejection, rejection
from .runtime import Runtime, SliceGone

_log = structlog.get_logger(__name__)

_RETRY_SECONDS = 1.0  # between attempts to create a container
_SIGKILL_EXIT = 137
_START_FAILED_EXIT = 128  # containerd's, of a container that the runtime refused to start


@dataclass(slots=True, eq=False)
class _Known:
    """A pod the kubelet knows. `ended`: its containers are dead, or it was rejected."""

    pod: Pod
    ended: bool = False
    run: Run = field(default_factory=Run)
    place: Place | None = None
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    forced: bool = False


@dataclass(slots=True)
class Workers:
    """All pods of the node. `allocatable` is the newest node.status.allocatable (cpu in thousandths)."""

    manager: DeviceManager
    runtime: Runtime
    counters: Counters
    api: Api
    allocatable: Callable[[], Mapping[str, int]]
    spawn: Callable[[Awaitable[None], str], None]
    now: Callable[[], datetime]
    start_latency: float  # seconds from admission to running
    host_ip: str
    pod_ip: Callable[[Pod], str]  # the same after a restart: a pod keeps its sandbox
    known: dict[str, _Known] = field(default_factory=dict)

    # ---- views ---------------------------------------------------------------------------------------------

    def pods(self) -> list[Pod]:
        """Every pod the kubelet knows, ended ones included."""
        return [entry.pod for entry in self.known.values()]

    def active(self) -> list[Pod]:
        """Pods whose containers may run: what holds devices and what List shows."""
        return [entry.pod for entry in self.known.values() if not entry.ended]

    # ---- what the API says ---------------------------------------------------------------------------------

    async def replaced(self, pods: Sequence[Pod]) -> None:
        """The whole list of this node's pods, after a start or a broken watch; oldest are admitted first."""
        present = {pod.uid for pod in pods}
        for uid in [uid for uid in self.known if uid not in present]:
            self.removed(uid)
        for pod in sorted(pods, key=lambda pod: (pod.created, pod.name)):
            await self.changed(pod)
        for uid in [uid for uid in self.runtime.running if uid not in present and uid not in self.known]:
            # Deleted while this kubelet was down: its containers are orphans.
            self.spawn(self.runtime.kill(uid), f"orphan {uid}")
        self.manager.sources_ready = True

    async def changed(self, pod: Pod) -> None:
        """A pod was added or changed. Returns when a new one is admitted or refused."""
        entry = self.known.get(pod.uid)
        if entry is None:
            if pod.terminal:
                self.spawn(self._finish(pod), f"finish {pod.name}")
                return
            entry = self.known[pod.uid] = _Known(pod)
            await self._admit(entry)
            return
        entry.pod = pod
        if pod.deletion_grace_seconds is not None:
            if entry.ended:
                self.spawn(self._delete(pod), f"delete {pod.name}")
            entry.stop.set()

    async def _finish(self, pod: Pod) -> None:
        """A pod that ended before this kubelet started: see that nothing of it is left."""
        await self.runtime.kill(pod.uid)
        if pod.deletion_grace_seconds is not None:
            await self._delete(pod)

    def removed(self, uid: str) -> None:
        """The object is gone. Its devices are free from now on, even if its process still needs a while."""
        entry = self.known.pop(uid, None)
        if entry is not None:
            entry.forced = not entry.ended
            entry.ended = True
            entry.stop.set()

    async def devices_changed(self, uids: frozenset[str]) -> None:
        """Report the health of devices that a running pod holds."""
        for uid in uids:
            entry = self.known.get(uid)
            if entry is not None and not entry.ended and entry.place is not None:
                await self._report(entry)

    # ---- admission -----------------------------------------------------------------------------------------

    async def _admit(self, entry: _Known) -> None:
        pod = entry.pod
        resumed = self.runtime.running.get(pod.uid)
        try:
            await self.manager.allocate_pod(pod)
        except AllocationFailed as error:
            refusal: Rejection | None = Rejection(
                "UnexpectedAdmissionError", f"Allocate failed due to {error}, which is unexpected"
            )
        else:
            others = [other for other in self.active() if other.uid != pod.uid]
            allocatable = self.allocatable()
            if pod.uid in self.manager.pods.by_pod:
                allocatable = self.manager.raised_allocatable(allocatable)
            refusal = rejection(pod, others, allocatable)
        if refusal is not None:
            entry.ended = True
            self.counters.admission_failed(f"Pod was rejected: {refusal.message}")
            _log.warning("pod refused", pod=pod.name, reason=refusal.reason, message=refusal.message)
            status = pod_status.rejected(pod, refusal.reason, refusal.message)
            self.spawn(self._refused(pod, status, killed=resumed is not None), f"refused {pod.name}")
            return
        entry.place = Place(self.host_ip, self.host_ip if pod.host_network else self.pod_ip(pod), self._time())
        if resumed is None:
            self.counters.add("admitted")
            if self._lacks_device(pod):
                self.counters.add("admitted_without_device")
        _log.info("pod admitted", pod=pod.name, again=resumed is not None)
        self.spawn(self._live(entry), f"pod {pod.name}")

    def _lacks_device(self, pod: Pod) -> bool:
        return any(
            is_extended(resource) and self.manager.pods.held(pod.uid, container.name, resource) is None
            for container in (*pod.init_containers, *pod.containers)
            for resource, amount in container.limits.items()
            if amount > 0
        )

    async def _refused(self, pod: Pod, status: Mapping[str, Any], *, killed: bool) -> None:
        if killed:
            await self.runtime.kill(pod.uid)
        await self._write(pod, status)
        if pod.deletion_grace_seconds is not None:
            await self._delete(pod)

    # ---- one pod -------------------------------------------------------------------------------------------

    async def _live(self, entry: _Known) -> None:
        """From admission to the end, whoever brings it about."""
        if await self._start(entry):
            await self._wait_for_end(entry)
        uid = entry.pod.uid
        own_end = entry.run.finished is not None
        if not own_end:
            if uid in self.runtime.running:
                # SIGTERM; SIGKILL when the grace time is over. A grace of 0 is a deletion by force, which may show as
                # a change before the removal: the process takes its time all the same.
                linger = entry.pod.terminate_seconds
                if not entry.forced and entry.pod.deletion_grace_seconds:
                    linger = min(linger, entry.pod.deletion_grace_seconds)
                await asyncio.sleep(linger)
            entry.run = Run(entry.run.started, self._time(), exit_code=_SIGKILL_EXIT)
        await self.runtime.kill(uid)
        if entry.run.failed is None:
            self.counters.add("completed" if own_end else "killed")
        entry.ended = True
        if entry.forced:
            return
        await self._report(entry)
        if entry.pod.deletion_grace_seconds is not None:
            await self._delete(entry.pod)

    async def _start(self, entry: _Known) -> bool:
        """Create the containers, trying every second while something is missing; False when told to stop."""
        pod = entry.pod
        resumed = self.runtime.running.get(pod.uid)
        if resumed is not None:
            entry.run = Run(_rfc3339(datetime.fromtimestamp(resumed.started_at, UTC)))
            await self._report(entry)
            return True
        await self._report(entry)
        waited = dead = False
        delay = self.start_latency
        while not await _happens(entry.stop, delay):
            delay = _RETRY_SECONDS
            missing = self.runtime.missing_path(self._device_paths(pod))
            if missing is not None:
                if not waited:
                    waited = True
                    self.counters.add("waited_for_device_node")
                await self._cannot_create(entry, f"lstat {missing}: no such file or directory")
                continue
            try:
                await self.runtime.start(
                    {"uid": pod.uid, "namespace": pod.namespace, "name": pod.name},
                    tuple(container.name for container in pod.listed_containers),
                    self._slices(pod),
                    self.now().timestamp(),
                    pod.terminate_seconds,
                )
            except SliceGone as error:
                if not dead:
                    dead = True
                    self.counters.add("started_on_dead_device")
                if pod.restarts:
                    await self._cannot_create(entry, f"{error}: unknown device")
                    continue
                refusal = ("StartError", f"failed to create containerd task: {error}: unknown device")
                entry.run = Run(finished=self._time(), exit_code=_START_FAILED_EXIT, failed=refusal)
                _log.warning("container not started", pod=pod.name, cause=refusal[1])
                return False
            entry.run = Run(self._time())
            self.counters.add("started")
            await self._report(entry)
            return True
        return False

    async def _cannot_create(self, entry: _Known, cause: str) -> None:
        run = Run(waiting=("CreateContainerError", f"failed to create containerd container: {cause}"))
        if run != entry.run:
            entry.run = run
            _log.warning("container not created", pod=entry.pod.name, cause=cause)
            await self._report(entry)

    async def _wait_for_end(self, entry: _Known) -> None:
        pod, running = entry.pod, self.runtime.running[entry.pod.uid]
        left = None
        if pod.run_seconds is not None:
            left = max(0.0, running.started_at + pod.run_seconds - self.now().timestamp())
        if not await _happens(entry.stop, left):
            entry.run = Run(entry.run.started, self._time(), exit_code=pod.exit_code)

    def _device_paths(self, pod: Pod) -> list[str]:
        return [
            path
            for container in pod.listed_containers
            for allocation in self.manager.pods.of_container(pod.uid, container.name).values()
            for path in allocation.response.device_paths
        ]

    def _slices(self, pod: Pod) -> list[str]:
        return sorted(
            device_id
            for container in pod.listed_containers
            for allocation in self.manager.pods.of_container(pod.uid, container.name).values()
            for device_id in allocation.device_ids
            if device_id.startswith("MIG-")
        )

    # ---- the API -------------------------------------------------------------------------------------------

    async def _report(self, entry: _Known) -> None:
        if entry.place is None:
            raise AssertionError("only an admitted pod has a status to report")
        pod = entry.pod
        devices = {
            container.name: {
                resource: [(i, self.manager.health(resource, i)) for i in sorted(allocation.device_ids)]
                for resource, allocation in self.manager.pods.of_container(pod.uid, container.name).items()
            }
            for container in pod.listed_containers
        }
        await self._write(pod, pod_status.running(pod, entry.place, entry.run, devices))

    async def _write(self, pod: Pod, status: Mapping[str, Any]) -> None:
        body = {"metadata": {"uid": pod.uid}, "status": status}
        await self._until_answered("PATCH", f"{_path(pod)}/status", body, STRATEGIC_MERGE)

    async def _delete(self, pod: Pod) -> None:
        body = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "gracePeriodSeconds": 0,
            "preconditions": {"uid": pod.uid},
        }
        await self._until_answered("DELETE", _path(pod), body, "application/json")

    async def _until_answered(self, method: str, path: str, body: Any, content_type: str) -> None:
        """Repeat while the API server is away. A pod that is gone, or another by now, needs no word more."""
        while True:
            try:
                await self.api.call(method, path, body, content_type=content_type)
                return
            except ApiRefused as error:
                if not error.passing:
                    if error.status not in (404, 409):
                        _log.error("API refused", method=method, path=path, error=str(error))
                    return
                await asyncio.sleep(0.5)

    def _time(self) -> str:
        return _rfc3339(self.now())


def _path(pod: Pod) -> str:
    return f"/api/v1/namespaces/{pod.namespace}/pods/{pod.name}"


def _rfc3339(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


async def _happens(event: asyncio.Event, limit: float | None) -> bool:
    """Wait for the event, at most `limit` seconds (None: for ever); whether it came."""
    try:
        async with asyncio.timeout(limit):
            await event.wait()
    except TimeoutError:
        return False
    return True
