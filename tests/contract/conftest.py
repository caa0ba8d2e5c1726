"""The hosts the hardware contract runs on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path

import pytest
from cdmo_harness.driver import SimulatedDriver

from tests.contract.hardware_hosts import FakeHost, Host, MakeHost, SimulatedHost, simulated_driver
from tests.simulated import simulated_library, this_process_uses

__all__ = ["simulated_library"]


@pytest.fixture
def make_simulated(simulated_library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MakeHost]:
    """Hosts on the simulated driver. NVML is one per process, so only the last one made can be asked."""
    numbers = count()
    with ExitStack() as stack:

        def make(*cards: str, mig: bool = True) -> Host:
            driver: SimulatedDriver = stack.enter_context(
                simulated_driver(simulated_library, tmp_path / str(next(numbers)), *cards)
            )
            this_process_uses(driver, monkeypatch)
            return SimulatedHost(driver, *cards, mig=mig)

        yield make


@pytest.fixture(params=["fake", "simulated"])
def make_host(request: pytest.FixtureRequest, make_simulated: MakeHost) -> MakeHost:
    """Makes hosts of one kind; every test runs once for each kind."""
    if request.param == "simulated":
        return make_simulated

    def make(*cards: str, mig: bool = True) -> Host:
        return FakeHost(*cards, mig=mig)

    return make


@pytest.fixture
def make_both(make_simulated: MakeHost) -> MakeHost:
    """Makes a fake host first, then a simulated one."""
    numbers = count()

    def make(*cards: str, mig: bool = True) -> Host:
        return FakeHost(*cards, mig=mig) if next(numbers) == 0 else make_simulated(*cards, mig=mig)

    return make
