"""What only a real node can get wrong: namespaces, containers and what they leave behind."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cdmo_harness import cgroups
from cdmo_harness.control_plane import ControlPlane
from cdmo_harness.gpu_node import GpuNode, NodeSetup
from cdmo_harness.processes import read_record
from cdmo_harness.real_node import RealNode
from cdmo_harness.run_folder import RunFolder, cleanup_leftovers

from tests.harness.kubelet.cluster import Cluster, phase
from tests.node_backends import NodeBackend
from tests.real_node.slices import ONE_G, ONE_G_AT_0, processes, until, with_slices

pytestmark = [
    pytest.mark.asyncio,
    pytest.mark.cluster,
    pytest.mark.timeout(120),
    pytest.mark.real_kubelet(reason="the stand-in has no namespaces and no containers"),
]

# A run with one node, that ends by being killed.
_OWNER = """
import sys
from pathlib import Path
from cdmo_harness.driver import GpuSpec
from cdmo_harness.gpu_node import NodeSetup
from cdmo_harness.real_node import RealNode
from cdmo_harness.run_folder import RunFolder
folder, kubeconfig, library, kubelet, name = sys.argv[1:]
run = RunFolder(Path(folder))
gpu = GpuSpec("H100-SXM5-80GB", "00000000:10:00.0", "GPU-11111111-1111-4111-8111-111111111111")
node = RealNode(NodeSetup(name, Path(kubeconfig), Path(library), [gpu]), run.path, kubelet=Path(kubelet))
node.start()
print("up", flush=True)
sys.stdin.read()
"""


def real(node: GpuNode) -> RealNode:
    assert isinstance(node, RealNode)
    return node


def groups(node: RealNode) -> list[Path]:
    """The node's control groups."""
    return [Path(line) for line in (node.folder / cgroups.RECORD).read_text().splitlines()]


def mounts_below(folder: Path) -> list[str]:
    """What is mounted below a folder, as this process sees it."""
    return [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(folder) in line]


def network_links() -> set[str]:
    """The network interfaces of this machine."""
    return {each.name for each in Path("/sys/class/net").iterdir()}


def ended(pid: int) -> Callable[[], bool]:
    """Whether a process has ended; asked of a descriptor, as a dead one may wait to be reaped for seconds."""
    descriptor = os.pidfd_open(pid)
    return lambda: bool(select.select([descriptor], [], [], 0)[0])


async def test_nothing_of_a_stopped_node_is_left_on_the_machine(node: GpuNode, cluster: Cluster) -> None:
    (uuid,) = await with_slices(node, ONE_G_AT_0)
    await cluster.create("runs", ONE_G)
    await cluster.running("runs")
    made, links = groups(real(node)), network_links()
    assert any((group / "kubepods").is_dir() for group in made)
    first = read_record(real(node).layout.init_record)
    assert first is not None
    has_ended = ended(first.pid)
    assert processes(node, uuid) == 1

    node.stop()

    assert has_ended()
    assert [group for group in made if group.exists()] == []
    assert mounts_below(node.folder) == []
    assert network_links() == links


async def test_containers_outlive_the_kubelet_and_end_with_the_node(node: GpuNode, cluster: Cluster) -> None:
    (uuid,) = await with_slices(node, ONE_G_AT_0)
    await cluster.create("runs", ONE_G)
    await cluster.running("runs")
    kubelet = node.kubelet
    assert kubelet is not None
    kubelet.stop(grace=0)
    assert processes(node, uuid) == 1


async def test_the_machines_own_settings_stay_as_they_were(node: GpuNode) -> None:
    """A kubelet writes some of /proc/sys; here it writes into files that lie over them."""
    stand_ins = real(node).layout.tunables
    inside = {each.name: each.read_text().strip() for each in stand_ins.iterdir()}
    assert inside["kernel.panic"] == "10"
    assert Path("/proc/sys/kernel/panic").read_text().strip() != "10"


@contextmanager
def run_that_is_killed(*arguments: object) -> Iterator[None]:
    """A run with one node, up inside the block and killed at its end."""
    command = [sys.executable, "-c", _OWNER, *map(str, arguments)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as owner:
        try:
            assert owner.stdout is not None
            assert "up\n" in iter(owner.stdout.readline, "")  # log lines come before
            yield
        finally:
            owner.send_signal(signal.SIGKILL)


async def test_what_a_killed_run_left_ends_by_itself_and_its_files_are_removed_by_the_next(
    control_plane: ControlPlane, setup: NodeSetup, node_backend: NodeBackend, cluster: Cluster
) -> None:
    folder = Path(f"/tmp/cdmo-{os.getpid()}-killed")
    kubelet = node_backend.make_node.keywords["kubelet"]  # type: ignore[attr-defined]
    with run_that_is_killed(folder, setup.kubeconfig, setup.library, kubelet, setup.name):
        await cluster.ready()
        first = read_record(folder / setup.name / "init.process")
        assert first is not None
        has_ended = ended(first.pid)
    await until(has_ended)  # and with it kubelet, containerd and all containers
    made = [Path(line) for line in (folder / setup.name / cgroups.RECORD).read_text().splitlines()]
    assert mounts_below(folder) == []

    assert folder in cleanup_leftovers()
    assert not folder.exists()
    assert [group for group in made if group.exists()] == []

    run = RunFolder(folder)
    try:
        with node_backend.make_node(setup, run.path) as again:
            await with_slices(again, ONE_G_AT_0)
            await cluster.create("served", ONE_G, run_seconds="0.1")
            await cluster.pod_when("served", lambda pod: phase(pod) == "Succeeded")
    finally:
        run.close(keep=False)


async def test_pods_are_served_again_after_the_api_server_was_away(
    node: GpuNode, cluster: Cluster, control_plane: ControlPlane
) -> None:
    (uuid,) = await with_slices(node, ONE_G_AT_0)
    await cluster.advertises(ONE_G, 1)
    control_plane.restart_api_server()
    await cluster.create("after", ONE_G)
    await cluster.running("after")
    assert processes(node, uuid) == 1
