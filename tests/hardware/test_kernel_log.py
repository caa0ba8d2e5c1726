"""XIDs are read from the kernel's log, and nothing else that looks like one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from cdmo_harness.driver import SimulatedDriver
from hypothesis import given
from hypothesis import strategies as st

from cdmo.hardware.kernel_log import KernelLog, XidEvent
from cdmo.hardware.nvml import NvmlGpus
from cdmo.model.gpu import Placement
from tests.hardware.test_nvml import BUS

XID = "NVRM: Xid (PCI:0000:10:00 GPU-I:03 GPU-CI:00): 94, pid='<unknown>', name=<unknown>, contained"


def record(text: str, sequence: int = 7, priority: int = 4) -> str:
    return f"{priority},{sequence},140883,-;{text}\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A kernel's log with nothing in it."""
    found = tmp_path / "kmsg"
    found.touch()
    return found


def events_of(path: Path, text: str) -> tuple[XidEvent, ...]:
    path.write_text(text)
    log = KernelLog(path)
    try:
        return log.read()
    finally:
        log.close()


@pytest.mark.parametrize(
    ("text", "want"),
    [
        (XID, ("00000000:10:00", 94, 3)),
        ("NVRM: Xid (PCI:0000:a1:1f GPU-I:11): 94, Ch 1", ("00000000:A1:1F", 94, 11)),
        ("NVRM: Xid (PCI:000f:10:00): 79, GPU has fallen off the bus.", ("0000000F:10:00", 79, None)),
        ("NVRM: Xid (0000:03:00): 14, Channel 1", ("00000000:03:00", 14, None)),
        ("NVRM: Xid (PCI:10000:03:00.0): 14, x", ("00010000:03:00", 14, None)),
    ],
)
def test_an_xid_is_told_with_its_gpu_and_instance(path: Path, text: str, want: tuple[str, int, int | None]) -> None:
    (event,) = events_of(path, record(text))
    assert (event.gpu, event.xid, event.gpu_instance) == want
    assert event.sequence == 7


@pytest.mark.parametrize(
    "text",
    [
        record("usb 1-1: new device"),
        record("NVRM: GPU at PCI:0000:10:00: GPU-51a7"),
        record(f"he said: {XID}"),
        record(XID, priority=12),  # facility 1: written by a program
        f" SUBSYSTEM=pci {XID}\n",
        XID + "\n",
        "4,x,1,-;" + XID + "\n",
        record("NVRM: Xid (PCI:0000:10:00): many, x"),
        record("NVRM: Xid (PCI:0000:10:00): 123456, x"),
    ],
)
def test_what_is_not_the_drivers_own_line_is_no_xid(path: Path, text: str) -> None:
    assert events_of(path, text) == ()


@given(st.binary(max_size=400))
def test_no_bytes_in_the_log_do_any_harm(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "noise"
    path.write_bytes(content + b"\n" + record(XID).encode())
    log = KernelLog(path)
    assert [each.xid for each in log.read()][-1:] == [94]
    log.close()


def test_each_xid_is_told_once_and_a_line_only_when_it_is_whole(path: Path) -> None:
    log = KernelLog(path)
    assert log.read() == ()
    line = record(XID, 1) + record("other", 2)
    with path.open("a") as file:
        file.write(line[:30])
        file.flush()
        assert log.read() == ()
        file.write(line[30:])
    assert [each.sequence for each in log.read()] == [1]
    assert log.read() == ()
    assert log.newest == 2
    log.close()


def test_the_log_of_a_new_boot_is_read_from_its_beginning(path: Path) -> None:
    log = KernelLog(path)
    path.write_text(record(XID, 90))
    assert [each.sequence for each in log.read()] == [90]
    path.unlink()
    path.write_text(record(XID, 0))
    assert ([each.sequence for each in log.read()], log.newest) == ([0], 0)
    log.close()


def test_a_log_that_is_not_there_or_would_block_has_no_xids_and_may_come(tmp_path: Path) -> None:
    path = tmp_path / "kmsg"
    log = KernelLog(path)
    assert log.read() == ()
    os.mkfifo(path)
    assert log.read() == ()
    path.unlink()
    path.write_text(record(XID))
    assert len(log.read()) == 1
    log.close()


def test_the_simulated_driver_logs_as_it_is_read(gpus: NvmlGpus, driver: SimulatedDriver) -> None:
    gpus.set_mig_mode(BUS, True)
    made = gpus.create(BUS, Placement(14, 2))
    driver.inject_xid(made.device_uuid, 94)
    driver.inject_xid(driver.snapshot()[1].uuid, 79)
    log = KernelLog(driver.root / "dev/kmsg")
    first, second = log.read()
    assert (first.gpu, first.xid, first.gpu_instance) == (BUS[:-2], 94, made.id)
    assert (second.gpu, second.xid, second.gpu_instance) == ("00000000:20:00", 79, None)
    log.close()
