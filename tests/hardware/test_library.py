"""Finding libnvidia-ml.so.1 below a host root, wherever the driver put it."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from cdmo.errors import DriverUnavailable
from cdmo.hardware.library import DriverSearch, load
from cdmo.runtime.hostpaths import HostPaths

DEBIAN = "usr/lib/x86_64-linux-gnu"


def elf(*, bits: int = 2, machine: int | None = None) -> bytes:
    """The first bytes of a shared library for this machine, or for another."""
    if machine is None:
        machine = struct.unpack_from("<H", Path("/proc/self/exe").read_bytes()[:20], 18)[0]
    return b"\x7fELF" + bytes([bits, 1, 1]) + bytes(9) + struct.pack("<HH", 3, machine)


def put(root: Path, folder: str = DEBIAN, content: bytes | None = None) -> Path:
    """A driver's library in a folder of a root; the real file has the driver's version in its name."""
    place = root / folder
    place.mkdir(parents=True, exist_ok=True)
    real = place / "libnvidia-ml.so.580.159.04"
    real.write_bytes(elf() if content is None else content)
    (place / "libnvidia-ml.so.1").symlink_to(real.name)
    return real


def test_a_driver_on_the_host_is_found(tmp_path: Path) -> None:
    real = put(tmp_path)
    found = DriverSearch(HostPaths(tmp_path))()
    assert found.library == real
    assert found.dev_roots == (tmp_path / "dev",)


def test_the_driver_container_comes_before_the_host(tmp_path: Path) -> None:
    put(tmp_path)
    inside = put(tmp_path / "run/nvidia/driver", "usr/lib64")
    assert DriverSearch(HostPaths(tmp_path))().library == inside


def test_the_validators_file_comes_before_all_and_names_the_device_root(tmp_path: Path) -> None:
    put(tmp_path / "run/nvidia/driver")
    other = put(tmp_path / "opt/driver")
    ready = tmp_path / "run/nvidia/validations/driver-ready"
    ready.parent.mkdir(parents=True)
    ready.write_text(
        "IS_HOST_DRIVER=false\nNVIDIA_DRIVER_ROOT=/opt/driver\nNVIDIA_DEV_ROOT='/opt/driver'\nnonsense\n"
    )
    found = DriverSearch(HostPaths(tmp_path))()
    assert found.library == other
    assert found.dev_roots == (tmp_path / "dev", tmp_path / "opt/driver/dev")


def test_a_driver_root_with_device_nodes_is_a_device_root_too(tmp_path: Path) -> None:
    root = tmp_path / "run/nvidia/driver"
    put(root)
    (root / "dev").mkdir()
    (root / "dev/nvidiactl").touch()
    assert DriverSearch(HostPaths(tmp_path))().dev_roots == (tmp_path / "dev", root / "dev")


def test_absolute_links_are_followed_inside_the_drivers_root(tmp_path: Path) -> None:
    root = tmp_path / "run/nvidia/driver"
    real = put(root, "opt/real")
    (root / "usr").mkdir()
    (root / "usr/lib64").symlink_to("/opt/real")
    put(tmp_path, "opt/real", b"the host's own, which the link does not mean")
    assert DriverSearch(HostPaths(tmp_path))().library == real


def test_a_named_root_leaves_no_other_place(tmp_path: Path) -> None:
    put(tmp_path)
    with pytest.raises(DriverUnavailable):
        DriverSearch(HostPaths(tmp_path), "/opt/driver")()
    named = put(tmp_path / "opt/driver")
    assert DriverSearch(HostPaths(tmp_path), "/opt/driver")().library == named


def test_libraries_of_other_machines_are_passed_over(tmp_path: Path) -> None:
    put(tmp_path, "usr/lib64", elf(bits=1))
    put(tmp_path, "lib64", b"# a linker script")
    put(tmp_path, "usr/lib/aarch64-linux-gnu", elf(machine=8))
    real = put(tmp_path, "home/kubernetes/bin/nvidia/lib64")
    assert DriverSearch(HostPaths(tmp_path))().library == real


def test_files_that_are_no_use_are_named_with_the_reason(tmp_path: Path) -> None:
    put(tmp_path, "usr/lib64", b"not a library")
    loop = tmp_path / "lib64"
    loop.symlink_to("/lib64")
    with pytest.raises(DriverUnavailable) as raised:
        DriverSearch(HostPaths(tmp_path))()
    text = str(raised.value)
    assert f"{tmp_path}/usr/lib64/libnvidia-ml.so.1 (not a shared library)" in text
    assert f"{tmp_path}/run/nvidia/driver/usr/lib64" not in text  # a folder without the file
    assert f"{tmp_path}/lib64/libnvidia-ml.so.1 (too many symbolic links" in text
    assert raised.value.hint


def test_a_host_without_a_driver_is_told_in_one_line_with_the_roots(tmp_path: Path) -> None:
    with pytest.raises(DriverUnavailable) as raised:
        DriverSearch(HostPaths(tmp_path))()
    assert str(raised.value) == (
        f"no usable libnvidia-ml.so.1 in 16 folders under {tmp_path}/run/nvidia/driver, {tmp_path}"
    )
    assert "install the NVIDIA driver" in raised.value.hint


def test_a_library_that_does_not_load_says_why(tmp_path: Path) -> None:
    with pytest.raises(DriverUnavailable, match="cannot be loaded"):
        load(put(tmp_path))


@pytest.mark.parametrize("root", ["/opt/" + "x" * 300, "/opt/a\0b", "/loop", "\x1b[2J", "/opt/../../../.."])
def test_a_driver_root_that_is_no_place_does_not_hide_the_driver(tmp_path: Path, root: str) -> None:
    real = put(tmp_path)
    (tmp_path / "loop").symlink_to("loop")
    ready = tmp_path / "run/nvidia/validations/driver-ready"
    ready.parent.mkdir(parents=True)
    ready.write_text(f"NVIDIA_DRIVER_ROOT={root}\nNVIDIA_DEV_ROOT={root}\n")
    found = DriverSearch(HostPaths(tmp_path))()
    assert found.library == real
    assert all(each.is_relative_to(tmp_path) for each in found.dev_roots)
    with pytest.raises(DriverUnavailable):
        DriverSearch(HostPaths(tmp_path / "empty"), root)()
