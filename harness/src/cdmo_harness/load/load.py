"""Pods that come all the time, more than there is room for, so that nodes are cut anew all the time.

    async with ClusterView(…) as view:
        tally = await Load(cluster, view, LoadSettings(seed=1)).run(repartitions=200, limit=900)

Some are deleted by force while they run: their slice is free for the kubelet before their process has ended. Some
are bound by their own spec.nodeName, past the scheduler. Nobody counts slices for those, so they have a profile of
their own and come one at a time, and only for a slice that is there: whatever goes wrong then is not their fault.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Coroutine, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from random import Random
from typing import Any

from cdmo.model.cluster import carries_fence
from cdmo.model.names import MIG_RESOURCE_PREFIX
from cdmo_harness.errors import ControlPlaneError
from cdmo_harness.load.tally import Tally, common_form, harm_on, messages_of_failures
from cdmo_harness.local_cluster import LocalCluster
from cdmo_harness.observer import ClusterView, pod_manifest

_LOOK_SECONDS = 0.05
_AT_ONCE = 4  # requests of the clearing at a time
_PODS = "/api/v1/namespaces/default/pods"
# Profiles of an 80 GB card, by how often they are asked for: small ones come in crowds and find idle slices.
_PROFILES = {"1g.10gb": 40, "2g.20gb": 20, "3g.40gb": 16, "4g.40gb": 8, "7g.80gb": 6}


@dataclass(frozen=True, slots=True)
class LoadSettings:
    """How dense the load is. Times in seconds."""

    seed: int
    per_second: float = 5.0  # pods, on average, as long as fewer than `waiting` wait
    waiting: int = 6
    run_seconds: tuple[float, float] = (0.1, 1.0)
    forced: float = 0.15  # share of pods that are deleted by force as soon as they run
    direct: str = "1g.20gb"  # the profile of pods with a spec.nodeName
    profiles: Mapping[str, int] = field(default_factory=lambda: _PROFILES)
    drain: float = 180.0  # until the last pods have ended, once no more come


class Load:
    """One run on a cluster whose nodes, agents and controller are at work. `view` must watch MigNodes."""

    def __init__(self, cluster: LocalCluster, view: ClusterView, settings: LoadSettings) -> None:
        self._cluster = cluster
        self._view = view
        self._settings = settings
        self._random = Random(settings.seed)
        self._open: set[str] = set()  # "namespace/name" of pods that have not ended
        self._doomed: set[str] = set()  # of these, the ones to be deleted by force
        self._failed: Counter[str] = Counter()
        self._submitted = self._succeeded = self._forced = self._direct = self._turned_away = 0
        self._numbers = count(1)
        self._closed = False

    async def run(self, repartitions: int, *, limit: float) -> Tally:
        """Load until so many changes were applied, then until every pod has ended and no node is fenced.

        Raises NotReadyInTime where either takes too long: `limit` seconds, and the settings' `drain`.
        """
        view = self._view
        applied, reports = self._applied(), len(view.repartitions)
        before = await asyncio.to_thread(harm_on, self._cluster.nodes.values())
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(each) for each in self._work()]
            await view.wait("the repartitions", lambda: self._applied() - applied >= repartitions, limit=limit)
            self._closed = True
            await view.wait("every pod has ended", lambda: not self._open, limit=self._settings.drain)
            await view.wait("no node is fenced", self._nothing_fenced, limit=self._settings.drain)
            for each in tasks:
                each.cancel()
        harm = (await asyncio.to_thread(harm_on, self._cluster.nodes.values())).since(before)
        changes = view.repartitions[reports:]
        return Tally(
            pods=self._submitted,
            succeeded=self._succeeded,
            forced=self._forced,
            direct=self._direct,
            turned_away=self._turned_away,
            failed=dict(self._failed),
            refused=harm.refused,
            without_slice=harm.without_slice,
            dead=harm.dead,
            destroys_in_use=harm.destroys_in_use,
            repartitions=self._applied() - applied,
            changes_failed=messages_of_failures(changes),
            fenced=tuple(each.report.fenced_seconds for each in changes),
        )

    def _work(self) -> Iterator[Coroutine[Any, Any, None]]:
        yield self._arrivals()
        yield self._direct_arrivals()
        yield self._clear_away()

    def _applied(self) -> int:
        reports = (each.status.last_repartition for each in self._view.mignodes.values())
        return sum(each.count for each in reports if each is not None)

    def _nothing_fenced(self) -> bool:
        return not any(map(carries_fence, self._view.nodes.values()))

    # ---- arrivals ------------------------------------------------------------------------------------------

    async def _arrivals(self) -> None:
        settings = self._settings
        profiles, weights = list(settings.profiles), list(settings.profiles.values())
        while True:
            await asyncio.sleep(self._random.expovariate(settings.per_second))
            if not self._closed and self._waiting() < settings.waiting:
                (profile,) = self._random.choices(profiles, weights)
                await self._submit(profile, doomed=self._random.random() < settings.forced)

    def _waiting(self) -> int:
        pods = (self._view.pods.get(key) for key in self._open)
        return sum(pod is None or not pod.info.node_name for pod in pods)

    async def _submit(self, profile: str, *, doomed: bool = False, node: str = "") -> str | None:
        """A pod's key; None where its binding was refused, which only one with a node's name can see."""
        manifest = pod_manifest(
            f"load-{next(self._numbers)}",
            {f"{MIG_RESOURCE_PREFIX}{profile}": 1},
            run_seconds=round(self._random.uniform(*self._settings.run_seconds), 2),
            spec={"nodeName": node} if node else None,
        )
        try:
            key = await self._view.submit(manifest)
        except ControlPlaneError as error:
            if not node or "cdmo-fence" not in str(error):
                raise
            return None
        self._submitted += 1
        self._open.add(key)
        if doomed:
            self._doomed.add(key)
        return key

    async def _direct_arrivals(self) -> None:
        """One pod at a time of the profile that has no other pods. Where no slice is idle, the scheduler gets it."""
        while True:
            await asyncio.sleep(self._random.uniform(0.0, 2 / self._settings.per_second))
            if self._closed:
                continue
            node = self._node_with_an_idle_one()
            key = await self._submit(self._settings.direct, node=node)
            if key is None:
                self._turned_away += 1
                continue
            self._direct += bool(node)
            await self._ended(key)

    async def _ended(self, key: str) -> None:
        await self._view.wait(f"{key} ends", lambda: key not in self._open, limit=self._settings.drain)

    def _node_with_an_idle_one(self) -> str:
        """A node whose hardware has an idle slice of the profile for direct pods, which its agent reported."""
        for name, node in self._cluster.nodes.items():
            mignode = self._view.mignodes[name]
            idle = {each.uuid for gpu in mignode.status.gpus for each in gpu.devices if each.state == "Idle"}
            for gpu in node.driver.snapshot():
                for each in gpu.slices:
                    if each.profile == self._settings.direct and each.uuid in idle and not each.processes:
                        return name
        return ""

    # ---- ends ----------------------------------------------------------------------------------------------

    async def _clear_away(self) -> None:
        """Note what ended, remove it as whoever submitted it would, and delete by force what is to go that way."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            going = [key for key in tuple(self._open) if self._look_at(key)]
            for start in range(0, len(going), _AT_ONCE):
                several = going[start : start + _AT_ONCE]
                await asyncio.gather(*(self._delete(key) for key in several))

    def _look_at(self, key: str) -> bool:
        """Whether the pod's object is to be removed now."""
        pod = self._view.pods.get(key)
        if key in self._view.gone:
            self._open.discard(key)
        elif pod is not None and pod.phase in ("Succeeded", "Failed"):
            self._open.discard(key)
            if pod.phase == "Succeeded":
                self._succeeded += 1
            else:
                self._failed[common_form(f"{pod.reason or 'Failed'}: {pod.message}")] += 1
            return True
        elif pod is not None and pod.phase == "Running" and key in self._doomed:
            self._doomed.discard(key)
            self._forced += 1
            return True
        return False

    async def _delete(self, key: str) -> None:
        try:
            await self._view.delete(key, grace_seconds=0)
        except ControlPlaneError as error:
            if "(404)" not in str(error):
                raise
