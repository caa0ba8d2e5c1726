"""The simulated driver inside the test process: built once, and reached through this process' environment."""

from __future__ import annotations

from pathlib import Path

import pytest
from cdmo_harness.driver import SimulatedDriver, build_library


@pytest.fixture(scope="session")
def simulated_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The simulated libnvidia-ml.so.1."""
    return build_library(tmp_path_factory.mktemp("simulated-nvml"))


def this_process_uses(driver: SimulatedDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    """NVML sessions of this process go to this driver, until the end of the test. The library reads both at init."""
    for name in ("NVMLSIM_STATE", "NVMLSIM_ROOT"):
        monkeypatch.setenv(name, driver.environment()[name])
