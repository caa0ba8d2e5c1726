"""`make demo ARGS="--once --output json"`, as a program runs it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from cdmo_harness.binaries import Binaries
from cdmo_harness.processes import read_record
from cdmo_harness.run_folder import cleanup_leftovers

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(180)]

COMMAND = [sys.executable, "-m", "cdmo_harness.demo", "--once", "--output", "json"]
PAGE = {
    "slice-1": "nvidia.com/mig-1g.10gb",
    "slice-2": "nvidia.com/mig-2g.20gb",
    "slice-4": "nvidia.com/mig-4g.40gb",
    "slice-7": "nvidia.com/mig-7g.80gb",
}


@pytest.fixture
def folder() -> Iterator[Path]:
    """A temporary folder of this test's own, with a path that is short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix="demo-") as name:
        yield Path(name)
        cleanup_leftovers(Path(name))


@pytest.fixture
def environment(binaries: Binaries, folder: Path) -> dict[str, str]:
    """This process' environment, with the demo's files in the folder."""
    assert binaries.paths, "found or built before the first test; the demo finds them the same way"
    return {**os.environ, "TMPDIR": str(folder)}


def test_the_demo_runs_unattended_and_leaves_nothing_behind(environment: dict[str, str], folder: Path) -> None:
    run = subprocess.run([*COMMAND, "--keep"], env=environment, capture_output=True, text=True, timeout=170)
    assert run.returncode == 0, run.stderr
    answer = json.loads(run.stdout)
    assert answer["ok"] is True

    through_queues = [pod for pod in answer["pods"] if pod["queue"]]
    assert {pod["queue"]: pod["resource"] for pod in through_queues} == PAGE
    assert len(through_queues) == 7
    assert len(answer["pods"]) == 10
    for pod in answer["pods"]:
        assert pod["device"].startswith("MIG-"), pod
        assert pod["node"] in ("gpu-1", "gpu-2", "gpu-3"), pod
        assert 0 < pod["createdToRunningSeconds"] < 60, pod
    devices = [pod["device"] for pod in answer["pods"]]
    assert len(set(devices)) == 9, "one slice served two pods, the others one each"
    assert {each["node"] for each in answer["repartitions"]} == {"gpu-1", "gpu-2", "gpu-3"}
    assert all(each["fencedSeconds"] >= each["gpuSeconds"] > 0 for each in answer["repartitions"])

    assert list(folder.glob("cdmo-*")), "--keep keeps the folder"
    assert left_over(folder) == []


def test_an_interrupted_demo_answers_nothing_and_leaves_nothing_behind(
    environment: dict[str, str], folder: Path
) -> None:
    with subprocess.Popen(
        COMMAND,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell starts what runs in its background with SIGINT ignored, and that is inherited: CI does so.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as demo:
        assert demo.stderr is not None
        for line in demo.stderr:
            if "runs on" in line:  # agents, controller and a pod are at work
                demo.send_signal(signal.SIGINT)
                break
        output, _ = demo.communicate(timeout=60)
    assert (demo.returncode, output) == (130, "")
    assert left_over(folder) == []
    assert list(folder.glob("cdmo-*")) == []


def left_over(folder: Path) -> list[Path]:
    """The records of processes that still run."""
    records = ((path, read_record(path)) for path in folder.rglob("*.process"))
    return [path for path, process in records if process is not None and process.exists()]
