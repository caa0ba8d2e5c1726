"""What a demo or a test sees of a local cluster: pods and MigNodes as they change, with the time of each sight.

async with ClusterView(kubeconfig, api) as view:
    await view.submit(pod_manifest("train", {"nvidia.com/mig-3g.40gb": 1}))
    await view.wait("train runs", lambda: view.pod("train").phase == "Running", limit=10)
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from cdmo.api.v1alpha1 import MigNode, Repartition
from cdmo.kube.connect import Connection, ConnectSettings, connect
from cdmo.kube.mignode_api import mig_node
from cdmo.kube.reflector import Reflector
from cdmo.kube.resources import MIG_NODE, NODE, POD, Kind
from cdmo.kube.slim import node_info, pod_info
from cdmo.model.cluster import NodeInfo, PodInfo
from cdmo.model.names import witness_pod
from cdmo.runtime.clock import SystemClock
from cdmo_harness.errors import NotReadyInTime
from cdmo_harness.kubelet.pods import EXIT_CODE, RUN_SECONDS, TERMINATE_SECONDS
from cdmo_harness.local_api import LocalApi


@dataclass(slots=True)
class PodSight:
    """A pod over time. Seconds of this process' monotonic clock."""

    info: PodInfo
    reason: str = ""
    message: str = ""
    seen_at: float = 0.0  # when it was first seen, or when it was submitted by this process
    running_at: float | None = None
    devices: tuple[str, ...] = ()
    annotations: Mapping[str, str] = field(default_factory=dict)

    @property
    def phase(self) -> str:
        return self.info.phase

    @property
    def created_to_running(self) -> float | None:
        """Seconds from creation to the first sight of phase Running."""
        return None if self.running_at is None else self.running_at - self.seen_at


@dataclass(frozen=True, slots=True)
class Repartitioned:
    """One change of a node, as its agent reported it."""

    node: str
    report: Repartition


class _PodStatus(msgspec.Struct, frozen=True):
    reason: str | None = None
    message: str | None = None


class _Pod(msgspec.Struct, frozen=True):
    status: _PodStatus = _PodStatus()


