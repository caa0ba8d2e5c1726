"""Processes are found by what they were started as, and only those of the node asked about."""

from __future__ import annotations

import math
import os
import signal
import socket
from pathlib import Path

import pytest

from cdmo.kubelet.processes import HostProcess, ProcessTable
from tests.kubelet.plugins import NodeFolder


def pids(found: tuple[HostProcess, ...]) -> list[int]:
    """Their ids; closes them."""
    for each in found:
        with each:
            pass
    return [each.pid for each in found]


def test_only_the_exact_name_of_the_program_counts(node: NodeFolder) -> None:
    plugin = node.start_plugin()
    node.start_plugin(name="nvidia-device-plugin-ctr")
    below = node.start_plugin(name="/usr/bin/nvidia-device-plugin")
    assert pids(ProcessTable(node.proc).find("nvidia-device-plugin")) == sorted([plugin.pid, below.pid])


def test_a_process_of_another_node_is_not_seen(node: NodeFolder, tmp_path: Path) -> None:
    node.start_plugin()
    assert ProcessTable(tmp_path).find("nvidia-device-plugin") == ()
    assert ProcessTable(tmp_path / "absent").find("nvidia-device-plugin") == ()


def test_an_entry_of_a_process_that_is_gone_is_passed_over(node: NodeFolder) -> None:
    plugin = node.start_plugin()
    plugin.end()
    (node.proc / "4194303").mkdir()
    (node.proc / "4194303/cmdline").write_bytes(b"nvidia-device-plugin\0")
    assert ProcessTable(node.proc).find("nvidia-device-plugin") == ()


def test_a_signal_to_a_process_that_ended_reaches_nobody(node: NodeFolder) -> None:
    plugin = node.start_plugin()
    (found,) = ProcessTable(node.proc).find("nvidia-device-plugin")
    with found:
        assert found.signal(signal.SIGCONT)
        plugin.end()
        assert not found.signal(signal.SIGCONT)


def test_only_a_process_with_this_ones_user_and_rights_is_privileged(node: NodeFolder) -> None:
    node.start_plugin()
    table = ProcessTable(node.proc)
    (plugin,) = table.find("nvidia-device-plugin")
    with plugin:
        assert table.is_privileged(plugin)
    impostor = node.run_impostor()
    assert not table.is_privileged(HostProcess(impostor.pid, -1))
    status = node.proc / str(impostor.pid) / "status"
    for text in ("", "Uid:\t0\t0\t0\t0\n", "CapEff:\tffffffffffffffff\n"):
        status.write_text(text)
        assert not table.is_privileged(HostProcess(impostor.pid, -1)), text


def test_a_handler_shows_once_it_is_installed(node: NodeFolder) -> None:
    node.start_plugin()
    table = ProcessTable(node.proc)
    (found,) = table.find("nvidia-device-plugin")
    with found:
        assert table.catches(found, signal.SIGHUP)
        assert not table.catches(found, signal.SIGUSR2)


def test_a_servers_connections_go_by_its_sockets_name_also_when_the_file_is_gone(short_folder: Path) -> None:
    with HostProcess(os.getpid(), os.pidfd_open(os.getpid())) as here:
        table, path = ProcessTable(Path("/proc")), short_folder / "nvidia-mig-1g.10gb.sock"
        with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
            server.bind(str(path))
            server.listen()

            def connections() -> frozenset[str]:
                found = table.unix_connections(here)
                assert found is not None
                return found

            assert path.name not in connections()
            client.connect(str(path))
            with server.accept()[0]:
                path.unlink()
                assert path.name in connections()
            assert path.name not in connections()


def test_connections_of_others_do_not_count(node: NodeFolder, short_folder: Path) -> None:
    """Plugins of several simulated nodes share a network namespace, and their sockets have the same names."""
    node.start_plugin()
    (found,) = ProcessTable(node.proc).find("nvidia-device-plugin")
    with found, socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind(str(short_folder / "nvidia-mig-1g.10gb.sock"))
        server.listen()
        client.connect(str(short_folder / "nvidia-mig-1g.10gb.sock"))
        assert ProcessTable(node.proc).unix_connections(found) == frozenset()


def test_a_connection_from_the_hosts_network_is_found_in_the_hosts_table(short_folder: Path, tmp_path: Path) -> None:
    """The plugin's pod has a network namespace of its own, whose table does not have it."""
    path = short_folder / "nvidia-mig-1g.10gb.sock"
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind(str(path))
        server.listen()
        client.connect(str(path))
        with server.accept()[0], HostProcess(os.getpid(), os.pidfd_open(os.getpid())) as here:
            own = tmp_path / str(here.pid)
            (own / "net").mkdir(parents=True)
            (own / "fd").symlink_to("/proc/self/fd")
            (own / "net/unix").write_text("Num       RefCount Protocol Flags    Type St Inode Path\n")
            table = ProcessTable(tmp_path)
            assert table.unix_connections(here) == frozenset()
            (tmp_path / "1").symlink_to("/proc/self")
            assert path.name in (table.unix_connections(here) or ())
            (tmp_path / "1").unlink()
            (tmp_path / "1").mkdir()  # its table cannot be read
            assert table.unix_connections(here) is None


def test_what_cannot_be_told_of_a_process_is_said_so(node: NodeFolder, tmp_path: Path) -> None:
    node.start_plugin()
    (found,) = ProcessTable(node.proc).find("nvidia-device-plugin")
    with found:
        assert 0 <= ProcessTable(node.proc).age(found) < 60
        elsewhere = ProcessTable(tmp_path)
        assert elsewhere.unix_connections(found) is None
        assert elsewhere.age(found) == float("inf")


def test_entries_that_no_process_can_have_are_passed_over(tmp_path: Path) -> None:
    for name in ("9" * 30, "-1", "self", "\u0663"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "cmdline").write_bytes(b"nvidia-device-plugin\0")
    assert ProcessTable(tmp_path).find("nvidia-device-plugin") == ()


@pytest.mark.parametrize("start", ["9" * 400, "9" * 5000, "-", "1e9", ""])
def test_a_start_time_that_is_none_is_long_ago(node: NodeFolder, tmp_path: Path, start: str) -> None:
    node.start_plugin()
    (found,) = ProcessTable(node.proc).find("nvidia-device-plugin")
    (tmp_path / str(found.pid)).mkdir()
    (tmp_path / str(found.pid) / "stat").write_text(f"1 (a) b) S{' 0' * 18} {start}\n")
    with found:
        assert ProcessTable(tmp_path).age(found) == math.inf
