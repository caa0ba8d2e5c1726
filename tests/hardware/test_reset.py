"""Resetting a GPU by the driver's own nvidia-smi, which real programs stand for here."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from cdmo_harness.driver import SimulatedDriver

from cdmo.errors import DriverFault, DriverUnavailable, InUse
from cdmo.hardware.library import Driver
from cdmo.hardware.nvml import NvmlGpus
from cdmo.hardware.reset import GpuReset, open_by
from cdmo.model.gpu import Placement
from tests.hardware.test_nvml import BUS
from tests.kubelet.plugins import NodeFolder, Program

LIMIT = 10.0  # seconds
SHORT = 0.2

# Called as `holder NAME FILE…`: has the files open until it is killed, under this name.
_HOLDER = """
import os, signal, sys
with open("/proc/self/comm", "wb") as comm:
    comm.write(os.fsencode(sys.argv[1]))
files = [open(each, "rb") for each in sys.argv[2:]]
print("started", flush=True)
signal.pause()
"""

# What nvidia-smi does, by the library that was loaded before all others.
_RESETS = """
import ctypes, os
library, handle = ctypes.CDLL(None), ctypes.c_void_p()
assert library.nvmlSimOpen(os.environb[b"NVMLSIM_STATE"], ctypes.byref(handle)) == 0
raise SystemExit(library.nvmlSimResetGpu(handle, {uuid!r}))
"""


class Host:
    """A driver's root with a program in it, and a proc that shows the processes of a test."""

    def __init__(self, root: Path, library: Path) -> None:
        self.root = root / "driver"
        self.library = library
        self.searches = 0
        self.record = root / "record"
        self._node = NodeFolder(root)
        self.proc = self._node.proc

    def install(self, script: str, folder: str = "usr/bin", mode: int = 0o755) -> Path:
        """Put a shell script in nvidia-smi's place."""
        path = self.root / folder / "nvidia-smi"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(mode)
        return path

    def reset(
        self, bus: str = BUS, minor: int = 0, *, limit: float = LIMIT, environment: Mapping[str, str] | None = None
    ) -> None:
        """Reset a GPU of it."""
        GpuReset(self._find, self.proc, os.environ if environment is None else environment, limit)(bus, minor)

    def hold(self, *devices: str, name: str = "train", root: str = "") -> Program:
        """A process that has these below dev open; `root` is that of its container."""
        paths = [self.proc.parent / root.lstrip("/") / "dev" / each for each in devices]
        for each in paths:
            each.parent.mkdir(parents=True, exist_ok=True)
            each.touch()
        program = self._node.run([sys.executable, "-S", "-c", _HOLDER, name, *map(str, paths)])
        program.wait_for("started")
        return program

    def holders(self, minor: int = 0) -> list[str]:
        """Who has a GPU open."""
        return open_by(self.proc, minor)

    def close(self) -> None:
        """End all processes."""
        self._node.close()

    def _find(self) -> Driver:
        self.searches += 1
        return Driver(self.library, (), self.root)


@pytest.fixture
def host(tmp_path: Path, simulated_library: Path) -> Iterator[Host]:
    made = Host(tmp_path, simulated_library)
    yield made
    made.close()


def children() -> set[int]:
    """The processes that this one has started and not collected."""
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:  # it ended
            continue
        if int(fields[1]) == os.getpid():
            found.add(int(stat.parent.name))
    return found


# --- the program --------------------------------------------------------------------------------------------


def test_the_gpu_is_reset_by_the_drivers_program_with_the_drivers_library(
    host: Host, driver: SimulatedDriver, gpus: NvmlGpus, tmp_path: Path
) -> None:
    gpus.set_mig_mode(BUS, True)
    gpus.create(BUS, Placement(19, 0))
    script = tmp_path / "resets.py"
    script.write_text(_RESETS.format(uuid=driver.snapshot()[0].uuid.encode()))
    host.install(f"exec '{sys.executable}' -S '{script}'")
    host.reset()
    assert driver.snapshot()[0].slices == ()


def test_it_is_told_which_gpu_and_gets_the_environment(host: Host) -> None:
    host.install(f'echo "$*|$LD_PRELOAD|$MARK" > "{host.record}"')
    host.reset("00000000:20:00.0", environment={"MARK": "here", "LD_PRELOAD": "/of/the/agent.so"})
    assert host.record.read_text() == f"--gpu-reset -i 00000000:20:00.0|{host.library}|here\n"


@pytest.mark.parametrize("folder", ["usr/sbin", "bin", "opt/bin", "usr/local/nvidia/bin"])
def test_it_is_found_wherever_a_driver_has_it(folder: str, host: Host) -> None:
    host.install(f'echo done > "{host.record}"', folder)
    host.reset()
    assert host.record.exists()


def test_a_link_of_the_drivers_root_means_a_place_in_that_root(host: Host) -> None:
    host.install(f'echo done > "{host.record}"', "opt/real")
    (host.root / "usr/bin").mkdir(parents=True)
    (host.root / "usr/bin/nvidia-smi").symlink_to("/opt/real/nvidia-smi")
    host.reset()
    assert host.record.exists()


def test_what_it_says_when_it_fails_is_told_in_one_line(host: Host) -> None:
    host.install('echo "GPU Reset couldn\'t run because GPU"; echo "	is in use." >&2; exit 255')
    with pytest.raises(DriverFault) as told:
        host.reset()
    said = "GPU Reset couldn't run because GPU is in use."
    assert str(told.value) == f"resetting GPU {BUS}: nvidia-smi says: {said}"
    assert "reboot the node" in told.value.hint


