"""The simulated driver for tests of the NVML adapter."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from cdmo_harness.driver import SimulatedDriver

from cdmo.hardware.nvml import NvmlGpus
from tests.contract.hardware_hosts import H100, simulated_driver
from tests.simulated import simulated_library, this_process_uses

__all__ = ["simulated_library"]


@pytest.fixture
def driver(simulated_library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SimulatedDriver]:
    """Two H100, MIG off; this process' NVML sessions go there."""
    with simulated_driver(simulated_library, tmp_path, H100, H100) as created:
        this_process_uses(created, monkeypatch)
        yield created


@pytest.fixture
def pauses() -> list[float]:
    """How long the adapter slept between tries."""
    return []


@pytest.fixture
def gpus(driver: SimulatedDriver, pauses: list[float]) -> NvmlGpus:
    """The adapter on the simulated driver."""
    return NvmlGpus(lambda: driver.library, pauses.append)
