"""The C programs of a real node: what runs in containers, and the hook that puts containers on slices."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cdmo_harness.driver import GpuSpec, SimulatedDriver
from cdmo_harness.real_node.programs import Programs, build_programs
from cdmo_harness.real_node.sights import read_containers

pytestmark = pytest.mark.timeout(60)

GPU = GpuSpec("A30-24GB", "00000000:10:00.0", "GPU-11111111-1111-4111-8111-111111111111")
GONE = "MIG-00000000-0000-4000-8000-000000000000"
DEVICES = "/var/run/nvidia-container-devices"


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Programs:
    """Both programs, built once."""
    return build_programs(tmp_path_factory.mktemp("programs"))


class Bench:
    """A driver with one slice, and containers that ask for slices of it."""

    def __init__(self, hook: Path, driver: SimulatedDriver, folder: Path) -> None:
        self._hook = hook
        self._driver = driver
        self._folder = folder
        self.records = folder / "records"
        self.records.mkdir()

    def run(self, when: str, container: str, *uuids: str) -> subprocess.CompletedProcess[str]:
        """The hook, as runc calls it."""
        bundle = self._folder / container
        bundle.mkdir(exist_ok=True)
        mounts = [{"destination": f"{DEVICES}/{uuid}", "source": "/dev/null"} for uuid in uuids]
        annotations = {"io.kubernetes.cri.sandbox-id": f"sandbox-of-{container}"}
        compact = (",", ":")  # as Go writes it
        (bundle / "config.json").write_text(
            json.dumps({"mounts": mounts, "annotations": annotations}, separators=compact)
        )
        pid = 4000 + len(container)
        state = json.dumps({"id": container, "pid": pid, "bundle": str(bundle)}, separators=compact)
        library, driver = self._driver.library, self._driver.state
        command = [str(self._hook), when, str(library), str(driver), str(self.records)]
        return subprocess.run(command, input=state, capture_output=True, text=True, timeout=10, check=False)

    def processes(self) -> list[int]:
        """How many processes are on each slice."""
        return [each.processes for each in self._driver.snapshot()[0].slices]


@pytest.fixture
def bench(
    programs: Programs, simulated_library: Path, tmp_path: Path, cut_a30: tuple[SimulatedDriver, list[str]]
) -> Bench:
    """The hook beside a driver with two slices."""
    return Bench(programs.slice_hook, cut_a30[0], tmp_path)


@pytest.fixture
def cut_a30(simulated_library: Path, tmp_path: Path) -> Iterator[tuple[SimulatedDriver, list[str]]]:
    """A driver whose one card is cut in two, with the UUIDs of the halves."""
    root = tmp_path / "root"
    with SimulatedDriver.create(simulated_library, tmp_path / "driver.state", root, gpus=[GPU]) as driver:
        command = ["-m", "cdmo_harness.cutting", str(simulated_library), "0:5:0", "0:5:2"]
        environment = {**os.environ, **driver.environment()}
        enable = [*command[:3], "0"]
        subprocess.run([sys.executable, *enable], env=environment, check=True, timeout=30, capture_output=True)
        driver.reset_gpu(GPU.uuid)  # Ampere: the mode waits for a reset
        subprocess.run([sys.executable, *command], env=environment, check=True, timeout=30, capture_output=True)
        yield driver, [each.uuid for each in driver.snapshot()[0].slices]


def test_a_container_is_on_its_slices_from_its_creation_to_its_end(
    bench: Bench, cut_a30: tuple[SimulatedDriver, list[str]]
) -> None:
    _, (first, second) = cut_a30
    assert bench.run("create", "one", first, second).returncode == 0
    assert bench.run("create", "other", first).returncode == 0
    assert bench.processes() == [2, 1]
    assert bench.run("delete", "other").returncode == 0
    assert bench.processes() == [1, 1]
    assert bench.run("delete", "one").returncode == 0
    assert bench.processes() == [0, 0]
    assert [(each.id, each.slices, each.gone) for each in read_containers(bench.records / "log")] == [
        ("one", (first, second), False),
        ("other", (first,), False),
    ]


def test_a_container_with_a_slice_that_is_gone_is_refused_and_leaves_the_others_free(
    bench: Bench, cut_a30: tuple[SimulatedDriver, list[str]]
) -> None:
    _, (first, _) = cut_a30
    answer = bench.run("create", "haunted", first, GONE)
    assert answer.returncode == 1
    assert f"{GONE}: unknown device" in answer.stderr
    assert bench.processes() == [0, 0]
    (seen,) = read_containers(bench.records / "log")
    assert (seen.gone, seen.sandbox) == (True, "sandbox-of-haunted")
    assert bench.run("delete", "haunted").returncode == 0


def test_a_container_without_slices_is_let_through_and_noted(bench: Bench) -> None:
    assert bench.run("create", "plain").returncode == 0
    assert bench.run("delete", "plain").returncode == 0
    assert [each.slices for each in read_containers(bench.records / "log")] == [()]


def test_a_state_that_names_no_container_is_refused(programs: Programs, tmp_path: Path) -> None:
    command = [str(programs.slice_hook), "create", "library", "state", str(tmp_path)]
    answer = subprocess.run(command, input='{"id":"../x"}', capture_output=True, text=True, timeout=10, check=False)
    assert answer.returncode == 1
    assert "no container id" in answer.stderr


def test_a_workload_ends_by_itself_with_the_wanted_status(programs: Programs) -> None:
    environment = {"CDMO_RUN_SECONDS": "0.2", "CDMO_EXIT_CODE": "3"}
    began = time.monotonic()
    assert subprocess.run([programs.workload], env=environment, timeout=10, check=False).returncode == 3
    assert time.monotonic() - began >= 0.2


@pytest.mark.parametrize("environment", [{}, {"CDMO_RUN_SECONDS": "", "CDMO_TERMINATE_SECONDS": "0.1"}])
def test_a_workload_without_a_time_runs_until_it_is_told_to_end(
    environment: dict[str, str], programs: Programs
) -> None:
    with subprocess.Popen([programs.workload], env=environment) as process:
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.3)
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 128 + signal.SIGTERM


def test_what_is_built_already_is_not_built_again(programs: Programs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("nothing is to be run"))
    assert build_programs(programs.workload.parents[1]) == programs
