"""Pods that come and go, so that nodes are cut anew all the time; and what became of each of them."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

from cdmo.model.names import MIG_RESOURCE_PREFIX
from cdmo_harness.chaos.stage import Stage
from cdmo_harness.errors import ControlPlaneError
from cdmo_harness.observer import PodSight, pod_manifest

_PODS = "/api/v1/namespaces/default/pods"
_LOOK_SECONDS = 0.1
_AT_ONCE = 6  # requests to the API server at a time
# Profiles of an 80 GB card and of an A30, by how often they are asked for: small ones come in crowds.
_PROFILES = {
    "1g.10gb": 30,
    "1g.20gb": 8,
    "2g.20gb": 18,
    "3g.40gb": 14,
    "4g.40gb": 8,
    "7g.80gb": 5,
    "1g.6gb": 8,
    "2g.12gb": 5,
    "4g.24gb": 4,
}
_RUN_SECONDS = (0.3, 5.0)  # the short ones come more often
_TERMINATE_SECONDS = (0, 0, 1, 3)  # that a process goes on after a deletion
# Shapes of pods, by how often they come.
_SHAPES = {"one": 60, "two of one": 8, "two containers": 8, "init": 8, "init alone": 4, "sidecar": 12}


@dataclass(frozen=True, slots=True)
class Ending:
    """How one pod ended."""

    key: str
    phase: str  # Succeeded, Failed, or Gone when its object went before
    node: str
    reason: str
    message: str
    bound_at: float | None  # seconds of the monotonic clock; None: never seen bound
    ended_at: float
    deleted: bool  # by a user, before it ended
    destroyed: int = 0  # GPU instances of the node until then, as the driver counts


@dataclass(slots=True)
class Load:
    """Submits pods as fast as they are served: `waiting` of them are kept waiting, `most` are made in all."""

    stage: Stage
    random: Random
    waiting: int
    most: int
    profiles: Mapping[str, int] = field(default_factory=lambda: _PROFILES)
    submitted: int = 0
    endings: Counter[str] = field(default_factory=Counter)  # phase, or "Deleted"
    failures: list[Ending] = field(default_factory=list)  # pods that failed, by whatever
    running: int = 0
    pending: int = 0
    stopped: bool = False
    _bound_at: dict[str, float] = field(default_factory=dict)
    _to_remove: deque[str] = field(default_factory=deque)

    async def run(self) -> None:
        """Submit, look and clear away until cancelled; `stopped` ends the submitting alone."""
        removing = asyncio.create_task(self._remove_ended())
        try:
            while True:
                self._look()
                if not self.stopped:
                    await self._submit()
                await asyncio.sleep(_LOOK_SECONDS)
        finally:
            removing.cancel()
            await asyncio.gather(removing, return_exceptions=True)

    @property
    def ended(self) -> int:
        """Pods that have ended, in whatever way."""
        return sum(self.endings.values())

    # ---- submitting ----------------------------------------------------------------------------------------

    async def _submit(self) -> None:
        room = min(self.waiting - self.pending, self.most - self.submitted, _AT_ONCE)
        if room <= 0:
            return
        manifests = [self._next() for _ in range(room)]
        await asyncio.gather(*map(self._create, manifests))

    def _next(self) -> dict[str, Any]:
        self.submitted += 1
        return draw_pod(f"pod-{self.submitted}", self.random, self.profiles)

    async def _create(self, manifest: Mapping[str, Any]) -> None:
        api = self.stage.cluster.control_plane.api

        def create() -> None:
            try:
                api.create(_PODS, manifest)
            except ControlPlaneError as error:
                if "(409)" not in str(error):  # made by a call whose answer was lost
                    raise

        await self.stage.api(create)
        self.stage.open.add(f"default/{manifest['metadata']['name']}")
        self.pending += 1

    # ---- looking -------------------------------------------------------------------------------------------

    def _look(self) -> None:
        view, now = self.stage.view, time.monotonic()
        self.running = self.pending = 0
        for key in tuple(self.stage.open):
            pod = view.pods.get(key)
            if pod is not None and pod.info.node_name:
                self._bound_at.setdefault(key, now)
            if key in view.gone:
                self._end(key, pod, "Gone", now)
            elif pod is not None and pod.phase in ("Succeeded", "Failed"):
                self._end(key, pod, pod.phase, now)
                self._to_remove.append(key)
            elif pod is not None and pod.phase == "Running":
                self.running += 1
            else:
                self.pending += 1

    def _end(self, key: str, pod: PodSight | None, phase: str, now: float) -> None:
        deleted = key in self.stage.deleted
        self.stage.open.discard(key)
        bound = self._bound_at.pop(key, None)
        self.endings["Deleted" if deleted and not pod_refused(pod, phase) else phase] += 1
        if pod is None or phase == "Succeeded" or (phase == "Gone" and deleted):
            return
        node = pod.info.node_name
        destroyed = self.stage.destroyed(node) if node else 0
        self.failures.append(Ending(key, phase, node, pod.reason, pod.message, bound, now, deleted, destroyed))

    async def _remove_ended(self) -> None:
        """As whoever submitted them does; the cluster stays as small as on the first day."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            while self._to_remove:
                several = [self._to_remove.popleft() for _ in range(min(_AT_ONCE, len(self._to_remove)))]
                await asyncio.gather(
                    *(self.stage.delete(f"{_PODS}/{key.split('/')[1]}", grace_seconds=0) for key in several)
                )


def pod_refused(pod: PodSight | None, phase: str) -> bool:
    """Whether the kubelet refused the pod: only then its status has a reason of its own."""
    return phase == "Failed" and pod is not None and bool(pod.reason)


def draw_pod(name: str, random: Random, profiles: Mapping[str, int]) -> dict[str, Any]:
    """A pod of some shape that asks for some slices and ends by itself."""
    (profile,) = random.choices(list(profiles), weights=list(profiles.values()))
    (shape,) = random.choices(list(_SHAPES), weights=list(_SHAPES.values()))
    resource = f"{MIG_RESOURCE_PREFIX}{profile}"
    whole = profile.startswith(("7g", "4g.24"))  # no card holds two of these
    asks = {resource: 2 if shape == "two of one" and not whole else 1}
    run_seconds = round(random.triangular(*_RUN_SECONDS, _RUN_SECONDS[0]), 2)
    notes = {"cdmo-harness/terminate-seconds": str(random.choice(_TERMINATE_SECONDS))}
    manifest = pod_manifest(name, asks, run_seconds=run_seconds, annotations=notes)
    spec = manifest["spec"]
    (main,) = spec["containers"]
    if shape == "two containers" and not whole:
        spec["containers"] = [main, _container("second", resource)]
    elif shape == "init":
        spec["initContainers"] = [_container("prepare", resource)]  # its slice serves the main container as well
    elif shape == "init alone":
        spec["initContainers"] = [_container("prepare", resource)]
        spec["containers"] = [{"name": "main", "image": main["image"]}]
    elif shape == "sidecar" and not whole:
        spec["initContainers"] = [{**_container("beside", resource), "restartPolicy": "Always"}]
    return manifest


def _container(name: str, resource: str) -> dict[str, Any]:
    return {
        "name": name,
        "image": "example.invalid/train:1",
        "resources": {"limits": {resource: "1"}},
    }
