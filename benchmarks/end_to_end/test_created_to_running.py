"""Created → Running on a newly cut slice: 50 pods arriving one by one on the demo's nodes."""

from __future__ import annotations

import json
import os
import random
import statistics
import sys
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from cdmo_harness.binaries import CONTROL_PLANE, find_binaries
from cdmo_harness.build_progress import show_progress
from cdmo_harness.local_cluster import CREATE_SECONDS, DESTROY_SECONDS, LocalCluster
from cdmo_harness.observer import ClusterView, pod_manifest
from rich.console import Console

from benchmarks.recording import machine, now
from cdmo.model.names import PARTITIONING_LABEL, PARTITIONING_VALUE

FOLDER = Path(__file__).parent
PODS = 50
SEED = 20261124
LIMIT = 30.0  # seconds for one step; the bounds are far below


@dataclass
class Measured:
    """What one run measured."""

    seconds: list[float] = field(default_factory=list)
    fenced: list[float] = field(default_factory=list)
    parts: dict[str, list[float]] = field(default_factory=lambda: {"gpu": [], "reload": []})
    resident: dict[str, int] = field(default_factory=dict)


@pytest.mark.timeout(900)
async def test_a_pod_runs_on_a_newly_cut_slice_within_the_bounds() -> None:
    with show_progress(Console(stderr=True)) as progress:
        binaries = find_binaries(CONTROL_PLANE, environment=os.environ, progress=progress)
    with LocalCluster(binaries) as cluster:
        measured = await measure(cluster)
    result = summary(measured)
    (FOLDER / "results.json").write_text(json.dumps(result, indent=2) + "\n")
    sys.stderr.write(json.dumps(result, indent=2) + "\n")
    bounds = tomllib.loads((FOLDER / "bounds.toml").read_text())
    assert result["createdToRunning"]["median"] < bounds["created_to_running_median"]
    assert result["createdToRunning"]["worst"] < bounds["created_to_running_worst"]
    assert result["fenced"]["median"] < bounds["fenced_median"]
    for name, resident in measured.resident.items():
        kind = "controller" if name.startswith("controller") else "agent"
        assert resident < bounds[f"{kind}_resident_bytes"], name


async def measure(cluster: LocalCluster) -> Measured:
    """Pods one by one, each asking for a profile of which no slice is idle."""
    rng = random.Random(SEED)
    measured = Measured()
    async with ClusterView(cluster.control_plane.admin_kubeconfig, cluster.control_plane.api) as view:
        await view.watch_mignodes()
        for name in cluster.nodes:
            await view.label_node(name, {PARTITIONING_LABEL: PARTITIONING_VALUE})
        cluster.start_controller()
        cluster.start_agents()
        await view.wait("the agents report", lambda: reported(view, len(cluster.nodes)), limit=LIMIT)
        while len(measured.seconds) < PODS:
            await one_pod(view, rng, measured)
        for process in (*cluster.agents.values(), *cluster.controllers):
            measured.resident[process.name] = process.resident_bytes()
    for each in view.repartitions:
        assert each.report.result == "Applied", each
        measured.fenced.append(each.report.fenced_seconds)
        measured.parts["gpu"].append(each.report.gpu_seconds)
        measured.parts["reload"].append(each.report.reload_seconds)
    return measured


async def one_pod(view: ClusterView, rng: random.Random, measured: Measured) -> None:
    """Submit, wait until it runs, delete, wait until its slice is idle."""
    resource = rng.choice(sorted(offered(view) - idle(view)))
    cuts = len(view.repartitions)
    key = await view.submit(pod_manifest(f"bench-{len(measured.seconds)}", {resource: 1}))
    await view.wait(f"{key} runs", lambda: view.pods[key].phase == "Running", limit=LIMIT)
    seconds = view.pods[key].created_to_running
    assert seconds is not None
    await view.wait("its cut is reported", lambda: len(view.repartitions) > cuts, limit=LIMIT)
    measured.seconds.append(seconds)
    await view.delete(key)
    await view.wait(f"{key} is gone", lambda: key in view.gone, limit=LIMIT)
    await view.wait("its slice is idle", lambda: not in_use(view), limit=LIMIT)


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


def idle(view: ClusterView) -> set[str]:
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


def summary(measured: Measured) -> dict[str, Any]:
    """The figures, rounded to milliseconds, with where they come from."""
    return {
        "pods": len(measured.seconds),
        "createdToRunning": spread(measured.seconds),
        "fenced": spread(measured.fenced),
        "gpu": spread(measured.parts["gpu"]),
        "reload": spread(measured.parts["reload"]),
        "residentBytes": measured.resident,
        "driver": {"createSeconds": CREATE_SECONDS, "destroySeconds": DESTROY_SECONDS},
        "machine": machine(),
        "measuredAt": now(),
    }


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