def test_what_it_says_is_bounded_and_cannot_move_a_cursor(host: Host) -> None:
    host.install(r"printf '\033[2J\377'; head -c 100000 /dev/zero | tr '\0' x; exit 3")
    with pytest.raises(DriverFault) as told:
        host.reset()
    assert len(str(told.value)) < 400
    assert str(told.value).isprintable()


def test_one_that_fails_without_a_word_is_told_of_as_well(host: Host) -> None:
    host.install("exit 1")
    with pytest.raises(DriverFault, match=r"nvidia-smi says: nothing$"):
        host.reset()


def test_what_it_says_when_it_succeeds_is_nobodys_business(host: Host) -> None:
    host.install('echo "Warning: persistence mode is disabled"; exit 0')
    host.reset()


def test_one_that_hangs_is_ended(host: Host) -> None:
    host.install("exec sleep 60")
    before = children()
    with pytest.raises(DriverFault, match=r"nvidia-smi has not ended after 0\.2 s$") as told:
        host.reset(limit=SHORT)
    assert "reboot the node" in told.value.hint
    assert children() <= before


def test_where_there_is_none_the_drivers_root_is_named(host: Host) -> None:
    with pytest.raises(DriverUnavailable, match=f"there is no nvidia-smi under {host.root}") as told:
        host.reset()
    assert told.value.hint


def test_a_folder_or_a_file_that_nobody_may_run_is_none_and_the_next_place_is_looked_at(host: Host) -> None:
    (host.root / "usr/bin/nvidia-smi").mkdir(parents=True)
    host.install("exit 1", "usr/sbin", mode=0o644)
    (host.root / "bin").mkdir()
    (host.root / "bin/nvidia-smi").symlink_to("nvidia-smi")
    with pytest.raises(DriverUnavailable):
        host.reset()
    host.install("exit 0", "sbin")
    host.reset()


def test_a_program_that_the_kernel_does_not_take_is_told_of(host: Host) -> None:
    host.install("").write_bytes(b"\x7fELF of another machine")
    with pytest.raises(DriverFault, match="nvidia-smi cannot be run: Exec format error"):
        host.reset()


# --- who has the GPU open -----------------------------------------------------------------------------------


def test_a_gpu_that_a_process_has_open_is_left_alone_and_the_process_is_named(host: Host) -> None:
    host.install("exit 0")
    holder = host.hold("nvidia0")
    with pytest.raises(InUse) as told:
        host.reset()
    assert str(told.value) == f"resetting GPU {BUS}: it is open in train ({holder.pid})"
    assert "--reset" in told.value.hint
    assert host.searches == 0, "no program was looked for"
    holder.end()
    host.reset()


def test_of_many_processes_five_are_named(host: Host) -> None:
    for _ in range(7):
        host.hold("nvidia0")
    with pytest.raises(InUse, match=r"open in train \(\d+\)(, train \(\d+\)){4} and 2 more$"):
        host.reset()


def test_five_are_all_of_five(host: Host) -> None:
    for _ in range(5):
        host.hold("nvidia0")
    with pytest.raises(InUse, match=r"open in train \(\d+\)(, train \(\d+\)){4}$"):
        host.reset()


@pytest.mark.parametrize("root", ["/run/nvidia/driver", "/dev/shm/driver"])
def test_a_process_in_a_driver_container_is_seen_by_the_devices_own_path(root: str, host: Host) -> None:
    holder = host.hold("nvidia0", root=root)
    assert host.holders() == [f"train ({holder.pid})"]


def test_nvidias_persistence_daemon_lets_go_by_itself(host: Host) -> None:
    host.hold("nvidia0", name="nvidia-persistenced")
    assert host.holders() == []
    host.hold("nvidia0", name="nvidia-persist")
    assert len(host.holders()) == 1


def test_another_gpu_and_the_drivers_common_devices_do_not_count(host: Host) -> None:
    holder = host.hold("nvidia1", "nvidia10", "nvidiactl", "nvidia-uvm", "nvidia0.txt")
    assert host.holders() == []
    assert host.holders(1) == [f"train ({holder.pid})"]


def test_this_process_does_not_stand_in_its_own_way(host: Host) -> None:
    device = host.proc.parent / "dev" / "nvidia0"
    device.parent.mkdir()
    device.touch()
    (host.proc / str(os.getpid())).symlink_to("/proc/self")
    with device.open():
        assert host.holders() == []


def test_what_is_no_process_or_has_just_ended_is_passed_over(host: Host) -> None:
    holder = host.hold("nvidia0")
    (host.proc / "self").symlink_to(f"/proc/{holder.pid}")
    (host.proc / "\u0663").symlink_to(f"/proc/{holder.pid}")
    (host.proc / "version").write_text("Linux")
    (host.proc / "4194303").mkdir()
    (host.proc / "4194302").symlink_to("/proc/4194302")
    assert host.holders() == [f"train ({holder.pid})"]


@pytest.mark.parametrize("name", ["\x1b[2J", "\udcff\udcfe"], ids=["no letters", "no text"])
def test_a_process_with_an_odd_name_is_named_by_its_id(name: str, host: Host) -> None:
    holder = host.hold("nvidia0", name=name)
    assert host.holders() == [f"? ({holder.pid})"]
