"""Every path of a host hangs off one root, and no link leads out of it."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath

import pytest

from cdmo.errors import BadSettings
from cdmo.runtime.hostpaths import HostPaths, read_text, replace_file, resolve_inside


def test_all_places_are_below_the_root(tmp_path: Path) -> None:
    host = HostPaths(tmp_path, PurePosixPath("/srv/kubelet"))
    assert host.device_plugins == tmp_path / "srv/kubelet/device-plugins"
    assert host.pod_resources_socket == tmp_path / "srv/kubelet/pod-resources/kubelet.sock"
    assert (host.proc, host.dev) == (tmp_path / "proc", tmp_path / "dev")
    assert host.state == tmp_path / "var/lib/cdmo"


@pytest.mark.parametrize("target", ["/srv/disk/kubelet", "../../srv/disk/kubelet"])
def test_a_kubelets_folder_that_is_a_link_is_followed_inside_the_root(tmp_path: Path, target: str) -> None:
    real = tmp_path / "srv/disk/kubelet/device-plugins"
    real.mkdir(parents=True)
    link = tmp_path / "var/lib/kubelet"
    link.parent.mkdir(parents=True)
    link.symlink_to(target)
    host = HostPaths(tmp_path)
    assert host.device_plugins == real
    assert host.pod_resources_socket == tmp_path / "srv/disk/kubelet/pod-resources/kubelet.sock"


def test_a_kubelets_folder_whose_links_lead_nowhere_is_told(tmp_path: Path) -> None:
    link = tmp_path / "var/lib/kubelet"
    link.parent.mkdir(parents=True)
    link.symlink_to("kubelet")
    with pytest.raises(BadSettings, match=r"/var/lib/kubelet/device-plugins cannot be followed") as raised:
        _ = HostPaths(tmp_path).device_plugins
    assert "--kubelet-root" in raised.value.hint


@pytest.mark.parametrize("named", ["var/lib/kubelet", "", "/var/../kubelet"])
def test_a_kubelets_folder_that_is_not_absolute_is_refused(tmp_path: Path, named: str) -> None:
    with pytest.raises(BadSettings, match="is not an absolute path") as raised:
        HostPaths(tmp_path, PurePosixPath(named))
    assert "--kubelet-root" in raised.value.hint


def test_the_boot_id_is_read_below_the_root(tmp_path: Path) -> None:
    with pytest.raises(BadSettings) as raised:
        HostPaths(tmp_path).boot_id()
    assert str(tmp_path) in raised.value.hint
    path = tmp_path / "proc/sys/kernel/random/boot_id"
    path.parent.mkdir(parents=True)
    path.write_text("1b4e28ba-2fa1-11d2-883f-0016d3cca427\n")
    assert HostPaths(tmp_path).boot_id() == "1b4e28ba-2fa1-11d2-883f-0016d3cca427"


@pytest.mark.parametrize(
    ("links", "path", "found"),
    [
        ({}, "/a/b", "a/b"),
        ({"a": "/b"}, "/a/c", "b/c"),
        ({"a": "b"}, "/a/c", "b/c"),
        ({"x/a": "../b"}, "/x/a/c", "b/c"),
        ({"a": "/../../../etc"}, "/a/passwd", "etc/passwd"),
        ({}, "/../../etc/passwd", "etc/passwd"),
        ({"a": "/b", "b": "/c"}, "/a", "c"),
        ({"a": "/"}, "/a/b", "b"),
    ],
)
def test_links_are_followed_as_if_the_root_were_the_top(
    tmp_path: Path, links: dict[str, str], path: str, found: str
) -> None:
    for name, target in links.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).symlink_to(target)
    assert resolve_inside(tmp_path, path) == tmp_path / found


def test_a_loop_of_links_ends(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("/b")
    (tmp_path / "b").symlink_to("/a")
    with pytest.raises(OSError, match="too many symbolic links"):
        resolve_inside(tmp_path, "/a/c")


def test_a_pipe_in_a_files_place_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert read_text(tmp_path / "pipe") == ""


def test_files_that_are_too_long_or_not_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "long").write_bytes(b"x" * 11)
    (tmp_path / "binary").write_bytes(b"\xff")
    assert read_text(tmp_path / "long", 11) == "x" * 11
    with pytest.raises(ValueError, match="longer than 10 bytes"):
        read_text(tmp_path / "long", 10)
    with pytest.raises(ValueError, match="utf-8"):
        read_text(tmp_path / "binary")


def test_a_path_of_thousands_of_names_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="longer than 1024 names"):
        resolve_inside(tmp_path, "a/" * 30_000)


@pytest.mark.parametrize("path", ["/etc/passwd", "//etc/passwd", "///etc/passwd", "link", "//link"])
def test_no_number_of_slashes_leads_out_of_the_root(tmp_path: Path, path: str) -> None:
    (tmp_path / "link").symlink_to("//etc/passwd")
    assert resolve_inside(tmp_path, path) == tmp_path / "etc/passwd"


def test_a_file_is_replaced_whole_and_what_lies_in_the_new_ones_place_is_not_followed(tmp_path: Path) -> None:
    path, victim = tmp_path / "state" / "file", tmp_path / "victim"
    victim.write_text("theirs")
    replace_file(path, b"first")
    path.with_name("file.new").symlink_to(victim)
    replace_file(path, b"second")
    assert (path.read_bytes(), victim.read_text()) == (b"second", "theirs")
    assert not path.is_symlink()
    assert path.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in path.parent.iterdir()] == ["file"]


def test_a_file_that_cannot_be_written_anew_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "file"
    replace_file(path, b"first")
    path.with_name("file.new").mkdir()
    with pytest.raises(OSError):
        replace_file(path, b"second")
    assert path.read_bytes() == b"first"
