"""`cdmo discover` on real cards: models, profile ids, names, placements and resource names, as they were recorded.

Run it where there is a GPU, MIG on or off, as any user who may open the device:

    python -m pytest -s tests/real_gpu
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cdmo.model.names import resource_of_profile

RECORDINGS = Path(__file__).parents[1] / "data" / "nvml"


def recorded_cards() -> dict[str, dict[str, Any]]:
    """Recorded answers by product name."""
    found = {}
    for path in sorted(RECORDINGS.glob("*.json")):
        for gpu in json.loads(path.read_text())["gpus"]:
            found[gpu["name"]] = gpu
    return found


def expected_profiles(recorded: dict[str, Any]) -> list[dict[str, Any]]:
    """What discovery must say of a recorded card's profiles."""
    profiles = []
    for each in recorded["profiles"]:
        if "error" in each:
            continue
        name = each["name"].removeprefix("MIG ")
        profiles.append(
            {
                "id": each["id"],
                "name": name,
                "resource": resource_of_profile(name),
                "computeSlices": each["sliceCount"],
                "placements": each["placements"],
                "maxInstances": each["instanceCount"],
                "memoryMiB": each["memorySizeMB"],
                "engines": {
                    "decoder": each["decoderCount"],
                    "encoder": each["encoderCount"],
                    "jpeg": each["jpegCount"],
                    "ofa": each["ofaCount"],
                },
            }
        )
    return sorted(profiles, key=lambda profile: profile["id"])


def test_discovery_through_the_real_driver_equals_the_recording() -> None:
    command = [sys.executable, "-m", "cdmo", "discover", "--root", "/", "--output", "json"]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    sys.stdout.write(done.stdout)
    assert answer["gpus"], "the driver shows no GPU"
    recorded = recorded_cards()
    for gpu in answer["gpus"]:
        if gpu["name"] not in recorded:
            pytest.fail(f"no recording of {gpu['name']}: add this answer to tests/data/nvml")
        wanted = expected_profiles(recorded[gpu["name"]])
        assert gpu["profiles"] == wanted
        assert gpu["memoryMiB"] == recorded[gpu["name"]]["memoryMiB"]
