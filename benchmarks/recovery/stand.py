"""A cluster that is broken again and again, and how long it takes until a pod runs on a newly cut slice.

Looked at by requests, not by a watch: a watch of this process would have to recover from the same failure.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from cdmo_harness.binaries import CONTROL_PLANE, find_binaries
from cdmo_harness.build_progress import show_progress
from cdmo_harness.errors import ControlPlaneError
from cdmo_harness.local_cluster import LocalCluster
from cdmo_harness.observer import ClusterView, pod_manifest
from rich.console import Console

from benchmarks.arrivals import in_use, reported
from cdmo.model.names import PARTITIONING_LABEL, PARTITIONING_VALUE

SEED = 20261124
LIMIT = 60.0  # seconds for one step; the bounds are far below
_LOOK_SECONDS = 0.02
_WATCHING = 9  # sockets of a controller: seven watches and two of its event loop
_SECOND_LOOK_SECONDS = 3.0  # a standby looks at the Lease every 2.0 to 2.4
_PODS = "/api/v1/namespaces/default/pods"
_MIGNODES = "/apis/cdmo.clear.ml/v1alpha1/mignodes"
_LEASE = "/apis/coordination.k8s.io/v1/namespaces/cdmo/leases/cdmo-controller"


@dataclass(frozen=True, slots=True)
class Served:
    """When a pod got on; Unix time."""

    told: float  # the scheduler says that it is unschedulable: CDMO plans for such pods alone
    cut: float  # its node's change is reported as applied
    running: float


class Stand:
    """The cluster and a view of it."""

    def __init__(self, cluster: LocalCluster, view: ClusterView) -> None:
        self.cluster = cluster
        self.view = view
        self.api = cluster.control_plane.api
        self._draw = random.Random(SEED)
        self._numbers = itertools.count()

    def resource(self, node: str) -> str:
        """One of which this node has no slice: a pod that asks for it there needs a cut."""
        status = self.api.get(f"{_MIGNODES}/{node}")["status"]
        names = {each["id"]: each["resource"] for model in status["models"] for each in model["profiles"]}
        there = {names[each["profileId"]] for gpu in status["gpus"] for each in gpu.get("devices", ())}
        return self._draw.choice(sorted(set(names.values()) - there))

    def changes(self, node: str) -> int:
        """How many changes the node's agent has reported."""
        last = self.api.get(f"{_MIGNODES}/{node}")["status"].get("lastRepartition") or {}
        return int(last.get("count", 0))

    def submit(self, node: str, resource: str) -> str:
        """A pod for this node; its name. Tried again while the API server does not take it yet."""
        name = f"recovery-{next(self._numbers)}"
        spec = {"nodeSelector": {"kubernetes.io/hostname": node}}
        manifest = pod_manifest(name, {resource: 1}, spec=spec)
        deadline = time.monotonic() + LIMIT
        while True:
            try:
                self.api.create(_PODS, manifest)
            except ControlPlaneError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(_LOOK_SECONDS)
            else:
                return name

    def served(self, node: str, name: str, before: int) -> Served:
        """Wait until the pod runs and its cut is reported; `before` is `changes` before it was submitted."""
        deadline = time.monotonic() + LIMIT
        told = cut = running = 0.0
        while time.monotonic() < deadline:
            try:
                status = self.api.get(f"{_PODS}/{name}")["status"]
                if not told and any(each.get("reason") == "Unschedulable" for each in status.get("conditions", ())):
                    told = time.time()
                if not cut and self.changes(node) > before:
                    cut = time.time()
                if not running and status["phase"] == "Running":
                    assert told, f"{name} needed no cut"
                    running = time.time()
                if running and cut:
                    # What the agent writes may be seen a moment after the pod that it lets run.
                    return Served(told, min(cut, running), running)
            except ControlPlaneError:
                pass  # away for a moment more
            time.sleep(_LOOK_SECONDS)
        raise AssertionError(f"{name} does not run after {LIMIT:g} s:\n{self.view.describe()}")

    def lease(self) -> dict[str, Any]:
        """The Lease's spec."""
        return dict(self.api.get(_LEASE)["spec"])

    def lease_end(self) -> float:
        """Unix time at which the Lease runs out unless it is renewed."""
        spec = self.lease()
        renewed = datetime.fromisoformat(str(spec["renewTime"])).timestamp()
        return renewed + float(spec["leaseDurationSeconds"])

    def harm(self) -> int:
        """How often something happened that must not, since the start."""
        total = 0
        for node in self.cluster.nodes.values():
            counts = node.counters()
            total += sum(counts.admission_failures.values())
            total += counts.admitted_without_device + counts.started_on_dead_device
            total += node.driver.counters().destroyed_in_use_attempts
        return total

    async def come_to_rest(self) -> None:
        """Delete every pod; return when no slice is in use and nothing is under way."""
        for each in (await asyncio.to_thread(self.api.get, _PODS))["items"]:
            await self.view.delete(f"default/{each['metadata']['name']}")
        view = self.view
        await view.wait("all pods are gone", lambda: view.pods.keys() <= view.gone, limit=LIMIT)
        await view.wait("every slice is idle", lambda: not in_use(view), limit=LIMIT)

    async def standby(self) -> None:
        """Start a controller and return when it follows the cluster and the Lease."""
        process = await asyncio.to_thread(self.cluster.start_controller)
        await self.view.wait("the standby watches", lambda: _sockets(process.pid) >= _WATCHING, limit=LIMIT)
        await asyncio.sleep(_SECOND_LOOK_SECONDS)


def _sockets(pid: int) -> int:
    count = 0
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            count += str(descriptor.readlink()).startswith("socket:")
        except OSError:
            continue  # closed meanwhile
    return count


@asynccontextmanager
async def stand() -> AsyncIterator[Stand]:
    """The demo's nodes with agents and one controller, once they report."""
    with show_progress(Console(stderr=True)) as progress:
        binaries = find_binaries(CONTROL_PLANE, environment=os.environ, progress=progress)
    with LocalCluster(binaries) as cluster:
        async with ClusterView(cluster.control_plane.admin_kubeconfig, cluster.control_plane.api) as view:
            await view.watch_mignodes()
            for name in cluster.nodes:
                await view.label_node(name, {PARTITIONING_LABEL: PARTITIONING_VALUE})
            cluster.start_controller()
            cluster.start_agents()
            await view.wait("the agents report", lambda: reported(view, len(cluster.nodes)), limit=LIMIT)
            yield Stand(cluster, view)


def say(text: str) -> None:
    """Progress, for whoever waits minutes for the figures."""
    sys.stderr.write(f"{text}\n")
