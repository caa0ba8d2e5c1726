"""The simulated cards answer as the real ones did (tests/data/nvml, driver 580.159.04, MIG off)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from ctypes import byref, c_uint
from pathlib import Path
from typing import Any

import pynvml
import pytest

from tests.sim import calls
from tests.sim.conftest import MakeDriver

RECORDED = Path(__file__).parents[1] / "data" / "nvml"


def ask_profile(handle: Any, number: int) -> dict[str, Any]:
    """One profile in the form it was recorded in."""
    try:
        info = pynvml.nvmlDeviceGetGpuInstanceProfileInfo(handle, number, version=2)
    except pynvml.NVMLError as error:
        return {"profile": number, "error": f"{type(error).__name__}({error.value})"}
    fields = {name: getattr(info, name) for name, _ in info._fields_}
    count = c_uint()
    pynvml.nvmlDeviceGetGpuInstancePossiblePlacements(handle, info.id, None, byref(count))
    places = (pynvml.c_nvmlGpuInstancePlacement_t * count.value)()
    pynvml.nvmlDeviceGetGpuInstancePossiblePlacements(handle, info.id, places, byref(count))
    return {
        **fields,
        "profile": number,
        "placements": [[each.start, each.size] for each in places],
        "remaining": pynvml.nvmlDeviceGetGpuInstanceRemainingCapacity(handle, info.id),
    }


def ask_gpu(handle: Any, profiles: int) -> dict[str, Any]:
    """One GPU in the form it was recorded in."""
    return {
        "name": pynvml.nvmlDeviceGetName(handle),
        "pciDeviceId": f"{pynvml.nvmlDeviceGetPciInfo(handle).pciDeviceId:#010x}",
        "memoryMiB": pynvml.nvmlDeviceGetMemoryInfo(handle).total >> 20,
        "migMode": pynvml.nvmlDeviceGetMigMode(handle),
        "profiles": [ask_profile(handle, number) for number in range(profiles)],
        "maxMigDeviceCount": pynvml.nvmlDeviceGetMaxMigDeviceCount(handle),
    }


@pytest.mark.parametrize(("recording", "card"), [("h100-80gb-hbm3", calls.H100), ("h200", "H200-SXM5-141GB")])
def test_a_card_answers_what_the_real_one_answered(make_driver: MakeDriver, recording: str, card: str) -> None:
    want = json.loads((RECORDED / f"{recording}.json").read_text())
    with calls.session(make_driver(calls.spec(card))):
        got = {
            "driver": pynvml.nvmlSystemGetDriverVersion(),
            "nvml": pynvml.nvmlSystemGetNVMLVersion(),
            "gpus": [ask_gpu(calls.gpu(), len(want["gpus"][0]["profiles"]))],
        }
    assert got == want


def test_a_program_that_knows_nothing_of_the_simulation_finds_the_library(make_driver: MakeDriver) -> None:
    driver = make_driver(calls.spec())
    program = "import pynvml; pynvml.nvmlInit(); h = pynvml.nvmlDeviceGetHandleByIndex(0)\n"
    program += "raise SystemExit(pynvml.nvmlDeviceGetName(h))"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | driver.environment(),
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert done.stderr.strip() == "NVIDIA H100 80GB HBM3"


@pytest.mark.parametrize("number", range(0x12))
def test_all_versions_of_the_profile_structure_say_the_same(nvml: object, number: int) -> None:
    handle = calls.gpu()
    first = calls.code(pynvml.nvmlDeviceGetGpuInstanceProfileInfo, handle, number, 1)
    assert first == calls.code(pynvml.nvmlDeviceGetGpuInstanceProfileInfo, handle, number, 2)
    if first != calls.SUCCESS:
        return
    old = pynvml.nvmlDeviceGetGpuInstanceProfileInfo(handle, number, version=1)
    new = pynvml.nvmlDeviceGetGpuInstanceProfileInfo(handle, number, version=2)
    by_id = pynvml.nvmlDeviceGetGpuInstanceProfileInfoById(handle, new.id)
    for name, _ in old._fields_:
        assert getattr(old, name) == getattr(new, name) == getattr(by_id, name)
    newest = pynvml.c_nvmlGpuInstanceProfileInfo_v2_t()
    newest.version = 0x03000098
    assert pynvml.nvmlLib.nvmlDeviceGetGpuInstanceProfileInfoV(handle, number, byref(newest)) == calls.SUCCESS
    third = bytes(newest)  # version 3: no isP2pSupported, so the numbers from sliceCount on lie 4 bytes earlier
    assert third[8:40] == bytes(new)[12:44]
    assert third[48:].split(b"\0")[0].decode() == new.name
