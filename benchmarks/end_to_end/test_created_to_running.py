"""Created → Running on a newly cut slice: 50 pods arriving one by one on the demo's nodes."""

from __future__ import annotations

import json
import os
import sys
import tomllib
from pathlib import Path

import pytest
from cdmo_harness.binaries import CONTROL_PLANE, find_binaries
from cdmo_harness.build_progress import show_progress
from cdmo_harness.local_cluster import CREATE_SECONDS, DESTROY_SECONDS, LocalCluster
from rich.console import Console

from benchmarks.arrivals import figures, measure
from benchmarks.recording import machine, now

FOLDER = Path(__file__).parent
PODS = 50


@pytest.mark.timeout(900)
async def test_a_pod_runs_on_a_newly_cut_slice_within_the_bounds() -> None:
    with show_progress(Console(stderr=True)) as progress:
        binaries = find_binaries(CONTROL_PLANE, environment=os.environ, progress=progress)
    with LocalCluster(binaries) as cluster:
        measured = await measure(cluster, PODS)
    result = figures(measured) | {
        "driver": {"createSeconds": CREATE_SECONDS, "destroySeconds": DESTROY_SECONDS},
        "machine": machine(),
        "measuredAt": now(),
    }
    (FOLDER / "results.json").write_text(json.dumps(result, indent=2) + "\n")
    sys.stderr.write(json.dumps(result, indent=2) + "\n")
    bounds = tomllib.loads((FOLDER / "bounds.toml").read_text())
    assert result["createdToRunning"]["median"] < bounds["created_to_running_median"]
    assert result["createdToRunning"]["worst"] < bounds["created_to_running_worst"]
    assert result["fenced"]["median"] < bounds["fenced_median"]
    assert result["changesFailed"] == []
    for name, resident in measured.resident.items():
        kind = "controller" if name.startswith("controller") else "agent"
        assert resident < bounds[f"{kind}_resident_bytes"], name
