"""The kernel module's /proc files below the host root."""

from __future__ import annotations

from pathlib import Path

import pynvml
import pytest
from cdmo_harness.driver import GpuSpec, SimulatedDriver

from tests.sim import calls
from tests.sim.conftest import MakeDriver


def access(root: Path, name: str) -> dict[str, int]:
    """The lines of an access file below capabilities/."""
    lines = (root / "proc/driver/nvidia/capabilities" / name).read_text().splitlines()
    return {key: int(value) for key, value in (line.split(": ") for line in lines)}


def minors(root: Path) -> dict[str, int]:
    """The table mig-minors."""
    lines = (root / "proc/driver/nvidia-caps/mig-minors").read_text().splitlines()
    return {name: int(minor) for name, minor in (line.split() for line in lines)}


def test_the_static_files_are_there_from_the_start(driver: SimulatedDriver) -> None:
    assert access(driver.root, "mig/config") == {"DeviceFileMinor": 1, "DeviceFileMode": 256, "DeviceFileModify": 1}
    assert access(driver.root, "mig/monitor") == {"DeviceFileMinor": 2, "DeviceFileMode": 292, "DeviceFileModify": 1}
    assert calls.tree(driver.root) == set()
    characters = (driver.root / "proc/devices").read_text().partition("\n\n")[0].splitlines()[1:]
    majors = {name: int(major) for major, name in (line.split() for line in characters)}
    assert majors["nvidia"] == 195
    assert majors["nvidia-caps"] > 0


def test_the_minors_follow_the_drivers_table(driver: SimulatedDriver) -> None:
    table = minors(driver.root)
    assert (table["config"], table["monitor"]) == (1, 2)
    assert (table["gpu0/gi0/access"], table["gpu0/gi0/ci0/access"]) == (3, 4)
    assert table["gpu3/gi7/ci2/access"] == 3 + 3 * 135 + 7 * 9 + 1 + 2
    assert len(table) == 2 + 32 * 15 * 9
    assert sorted(table.values()) == list(range(1, len(table) + 1))


def test_access_files_appear_at_create_and_vanish_at_destroy(nvml: SimulatedDriver) -> None:
    handle = calls.mig_gpu()
    instance = calls.create(handle, 9, 0, 4)
    assert calls.tree(nvml.root) == {"gpu0/mig/gi2"}
    compute = pynvml.nvmlGpuInstanceCreateComputeInstance(instance, 2)
    assert calls.tree(nvml.root) == {"gpu0/mig/gi2", "gpu0/mig/gi2/ci0"}
    pynvml.nvmlComputeInstanceDestroy(compute)
    assert calls.tree(nvml.root) == {"gpu0/mig/gi2"}
    pynvml.nvmlGpuInstanceDestroy(instance)
    assert calls.tree(nvml.root) == set()
    assert not (nvml.root / "proc/driver/nvidia/capabilities/gpu0/mig/gi2").exists()


def test_access_files_are_named_by_the_minor_and_agree_with_the_table(make_driver: MakeDriver) -> None:
    gpu = GpuSpec(calls.H100, calls.spec().pci_bus_id, calls.spec().uuid, minor=5)
    driver = make_driver(gpu)
    with calls.session(driver):
        calls.make(calls.mig_gpu(), 19, 0, 1)
    table = minors(driver.root)
    of_instance = access(driver.root, "gpu5/mig/gi7/access")
    of_compute = access(driver.root, "gpu5/mig/gi7/ci0/access")
    assert of_instance == {
        "DeviceFileMinor": table["gpu5/gi7/access"],
        "DeviceFileMode": 292,
        "DeviceFileModify": 1,
    }
    assert of_compute["DeviceFileMinor"] == table["gpu5/gi7/ci0/access"]


def test_the_major_number_may_be_another_after_the_module_is_loaded_again(driver: SimulatedDriver) -> None:
    driver.set_capability_major(511)
    assert "511 nvidia-caps\n" in (driver.root / "proc/devices").read_text()


def test_a_program_may_see_the_host_root_elsewhere(
    nvml: SimulatedDriver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle = calls.mig_gpu()
    monkeypatch.setenv("NVMLSIM_ROOT", str(tmp_path / "mounted"))
    calls.create(handle, 9, 0, 4)
    assert calls.tree(tmp_path / "mounted") == {"gpu0/mig/gi2"}
    assert calls.tree(nvml.root) == set()


def test_without_room_for_its_files_no_instance_is_made(nvml: SimulatedDriver) -> None:
    handle = calls.mig_gpu()
    (nvml.root / "proc/driver/nvidia/capabilities/gpu0").write_text("in the way")
    assert calls.code(calls.create, handle, 9, 0, 4) == 17  # NVML_ERROR_OPERATING_SYSTEM
    assert nvml.snapshot()[0].slices == ()
