"""What `cdmo discover` shows is what real cards answered (tests/data/nvml, read with MIG off)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cdmo_harness.driver import SimulatedDriver

from cdmo.hardware.discovery import DISCOVERY_COLUMNS, discovery_as_json, discovery_tables
from cdmo.hardware.nvml import NvmlGpus
from tests.contract.hardware_hosts import H100, simulated_driver
from tests.simulated import this_process_uses

RECORDED = Path(__file__).parents[1] / "data" / "nvml"


def as_discovered(profile: dict[str, Any]) -> dict[str, Any]:
    """A recorded profile in the form of a discovery."""
    name = profile["name"].removeprefix("MIG ")
    return {
        "id": profile["id"],
        "name": name,
        "resource": "nvidia.com/mig-" + name.replace("+", "."),
        "computeSlices": profile["sliceCount"],
        "placements": profile["placements"],
        "maxInstances": profile["instanceCount"],
        "memoryMiB": profile["memorySizeMB"],
        "engines": {
            "decoder": profile["decoderCount"],
            "encoder": profile["encoderCount"],
            "jpeg": profile["jpegCount"],
            "ofa": profile["ofaCount"],
        },
    }


@pytest.mark.parametrize(("recording", "card"), [("h100-80gb-hbm3", H100), ("h200", "H200-SXM5-141GB")])
def test_a_discovery_tells_what_the_real_card_answered(
    simulated_library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recording: str, card: str
) -> None:
    want = json.loads((RECORDED / f"{recording}.json").read_text())
    profiles = [each for each in want["gpus"][0]["profiles"] if "error" not in each]
    with simulated_driver(simulated_library, tmp_path, card) as driver:
        this_process_uses(driver, monkeypatch)
        found = discovery_as_json(NvmlGpus(lambda: driver.library, lambda _: None).read())
    gpu = found["gpus"][0]
    assert found["driver"] == want["driver"]
    assert (gpu["name"], gpu["memoryMiB"]) == (want["gpus"][0]["name"], want["gpus"][0]["memoryMiB"])
    assert (gpu["migMode"], gpu["memorySlots"], gpu["problem"]) == ("Disabled", 8, "")
    assert gpu["profiles"] == sorted(map(as_discovered, profiles), key=lambda each: each["id"])
    assert json.loads(json.dumps(found)) == found


def test_each_model_has_one_table(gpus: NvmlGpus, driver: SimulatedDriver) -> None:
    ((title, rows),) = discovery_tables(gpus.read())
    assert title == "2 x NVIDIA H100 80GB HBM3, driver 580.159.04, MIG Disabled"
    assert len(rows) == 7
    assert dict(zip(DISCOVERY_COLUMNS, rows[2], strict=True)) == {
        "ID": "9",
        "PROFILE": "3g.40gb",
        "RESOURCE": "nvidia.com/mig-3g.40gb",
        "STARTS": "0,4",
        "SLOTS": "4",
        "MAX": "2",
        "GiB": "39.50",
    }
