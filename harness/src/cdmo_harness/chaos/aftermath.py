"""After the last fault: everything must come back by itself, and every slot of every GPU must serve pods again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from cdmo.model.names import MANAGED_LABEL, MIG_RESOURCE_PREFIX, PARTITIONING_LABEL
from cdmo_harness.chaos.judge import Violation
from cdmo_harness.chaos.load import Load
from cdmo_harness.chaos.stage import Stage, until
from cdmo_harness.chaos.supervisor import Role
from cdmo_harness.errors import ControlPlaneError
from cdmo_harness.local_api import LocalApi
from cdmo_harness.observer import pod_manifest

_PODS = "/api/v1/namespaces/default/pods"
_POLL_SECONDS = 0.3
_KEPT = {PARTITIONING_LABEL, MANAGED_LABEL}  # of CDMO's labels, the ones that a node at rest may carry
# The smallest slice of each card that is simulated, and how many of it a card holds.
_SMALLEST = {"H100": ("1g.10gb", 7), "A100": ("1g.10gb", 7), "A30": ("1g.6gb", 4)}
# Memory: a process may keep what Python's allocator has once taken, and twice as many pods need some more.
_GROWTH = 1.5
_GROWTH_BYTES = 48e6


async def pods_end(stage: Stage, load: Load, limit: float) -> list[Violation]:
    """No pod is forgotten: with all faults gone each of them runs, and ends."""
    if await until(lambda: not stage.open, limit=limit, pause=_POLL_SECONDS):
        return []
    api = stage.cluster.control_plane.api
    found = []
    for key in sorted(stage.open):
        pod = stage.view.pods.get(key)
        if key not in stage.open or (pod is not None and pod.phase in ("Succeeded", "Failed")):
            continue  # it ended while others were asked about
        said = "never seen" if pod is None else f"{pod.phase} {pod.reason} {pod.message}".strip()
        why = await asyncio.to_thread(_last_word, api, key)
        found.append(Violation("pod forgotten", f"{key}: {said}; {why}"))
    return found


async def nodes_rest(stage: Stage, limit: float) -> list[Violation]:
    """Every node is unfenced, untainted, Ready and has no journal."""
    troubles: dict[str, str] = {}

    async def at_rest() -> bool:
        for name in stage.nodes:
            troubles[name] = await asyncio.to_thread(_trouble, stage, name)
        return not any(troubles.values())

    if await until(at_rest, limit=limit, pause=_POLL_SECONDS):
        return []
    return [Violation("node does not come to rest", f"{name}: {text}") for name, text in troubles.items() if text]


async def every_slot_serves(stage: Stage, limit: float) -> tuple[int, list[Violation]]:
    """Fill every GPU with the smallest slices there are; returns how many pods ran, all at the same time."""
    wanted = {}
    for name in stage.nodes:
        for number, gpu in enumerate(stage.node(name).setup.gpus):
            profile, count = _SMALLEST[gpu.card.partition("-")[0]]
            for each in range(count):
                wanted[f"fill-{name}-{number}-{each}"] = pod_manifest(
                    f"fill-{name}-{number}-{each}",
                    {f"{MIG_RESOURCE_PREFIX}{profile}": 1},
                    spec={"nodeSelector": {"kubernetes.io/hostname": name}},
                )
    async with _submitted(stage, wanted):
        pods = stage.view.pods

        def not_running() -> list[str]:
            return [name for name in wanted if (pod := pods.get(f"default/{name}")) is None or pod.phase != "Running"]

        await until(lambda: not not_running(), limit=limit, pause=_POLL_SECONDS)
        missing = not_running()
        api = stage.cluster.control_plane.api
        why = [f"{name}: {await asyncio.to_thread(_last_word, api, f'default/{name}')}" for name in missing[:3]]
    if not missing:
        return len(wanted), []
    text = f"{len(missing)} of {len(wanted)} pods found no slice: " + "; ".join(why)
    return len(wanted) - len(missing), [Violation("free slot not usable", text)]


def memory(roles: dict[str, Role]) -> list[Violation]:
    """No process grows without bound."""
    return [
        Violation(
            "memory grows", f"{role.name}: {role.first_bytes / 1e6:.0f} MB, later {role.last_bytes / 1e6:.0f} MB"
        )
        for role in roles.values()
        if role.first_bytes and role.last_bytes > role.first_bytes * _GROWTH + _GROWTH_BYTES
    ]


def tracebacks(stage: Stage) -> list[Violation]:
    """An exception that nobody caught is a mistake, whatever it led to."""
    found = []
    for role in stage.supervisor.roles.values():
        if role.process is None:
            continue
        lines = role.process.log_path.read_text(errors="replace").splitlines()
        for number, line in enumerate(lines):
            if line.startswith("Traceback (most recent call last)"):
                last = next((each for each in lines[number + 1 :] if each and not each.startswith((" ", "|"))), "")
                found.append(Violation("exception that nobody caught", f"{role.name}: {last[:300]}"))
    return found


@asynccontextmanager
async def _submitted(stage: Stage, manifests: dict[str, dict[str, Any]]) -> AsyncIterator[None]:
    api = stage.cluster.control_plane.api
    try:
        for manifest in manifests.values():
            await stage.api(api.create, _PODS, manifest)
        yield
    finally:
        for name in manifests:
            await stage.delete(f"{_PODS}/{name}", grace_seconds=0)


def _trouble(stage: Stage, name: str) -> str:
    """What is still wrong with a node, asked of the API server and the disk; empty when nothing is."""
    api = stage.cluster.control_plane.api
    try:
        node = api.get(f"/api/v1/nodes/{name}")
        mignode = api.get(f"/apis/cdmo.clear.ml/v1alpha1/mignodes/{name}")
    except ControlPlaneError as error:
        return str(error)
    keys = [*node["metadata"].get("labels", {}), *(each["key"] for each in node["spec"].get("taints") or ())]
    left = sorted({each for each in keys if each.startswith("cdmo.clear.ml/")} - _KEPT)
    if left:
        return f"carries {', '.join(left)}"
    if stage.journal(name).exists():
        return "has a journal"
    for each in mignode["status"].get("conditions", ()):
        if each["type"] == "Ready" and each["status"] != "True":
            return f"{each['reason']}: {each['message']}"
        if each["type"] == "Repartitioning" and each["status"] == "True":
            return "is being repartitioned"
    return ""


def _last_word(api: LocalApi, key: str) -> str:
    """What CDMO, or the scheduler, said last about a pod."""
    namespace, name = key.split("/")
    try:
        events = api.get(f"/apis/events.k8s.io/v1/namespaces/{namespace}/events")["items"]
        pod = api.get(f"/api/v1/namespaces/{namespace}/pods/{name}")
    except ControlPlaneError as error:
        return str(error)
    mine = [each for each in events if each["regarding"].get("uid") == pod["metadata"]["uid"]]
    if not mine:
        return f"phase {pod['status'].get('phase')}, no Event"
    last = max(mine, key=lambda each: int(each["metadata"]["resourceVersion"]))
    return f"{last['reason']}: {last.get('note', '')}"
