"""Pods that arrive one by one, each asking for a profile of which no slice exists: created to Running, in parts."""

from __future__ import annotations

import json
import random
import statistics
import time
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from cdmo_harness.local_cluster import CDMO, LocalCluster
from cdmo_harness.observer import ClusterView, PodSight, pod_manifest

from cdmo.agent.change import Phase
from cdmo.model.names import PARTITIONING_LABEL, PARTITIONING_VALUE

SEED = 20261124
LIMIT = 30.0  # seconds for one step; the bounds are far below

# What happens between the creation of a pod and its running, in this order. Some parts are gone through while the
# pod is already on its way: `unfence` ends after the pod was bound.
PARTS = ("plan", "fence", "quiet", "gpu", "reload", "capacity", "bind", "start")
# The phases a part spans: from entering the first to entering the second.
_SPANS = {
    "fence": (Phase.FENCE, Phase.QUIET),
    "quiet": (Phase.QUIET, Phase.APPLY),  # with guard and journal
    "gpu": (Phase.APPLY, Phase.RELOAD),
    "reload": (Phase.RELOAD, Phase.PUBLISH),
    "capacity": (Phase.PUBLISH, Phase.UNFENCE),
}


@dataclass
class Measured:
    """What one run measured; seconds and bytes."""

    seconds: list[float] = field(default_factory=list)
    fenced: list[float] = field(default_factory=list)
    parts: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in PARTS})
    resident: dict[str, int] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)  # changes that were not applied: their messages


async def measure(cluster: LocalCluster, pods: int, *, token: bool = True) -> Measured:
    """This many pods on a started cluster without CDMO, one after the other; they mount their ServiceAccount's token,
    as pods do that do not say otherwise, or not."""
    rng = random.Random(SEED)
    measured = Measured()
    async with ClusterView(cluster.control_plane.admin_kubeconfig, cluster.control_plane.api) as view:
        await view.watch_mignodes()
        for name in cluster.nodes:
            await view.label_node(name, {PARTITIONING_LABEL: PARTITIONING_VALUE})
        cluster.start_controller()
        for name in cluster.nodes:
            cluster.start_agent(name, command=(str(CDMO), "agent", "--log-level=debug"))
        await view.wait("the agents report", lambda: reported(view, len(cluster.nodes)), limit=LIMIT)
        while len(measured.seconds) < pods:
            await _one_pod(cluster, view, rng, measured, {"automountServiceAccountToken": token})
        for process in (*cluster.agents.values(), *cluster.controllers):
            measured.resident[process.name] = process.resident_bytes()
    for each in view.repartitions:
        measured.fenced.append(each.report.fenced_seconds)
        if each.report.result != "Applied":
            measured.failed.append(each.report.message)
    return measured


async def _one_pod(
    cluster: LocalCluster, view: ClusterView, rng: random.Random, measured: Measured, spec: dict[str, Any]
) -> None:
    """Submit, wait until it runs, delete, wait until its slice is idle."""
    resource = rng.choice(sorted(offered(view) - existing(view)))
    cuts = len(view.repartitions)
    # The clock of the agent's log, beside the one that times of sights are of.
    unix_less_monotonic = time.time() - time.monotonic()
    key = await view.submit(pod_manifest(f"bench-{len(measured.seconds)}", {resource: 1}, spec=spec))
    await view.wait(f"{key} is bound", lambda: bool(view.pods[key].info.node_name), limit=LIMIT)
    bound = time.monotonic()
    await view.wait(f"{key} runs", lambda: view.pods[key].phase == "Running", limit=LIMIT)
    await view.wait("its cut is reported", lambda: len(view.repartitions) > cuts, limit=LIMIT)
    pod = view.pods[key]
    assert pod.created_to_running is not None
    measured.seconds.append(pod.created_to_running)
    entered = {
        phase: at - unix_less_monotonic
        for phase, at in _last_change(cluster.agents[pod.info.node_name].log_path).items()
    }
    for name, seconds in _parts(pod, bound, entered).items():
        measured.parts[name].append(seconds)
    await view.delete(key)
    await view.wait(f"{key} is gone", lambda: key in view.gone, limit=LIMIT)
    await view.wait("its slice is idle", lambda: not in_use(view), limit=LIMIT)


def _parts(pod: PodSight, bound: float, entered: dict[str, float]) -> dict[str, float]:
    assert pod.running_at is not None
    parts = {name: entered[until] - entered[since] for name, (since, until) in _SPANS.items()}
    parts["plan"] = entered[Phase.FENCE] - pod.seen_at
    parts["bind"] = bound - entered[Phase.UNFENCE]  # the fence falls, and the scheduler hears of it
    parts["start"] = pod.running_at - bound
    return parts


def _last_change(log: Path) -> dict[str, float]:
    """When the phases of an agent's last change were entered; Unix time."""
    entered: dict[str, float] = {}
    for line in log.read_text().splitlines():
        try:
            entry = json.loads(line)
        except ValueError:  # not one of the agent's own lines
            continue
        if entry.get("event") == "change":
            if entry["phase"] == Phase.FENCE:
                entered = {}
            entered[entry["phase"]] = datetime.fromisoformat(entry["timestamp"]).timestamp()
    return entered


def reported(view: ClusterView, nodes: int) -> bool:
    """Whether every agent has reported its GPUs."""
    return len(view.mignodes) == nodes and all(each.status.models for each in view.mignodes.values())


def offered(view: ClusterView) -> set[str]:
    """Every resource some card can be cut into."""
    return {
        profile.resource
        for node in view.mignodes.values()
        for model in node.status.models
        for profile in model.profiles
    }


def existing(view: ClusterView) -> set[str]:
    """Resources of which a slice exists: a pod that asks for one would need no cut."""
    found = set()
    for node in view.mignodes.values():
        for gpu in node.status.gpus:
            names = {each.id: each.resource for each in node.status.models[gpu.model].profiles}
            found |= {names[each.profile_id] for each in gpu.devices}
    return found


def in_use(view: ClusterView) -> bool:
    """Whether any slice is in use."""
    return any(
        device.state != "Idle"
        for node in view.mignodes.values()
        for gpu in node.status.gpus
        for device in gpu.devices
    )


def spread(values: list[float]) -> dict[str, float]:
    """Median, mean, standard deviation, 95th percentile and worst, in seconds."""
    ordered = sorted(values)
    return {
        "median": round(statistics.median(ordered), 3),
        "mean": round(statistics.fmean(ordered), 3),
        "deviation": round(statistics.pstdev(ordered), 3),
        "p95": round(ordered[int(0.95 * (len(ordered) - 1))], 3),
        "worst": round(ordered[-1], 3),
    }


def figures(measured: Measured) -> dict[str, Any]:
    """The measured times, rounded to milliseconds."""
    return {
        "pods": len(measured.seconds),
        "createdToRunning": spread(measured.seconds),
        "fenced": spread(measured.fenced),
        "parts": {name: spread(values) for name, values in measured.parts.items()},
        "residentBytes": measured.resident,
        "changesFailed": measured.failed,
    }
