"""Device nodes of slices: made where containers look for them, mended where they are wrong."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from cdmo.errors import DriverFault, DriverUnavailable, HardwareError, NotThere
from cdmo.kubelet.devicenodes import CapabilityNodes, NodeKind
from cdmo.runtime.hostpaths import HostPaths

CAN_MAKE_NODES = os.geteuid() == 0
KIND = NodeKind.CHARACTER if CAN_MAKE_NODES else NodeKind.PLACEHOLDER
DEVICES = "Character devices:\n  1 mem\n195 nvidiactl\n{major} nvidia-caps\n\nBlock devices:\n 99 nvidia-caps\n"


class DriverFiles:
    """The kernel module's files for one GPU with minor 3, and two device roots."""

    def __init__(self, root: Path) -> None:
        self.host = HostPaths(root)
        self.roots: tuple[Path, ...] = (root / "dev", root / "run/nvidia/driver/dev")
        for each in self.roots:
            each.mkdir(parents=True)
        self.set_major(238)

    def set_major(self, major: int) -> None:
        self.host.proc.mkdir(exist_ok=True)
        (self.host.proc / "devices").write_text(DEVICES.format(major=major))

    def describe(self, instance: str, minor: object, mode: object = 292) -> None:
        """An access file, for example of "gi7" or "gi7/ci0"."""
        folder = self.host.proc / "driver/nvidia/capabilities/gpu3/mig" / instance
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "access").write_text(f"DeviceFileMinor: {minor}\nDeviceFileMode: {mode}\nDeviceFileModify: 1\n")

    def nodes(self, kind: NodeKind = KIND) -> CapabilityNodes:
        return CapabilityNodes(self.host, lambda: self.roots, kind)


@pytest.fixture
def files(tmp_path: Path) -> DriverFiles:
    """One GPU instance with a compute instance."""
    made = DriverFiles(tmp_path)
    made.describe("gi7", 471)
    made.describe("gi7/ci0", 472, 256)
    return made


def shown(path: Path) -> tuple[str, int]:
    """Which device a node is (or stands for), and its permission bits."""
    status = path.lstat()
    if stat.S_ISCHR(status.st_mode):
        return f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}", stat.S_IMODE(status.st_mode)
    return path.read_text().split()[1], stat.S_IMODE(status.st_mode)


@pytest.mark.parametrize("kind", [KIND, NodeKind.PLACEHOLDER])
def test_nodes_and_links_appear_in_every_device_root(files: DriverFiles, kind: NodeKind) -> None:
    files.nodes(kind).ensure(3, 7, (0,))
    for root in files.roots:
        assert shown(root / "nvidia-caps/nvidia-cap471") == ("238:471", 0o444)
        assert shown(root / "nvidia-caps/nvidia-cap472") == ("238:472", 0o400)
        assert stat.S_IMODE((root / "nvidia-caps").stat().st_mode) == 0o755
        assert (root / "char/238:471").readlink() == Path("../nvidia-caps/nvidia-cap471")
        assert (root / "char/238:472").readlink() == Path("../nvidia-caps/nvidia-cap472")


def test_right_nodes_are_left_alone(files: DriverFiles) -> None:
    nodes = files.nodes()
    nodes.ensure(3, 7, (0,))
    paths = [each for root in files.roots for each in sorted(root.rglob("*"))]
    before = [each.lstat().st_ctime_ns for each in paths]
    nodes.ensure(3, 7, (0,))
    assert [each.lstat().st_ctime_ns for each in paths] == before


def test_a_new_major_number_replaces_old_nodes(files: DriverFiles) -> None:
    files.nodes().ensure(3, 7, (0,))
    files.set_major(511)
    files.nodes().ensure(3, 7, (0,))
    for root in files.roots:
        assert shown(root / "nvidia-caps/nvidia-cap471")[0] == "511:471"
        assert (root / "char/511:471").is_symlink()


def test_wrong_permissions_are_mended(files: DriverFiles) -> None:
    files.nodes().ensure(3, 7, (0,))
    node = files.roots[0] / "nvidia-caps/nvidia-cap471"
    node.chmod(0o600)
    files.nodes().ensure(3, 7, (0,))
    assert shown(node) == ("238:471", 0o444)


def test_a_link_in_a_nodes_place_is_replaced_and_its_target_is_untouched(files: DriverFiles, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("c 238:471\n")
    victim.chmod(0o600)
    (files.roots[0] / "nvidia-caps").mkdir()
    (files.roots[0] / "nvidia-caps/nvidia-cap471").symlink_to(victim)
    (files.roots[0] / "char").mkdir()
    (files.roots[0] / "char/238:471").symlink_to("/etc")
    files.nodes().ensure(3, 7, (0,))
    assert shown(files.roots[0] / "nvidia-caps/nvidia-cap471") == ("238:471", 0o444)
    assert (files.roots[0] / "char/238:471").readlink() == Path("../nvidia-caps/nvidia-cap471")
    assert (victim.read_text(), stat.S_IMODE(victim.stat().st_mode)) == ("c 238:471\n", 0o600)


def test_a_link_in_the_folders_place_is_never_followed(files: DriverFiles, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (files.roots[0] / "nvidia-caps").symlink_to(outside)
    with pytest.raises(DriverFault, match="nvidia-cap471 cannot be made"):
        files.nodes().ensure(3, 7, (0,))
    assert list(outside.iterdir()) == []


def test_an_instance_the_driver_does_not_have_is_told(files: DriverFiles) -> None:
    for instance, compute in ((8, ()), (7, (1,))):
        with pytest.raises(NotThere, match="the driver has no such instance"):
            files.nodes().ensure(3, instance, compute)


@pytest.mark.parametrize(
    ("minor", "mode"),
    [("1048576", 292), ("-1", 292), ("471", 512), ("471", "0444x"), ("", 292), ("9" * 40, 292), ("٤٧١", 292)],
)
def test_descriptions_that_make_no_sense_are_refused(files: DriverFiles, minor: str, mode: object) -> None:
    files.describe("gi7", minor, mode)
    with pytest.raises(DriverFault, match="does not describe a device node"):
        files.nodes().ensure(3, 7, ())
    assert not (files.roots[0] / "nvidia-caps").exists()


def test_an_endless_description_is_not_read_to_its_end(files: DriverFiles) -> None:
    access = files.host.proc / "driver/nvidia/capabilities/gpu3/mig/gi7/access"
    access.write_text("DeviceFileMinor: 471\n" * 1000)
    with pytest.raises(DriverFault, match="longer than 4096 bytes"):
        files.nodes().ensure(3, 7, ())


@pytest.mark.parametrize("text", [None, "", "Character devices:\n195 nvidia\n\nBlock devices:\n 99 nvidia-caps\n"])
def test_without_the_kernel_module_the_driver_is_unavailable(files: DriverFiles, text: str | None) -> None:
    devices = files.host.proc / "devices"
    devices.unlink()
    if text is not None:
        devices.write_text(text)
    with pytest.raises(DriverUnavailable):
        files.nodes().ensure(3, 7, ())


def test_a_device_root_that_is_not_there_is_a_fault(files: DriverFiles) -> None:
    files.roots = (*files.roots, files.host.root / "absent")
    with pytest.raises(HardwareError, match="absent/nvidia-caps/nvidia-cap471"):
        files.nodes().ensure(3, 7, (0,))
    assert (files.roots[0] / "nvidia-caps/nvidia-cap472").exists()
