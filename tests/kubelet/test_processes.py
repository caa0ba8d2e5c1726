"""Processes are found by what they were started as, and only those of the node asked about."""

from __future__ import annotations

import signal
from pathlib import Path

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


def test_a_handler_shows_once_it_is_installed(node: NodeFolder) -> None:
    node.start_plugin()
    table = ProcessTable(node.proc)
    (found,) = table.find("nvidia-device-plugin")
    with found:
        assert table.catches(found, signal.SIGHUP)
        assert not table.catches(found, signal.SIGUSR2)