class ClusterView:
    """Watches a cluster with its own connection; everything runs in the caller's event loop."""

    def __init__(self, kubeconfig: Path, api: LocalApi) -> None:
        """Watches with `kubeconfig`, acts through `api` (in threads: its calls block)."""
        self._kubeconfig = kubeconfig
        self._api = api
        self.pods: dict[str, PodSight] = {}  # by "namespace/name"; gone pods stay
        self.gone: set[str] = set()
        self.nodes: dict[str, NodeInfo] = {}
        self.mignodes: dict[str, MigNode] = {}
        self.repartitions: list[Repartitioned] = []
        self._submitted: dict[str, float] = {}
        self._raw: dict[str, _Pod] = {}
        self._changed = asyncio.Event()
        self._tasks: list[asyncio.Task[Any]] = []
        self._connection: Connection | None = None

    async def __aenter__(self) -> Self:
        self._connection = connect(ConnectSettings(self._kubeconfig), os.environ)
        reflectors = [
            self._mirror(POD, self._convert_pod, self._on_pod),
            self._mirror(NODE, node_info, self._on_node),
        ]
        self._tasks = [asyncio.create_task(each.run()) for each in reflectors]
        for each in reflectors:
            await each.wait_synced()
        return self

    async def watch_mignodes(self) -> None:
        """Begin to follow MigNodes: only once their CustomResourceDefinition is there."""
        reflector = self._mirror(MIG_NODE, mig_node, self._on_mignode)
        self._tasks.append(asyncio.create_task(reflector.run()))
        await reflector.wait_synced()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for each in self._tasks:
            each.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._connection is not None:
            await self._connection.aclose()

    # --- acting ---------------------------------------------------------------------------------------------

    async def submit(self, manifest: Mapping[str, Any]) -> str:
        """Create a pod; returns "namespace/name"."""
        namespace = manifest["metadata"].get("namespace", "default")
        key = f"{namespace}/{manifest['metadata']['name']}"
        self._submitted[key] = time.monotonic()
        await asyncio.to_thread(self._api.create, f"/api/v1/namespaces/{namespace}/pods", manifest)
        return key

    async def delete(self, key: str, *, grace_seconds: int | None = None) -> None:
        """Delete a pod; with grace 0 by force, as `kubectl delete --force` does."""
        namespace, name = key.split("/")
        await asyncio.to_thread(
            self._api.delete, f"/api/v1/namespaces/{namespace}/pods/{name}", grace_seconds=grace_seconds
        )

    async def label_node(self, name: str, labels: Mapping[str, str | None]) -> None:
        """Set labels of a Node, as `kubectl label nodes` does; None removes one."""
        await asyncio.to_thread(self._api.patch, f"/api/v1/nodes/{name}", {"metadata": {"labels": dict(labels)}})

    async def patch_mignode(self, name: str, change: Mapping[str, Any]) -> None:
        """Merge a change into a MigNode, as `kubectl patch --type merge` does."""
        await asyncio.to_thread(self._api.patch, f"/apis/cdmo.clear.ml/v1alpha1/mignodes/{name}", change)

    # --- waiting --------------------------------------------------------------------------------------------

    def pod(self, name: str, namespace: str = "default") -> PodSight:
        """A pod by name. Raises KeyError while it was never seen."""
        return self.pods[f"{namespace}/{name}"]

    async def wait(self, what: str, holds: Callable[[], bool], *, limit: float) -> None:
        """Return once `holds()`, looked at after every event. Raises NotReadyInTime with what is there instead."""
        deadline = time.monotonic() + limit
        while not _safely(holds):
            self._changed.clear()
            left = deadline - time.monotonic()
            try:
                async with asyncio.timeout(max(0.0, min(left, 0.5))):  # also conditions that no event tells of
                    await self._changed.wait()
            except TimeoutError:
                if time.monotonic() >= deadline:
                    raise NotReadyInTime(f"not within {limit:g} s: {what}\n{self.describe()}") from None

    def describe(self) -> str:
        """Pods and slices in a few lines, for messages of failures."""
        lines = [
            f"pod {key}: {each.phase} {each.reason} {each.message[:160]} node={each.info.node_name}"
            for key, each in sorted(self.pods.items())
            if key not in self.gone
        ]
        for name, node in sorted(self.mignodes.items()):
            slices = [f"{d.profile_id}@{d.start}:{d.state}" for gpu in node.status.gpus for d in gpu.devices]
            wanted = [f"{p.profile_id}@{p.start}" for gpu in node.spec.gpus for p in gpu.layout]
            conditions = [f"{c.type}={c.status} {c.message[:120]}" for c in node.status.conditions]
            last = node.status.last_repartition
            lines.append(f"mignode {name}: has {slices} wants {wanted} {conditions} last={last}")
        return "\n".join(lines)

    # --- watching -------------------------------------------------------------------------------------------

    def _mirror(
        self, kind: Kind, convert: Callable[[msgspec.Raw], Any], on_change: Callable[..., None]
    ) -> Reflector[Any]:
        assert self._connection is not None, "enter the view first"
        return Reflector(self._connection, kind, convert, on_change, clock=SystemClock(), random=random.random)

    def _convert_pod(self, raw: msgspec.Raw) -> tuple[PodInfo, _Pod]:
        return pod_info(raw), msgspec.json.decode(raw, type=_Pod)

    def _on_pod(self, key: str, old: tuple[PodInfo, _Pod] | None, new: tuple[PodInfo, _Pod] | None) -> None:
        if key.partition("/")[2].startswith(witness_pod("")):
            return  # CDMO's question to the scheduler, nobody's work
        self._changed.set()
        if new is None:
            self.gone.add(key)
            return
        info, status = new
        sight = self.pods.get(key)
        if sight is None or sight.info.key != info.key:
            sight = PodSight(info, seen_at=self._submitted.get(key, time.monotonic()))
            self.pods[key] = sight
            self.gone.discard(key)
        sight.info = info
        sight.reason, sight.message = status.status.reason or "", status.status.message or ""
        sight.devices = tuple(each for _, ids in info.devices for each in ids) or sight.devices
        if sight.running_at is None and info.phase in ("Running", "Succeeded"):
            sight.running_at = time.monotonic()

    def _on_node(self, key: str, old: NodeInfo | None, new: NodeInfo | None) -> None:
        self._changed.set()
        if new is None:
            self.nodes.pop(key, None)
        else:
            self.nodes[key] = new

    def _on_mignode(self, key: str, old: MigNode | None, new: MigNode | None) -> None:
        self._changed.set()
        if new is None:
            self.mignodes.pop(key, None)
            return
        before = self.mignodes.get(key)
        self.mignodes[key] = new
        report = new.status.last_repartition
        if report is not None and (before is None or before.status.last_repartition != report):
            self.repartitions.append(Repartitioned(key, report))


def pod_manifest(
    name: str,
    asks: Mapping[str, int],
    *,
    namespace: str = "default",
    run_seconds: float | None = None,
    annotations: Mapping[str, str] | None = None,
    spec: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """A pod that asks for extended resources. `run_seconds`: how long it runs; until it is deleted when left out."""
    notes = dict(annotations or {})
    if run_seconds is not None:
        notes[RUN_SECONDS] = f"{run_seconds:g}"
    limits = {resource: str(count) for resource, count in asks.items()}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "annotations": notes},
        "spec": {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 1,
            "containers": [
                {
                    "name": "main",
                    "image": "example.invalid/train:1",
                    "resources": {"limits": limits},
                    "env": workload_environment(),
                }
            ],
            **(spec or {}),
        },
    }


def workload_environment() -> list[dict[str, Any]]:
    """What the container of a real node needs to do what its pod's annotations say, by the downward API."""
    return [
        {"name": variable, "valueFrom": {"fieldRef": {"fieldPath": f"metadata.annotations['{annotation}']"}}}
        for variable, annotation in (
            ("CDMO_RUN_SECONDS", RUN_SECONDS),
            ("CDMO_EXIT_CODE", EXIT_CODE),
            ("CDMO_TERMINATE_SECONDS", TERMINATE_SECONDS),
        )
    ]


def _safely(holds: Callable[[], bool]) -> bool:
    try:
        return holds()
    except KeyError:
        return False
