"""The library, built once, and drivers on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from cdmo_harness.driver import GpuSpec, SimulatedDriver, build_library

from tests.sim.calls import session, spec

MakeDriver = Callable[..., SimulatedDriver]


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The simulated libnvidia-ml.so.1."""
    return build_library(tmp_path_factory.mktemp("simulated-nvml"))


@pytest.fixture
def make_driver(library: Path, tmp_path: Path) -> Iterator[MakeDriver]:
    """Make drivers, each with a state and a root of its own."""
    with ExitStack() as stack:
        made = 0

        def make(*gpus: GpuSpec) -> SimulatedDriver:
            nonlocal made
            folder = tmp_path / f"node-{made}"
            made += 1
            created = SimulatedDriver.create(library, folder / "state", folder / "root", gpus=gpus)
            return stack.enter_context(created)

        yield make


@pytest.fixture
def driver(make_driver: MakeDriver) -> SimulatedDriver:
    """One H100."""
    return make_driver(spec())


@pytest.fixture
def nvml(driver: SimulatedDriver) -> Iterator[SimulatedDriver]:
    """One H100 with an NVML session of this process on it."""
    with session(driver):
        yield driver
