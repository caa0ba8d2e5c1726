"""`make chaos`, but half a minute of it: every check of a long run, fewer faults."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from cdmo_harness.binaries import Binaries
from cdmo_harness.run_folder import cleanup_leftovers

# About 70 s on an idle machine. A loaded one needs longer to come to rest, and has its limits for that.
pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

COMMAND = [sys.executable, "-m", "cdmo_harness.chaos", "--seed", "1", "--minutes", "0.5", "--output", "json"]
FEWEST_FAULTS = 15
SLOTS = 39  # the smallest slices of five GPUs with seven and of an A30 with four


@pytest.fixture
def folder() -> Iterator[Path]:
    """A temporary folder of this test's own, with a path that is short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix="chaos-") as name:
        yield Path(name)
        cleanup_leftovers(Path(name))


def test_half_a_minute_of_chaos_does_no_harm_and_leaves_nothing_behind(binaries: Binaries, folder: Path) -> None:
    assert binaries.paths, "found or built before the first test; the run finds them the same way"
    environment = {**os.environ, "TMPDIR": str(folder)}
    run = subprocess.run(COMMAND, env=environment, capture_output=True, text=True, timeout=590)
    answer = json.loads(run.stdout) if run.stdout else {}
    assert run.returncode == 0, answer.get("violations") or run.stderr
    assert answer["ok"] is True
    assert answer["violations"] == []

    assert sum(each["count"] for each in answer["faults"]) >= FEWEST_FAULTS
    assert answer["pods"]["Succeeded"] > 0
    assert answer["pods"]["Submitted"] == sum(answer["pods"].values()) - answer["pods"]["Submitted"]
    assert sum(answer["repartitions"].values()) > 0
    assert answer["instancesDestroyed"] > 0
    assert answer["filled"] == SLOTS

    assert "now: " in run.stderr, "who waits for it sees that it goes on"
    assert list(folder.iterdir()) == []
