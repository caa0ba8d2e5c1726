"""Reading through the real driver: what the simulated library is held to, and the product's own reading."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pynvml
import pytest

from cdmo.hardware.library import DriverSearch
from cdmo.hardware.nvml import NvmlGpus
from cdmo.hardware.port import GpuHealth
from cdmo.model.gpu import MigMode
from cdmo.runtime.hostpaths import HostPaths
from tests.nvml_reading import QUESTIONS, Question, answer


@pytest.fixture
def whole() -> Iterator[Any]:
    """The handle of a GPU whose MIG mode is off."""
    pynvml.nvmlInit()
    try:
        gpus = map(pynvml.nvmlDeviceGetHandleByIndex, range(pynvml.nvmlDeviceGetCount()))
        found = next((each for each in gpus if pynvml.nvmlDeviceGetMigMode(each)[0] == 0), None)
        if found is None:  # the answers are those without MIG mode, and no test may switch that of a real card
            pytest.skip("no GPU has its MIG mode off")
        yield found
    finally:
        pynvml.nvmlShutdown()


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda each: each.about)
def test_a_gpu_with_mig_off_answers_as_the_simulated_one(whole: object, question: Question) -> None:
    assert answer(question, whole) == (question.code, question.value)


def test_a_healthy_gpu_is_read_as_healthy() -> None:
    search = DriverSearch(HostPaths(Path("/")), "")
    gpus = NvmlGpus(lambda: search().library, time.sleep).read().gpus
    assert gpus, "the driver shows no GPU"
    for gpu in gpus:
        assert gpu.problem == ""
        assert gpu.health.energy is not None
        assert gpu.health.recovery_action in (0, None), "None: a driver before R570"
        if gpu.mig_mode is MigMode.DISABLED:
            assert replace(gpu.health, recovery_action=0) == GpuHealth(False, False, False, 0)
