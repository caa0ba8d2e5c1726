"""The Node object of a simulated node: registration, Lease and the status tick."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

import structlog

from . import node_status
from .api import STRATEGIC_MERGE, Api, ApiRefused
from .device_manager import DeviceManager
from .quantity import milli, whole

_log = structlog.get_logger(__name__)

LEASE_SECONDS = 40
_LEASE_RENEW_SECONDS = 10.0
_REPORT_SECONDS = 300.0  # an unchanged status is written again after this long
_JITTER = 0.04  # the period is stretched by up to this share, never shortened (wait.JitterUntil)
_REGISTER_RETRY_SECONDS = 0.3


@dataclass(frozen=True, slots=True)
class NodeSettings:
    """What the node is called and has. `resources` in API spelling, e.g. {"cpu": "64", "memory": "512Gi"}."""

    name: str
    labels: Mapping[str, str]
    resources: Mapping[str, str]
    address: str
    kubelet_version: str
    status_period: float  # seconds


@dataclass(slots=True)
class NodeAgent:
    """Keeps the Node object. `fresh`: no checkpoint was found, so extended resources start at zero."""

    settings: NodeSettings
    api: Api
    manager: DeviceManager
    root: Path
    now: Callable[[], datetime]
    monotonic: Callable[[], float]
    rng: Random
    fresh: bool
    seen: Mapping[str, Any] = field(default_factory=dict)  # newest copy of the Node, as the kubelet's lister has it
    ready_since: str = ""
    reported_at: float = float("-inf")

    def allocatable(self) -> dict[str, int]:
        """node.status.allocatable as last seen; cpu in thousandths."""
        amounts: Mapping[str, str] = (self.seen.get("status") or {}).get("allocatable") or {}
        return {k: milli(v) if k == "cpu" else whole(v) for k, v in amounts.items()}

    async def register(self) -> None:
        """Create the Node, or take over the one that is there. Repeats until the API server answers."""
        self.ready_since = self._time()
        while True:
            try:
                self.seen = await self._create_or_adopt()
                return
            except ApiRefused as error:
                _log.info("node not registered yet", error=str(error))
                await asyncio.sleep(_REGISTER_RETRY_SECONDS)

    async def keep_status(self) -> None:
        """One tick at once, then one every period after the end of the last."""
        while True:
            await self.tick()
            stretch = 1.0 + self.rng.random() * _JITTER
            await asyncio.sleep(self.settings.status_period * stretch)

    async def tick(self) -> None:
        """Write what differs from the last copy seen; nothing when nothing does and the last word is recent."""
        old = self.seen.get("status") or {}
        new = self._status(old)
        changes = node_status.patch(_without_heartbeats(old), _without_heartbeats(new))
        due = self.monotonic() - self.reported_at > _REPORT_SECONDS
        if not changes and not due:
            return
        changes["conditions"] = new["conditions"]
        path = f"/api/v1/nodes/{self.settings.name}/status"
        try:
            self.seen = await self.api.call("PATCH", path, {"status": changes}, content_type=STRATEGIC_MERGE)
        except ApiRefused as error:
            _log.warning("status not written", error=str(error))
            return
        self.reported_at = self.monotonic()
        _log.debug("status written", changed=sorted(changes))

    async def follow(self) -> None:
        """Keep `seen` up to date."""
        async for event in self.api.follow("/api/v1/nodes", f"metadata.name={self.settings.name}"):
            objects = event.items if event.kind == "LISTED" else (event.item,)
            for item in objects:
                if event.kind != "DELETED" and self._newer(item):
                    self.seen = item

    async def keep_lease(self) -> None:
        """Create the Lease and renew it every ten seconds."""
        base = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
        lease: Any = None
        while True:
            pause = _LEASE_RENEW_SECONDS
            try:
                if lease is None:
                    lease = await self._create_lease(base)
                else:
                    lease["spec"]["renewTime"] = self._time(micro=True)
                    lease = await self.api.call("PUT", f"{base}/{self.settings.name}", lease)
            except ApiRefused as error:
                # The namespace appears a moment after the API server; a conflict means: read it again.
                _log.info("lease not renewed", error=str(error))
                lease, pause = None, 0.5
            await asyncio.sleep(pause)

    # ---- parts ---------------------------------------------------------------------------------------------

    async def _create_or_adopt(self) -> Mapping[str, Any]:
        settings = self.settings
        labels = {
            "kubernetes.io/hostname": settings.name,
            "kubernetes.io/os": "linux",
            "kubernetes.io/arch": "amd64",
            **settings.labels,
        }
        node: dict[str, Any] = {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": settings.name, "labels": labels},
            "spec": {},
            "status": self._status({}),
        }
        try:
            created: Mapping[str, Any] = await self.api.call("POST", "/api/v1/nodes", node)
            return created
        except ApiRefused as error:
            if error.status != 409:
                raise
        path = f"/api/v1/nodes/{settings.name}"
        patch = {"metadata": {"labels": labels}}
        found: Mapping[str, Any] = await self.api.call("PATCH", path, patch, content_type=STRATEGIC_MERGE)
        if self.fresh:
            status = found.get("status") or {}
            zeroed = {k: node_status.zeroed_extended(status.get(k) or {}) for k in ("capacity", "allocatable")}
            body = {"status": zeroed}
            found = await self.api.call("PATCH", f"{path}/status", body, content_type=STRATEGIC_MERGE)
        return found

    async def _create_lease(self, base: str) -> Any:
        name = self.settings.name
        try:
            return await self.api.get(f"{base}/{name}")
        except ApiRefused as error:
            if error.status != 404:
                raise
        owner = {"apiVersion": "v1", "kind": "Node", "name": name, "uid": self.seen["metadata"]["uid"]}
        lease = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": name, "ownerReferences": [owner]},
            "spec": {
                "holderIdentity": name,
                "leaseDurationSeconds": LEASE_SECONDS,
                "renewTime": self._time(micro=True),
            },
        }
        return await self.api.call("POST", base, lease)

    def _status(self, old: Mapping[str, Any]) -> dict[str, Any]:
        capacity, allocatable = node_status.resources_after_tick(
            old.get("capacity") or {},
            old.get("allocatable") or {},
            self.settings.resources,
            self.manager.capacity(),
        )
        settings = self.settings
        info = {
            "machineID": settings.name,
            "systemUUID": settings.name,
            "bootID": self._boot_id(),
            "kernelVersion": "simulated",
            "osImage": "cdmo-harness",
            "containerRuntimeVersion": "cdmo-harness://1",
            "kubeletVersion": settings.kubelet_version,
            "kubeProxyVersion": "",
            "operatingSystem": "linux",
            "architecture": "amd64",
        }
        return {
            **old,
            "capacity": capacity,
            "allocatable": allocatable,
            "conditions": node_status.conditions(self._time(), self.ready_since),
            "addresses": [
                {"type": "InternalIP", "address": settings.address},
                {"type": "Hostname", "address": settings.name},
            ],
            "nodeInfo": {**(old.get("nodeInfo") or {}), **info},
        }

    def _boot_id(self) -> str:
        try:
            return (self.root / "proc/sys/kernel/random/boot_id").read_text().strip()
        except OSError:
            return "unknown"

    def _newer(self, item: Mapping[str, Any]) -> bool:
        """Whether an event is not older than the copy in hand (the answer of our own patch may be newer)."""
        if not self.seen or item["metadata"]["uid"] != self.seen["metadata"]["uid"]:
            return True
        return int(item["metadata"]["resourceVersion"]) >= int(self.seen["metadata"]["resourceVersion"])

    def _time(self, *, micro: bool = False) -> str:
        return self.now().astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ" if micro else "%Y-%m-%dT%H:%M:%SZ")


def _without_heartbeats(status: Mapping[str, Any]) -> dict[str, Any]:
    """The status without the times that change at every tick and count as no change."""
    conditions = [
        {key: value for key, value in condition.items() if key not in ("lastHeartbeatTime", "lastTransitionTime")}
        for condition in status.get("conditions") or ()
    ]
    return {**status, "conditions": sorted(conditions, key=lambda condition: str(condition["type"]))}
