"""What happened to the pods of a real node, from what the API says of them and what their containers were given.

A thread of its own follows this node's pods for as long as the node runs, so that a pod that came and went between
two looks counts too. The other half is the slice hook's log: a line for each container that was to be created.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cdmo_harness.kubelet import counters
from cdmo_harness.kubelet.api import Api, ApiRefused

_MIG = "nvidia.com/mig-"
_START_LIMIT = 30.0
_LOOK_LIMIT = 5.0
_REJECTED = ("UnexpectedAdmissionError", "NodeAffinity", "NodeName", "NodePorts", "PodLevelResourcesNotSupported")


@dataclass(slots=True)
class PodSight:
    """One pod, from all that was seen of it."""

    name: str
    wants_slices: frozenset[str] = frozenset()  # names of containers that ask for slices
    rejected: str | None = None  # the message
    containers: dict[str, str] = field(default_factory=dict)  # container id -> container
    started: bool = False
    ended_by_itself: bool = False
    deleted_running: bool = False
    missed_node: bool = False

    def take(self, pod: Mapping[str, Any]) -> None:
        """Note what this state of the pod adds."""
        status = pod.get("status") or {}
        phase, reason = status.get("phase"), status.get("reason") or ""
        if phase == "Failed" and (reason in _REJECTED or reason.startswith("OutOf")):
            self.rejected = status.get("message") or reason
            return
        deleting = pod["metadata"].get("deletionTimestamp") is not None
        for each in (*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())):
            state = each.get("state") or {}
            if each.get("containerID"):
                self.containers[each["containerID"].rpartition("/")[2]] = each["name"]
            ended = state.get("terminated") or {}
            self.started |= "running" in state or ("startedAt" in ended and ended.get("reason") != "StartError")
            waiting = state.get("waiting") or {}
            self.missed_node |= "no such file or directory" in (waiting.get("message") or "")
        self.ended_by_itself |= phase in ("Succeeded", "Failed") and not deleting and self.started
        self.deleted_running |= deleting and self.started and not self.ended_by_itself


@dataclass(frozen=True, slots=True)
class ContainerSight:
    """A line of the slice hook's log. `gone`: it was refused, because a slice of it did not exist."""

    id: str
    sandbox: str
    slices: tuple[str, ...]
    gone: bool


def read_containers(log: Path) -> list[ContainerSight]:
    """All containers that the hook has seen; none while there is no log."""
    try:
        lines = log.read_text().splitlines()
    except FileNotFoundError:
        return []
    sights = []
    for line in lines:
        what, container, sandbox, *slices = line.split(" ")
        sights.append(ContainerSight(container, sandbox, tuple(slices), what == "gone"))
    return sights


class PodWatch:
    """Follows the pods of one node from `start` to `stop`."""

    def __init__(self, kubeconfig: Path, node: str, log: Path) -> None:
        """`kubeconfig` may be the node's own: it may read its pods. `log`: what the slice hook writes."""
        self._kubeconfig = kubeconfig
        self._node = node
        self._log = log
        self._pods: dict[str, PodSight] = {}
        self._lock = threading.Lock()
        self._stop: asyncio.Event | None = None
        self._api: Api | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._listed = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin; pods that are there already count."""
        self._listed.clear()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name=f"pods of {self._node}")
        self._thread.daemon = True
        self._thread.start()
        self._listed.wait(_START_LIMIT)

    def stop(self) -> None:
        """End; what was counted stays."""
        if self._thread is not None and self._loop is not None and self._stop is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join()
            self._thread = None

    def counts(self) -> counters.Counts:
        """Everything so far; the API server is asked once more, because the watch may be a moment behind."""
        self._look()
        containers = read_containers(self._log)
        with self._lock:
            pods = list(self._pods.values())
        got = {each.id: each.slices for each in containers if not each.gone}
        return counters.Counts(
            admitted=sum(bool(each.containers) for each in pods),
            started=sum(each.started for each in pods),
            completed=sum(each.ended_by_itself for each in pods),
            killed=sum(each.deleted_running for each in pods),
            admitted_without_device=sum(_lacks_slice(each, got) for each in pods),
            started_on_dead_device=len({each.sandbox for each in containers if each.gone}),
            waited_for_device_node=sum(each.missed_node for each in pods),
            admission_failures=dict(Counter(each.rejected for each in pods if each.rejected is not None)),
        )

    def _look(self) -> None:
        loop, thread, api = self._loop, self._thread, self._api
        if loop is None or thread is None or api is None:
            return
        listing = asyncio.run_coroutine_threadsafe(
            api.get(f"/api/v1/pods?fieldSelector=spec.nodeName={self._node}"), loop
        )
        # Without an answer (the API server may be what is being tested) there is what was seen.
        with suppress(ApiRefused, TimeoutError):
            listed = listing.result(_LOOK_LIMIT)
            with self._lock:
                self._take(listed.get("items") or ())

    async def _run(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        api = self._api = Api.from_kubeconfig(self._kubeconfig)
        following = asyncio.create_task(self._follow(api))
        await self._stop.wait()
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        await api.close()

    async def _follow(self, api: Api) -> None:
        async for event in api.follow("/api/v1/pods", f"spec.nodeName={self._node}"):
            with self._lock:
                self._take(event.items if event.kind == "LISTED" else (event.item,))
            self._listed.set()

    def _take(self, pods: Iterable[Mapping[str, Any]]) -> None:
        for pod in pods:
            uid = pod["metadata"]["uid"]
            if uid not in self._pods:
                self._pods[uid] = PodSight(pod["metadata"]["name"], wants_slices=_wanting(pod))
            self._pods[uid].take(pod)


def _wanting(pod: Mapping[str, Any]) -> frozenset[str]:
    spec = pod["spec"]
    return frozenset(
        each["name"]
        for each in (*(spec.get("initContainers") or ()), *spec["containers"])
        if any(key.startswith(_MIG) for key in ((each.get("resources") or {}).get("limits") or {}))
    )


def _lacks_slice(pod: PodSight, got: Mapping[str, tuple[str, ...]]) -> bool:
    return any(name in pod.wants_slices and got.get(id) == () for id, name in pod.containers.items())
