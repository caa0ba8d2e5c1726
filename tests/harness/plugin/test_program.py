"""The plugin as a process: against the simulated driver, under the name agents look for."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio
from cdmo_harness.device_nodes import make_driver_nodes, make_slice_nodes
from cdmo_harness.driver import GpuSpec, SimulatedDriver, build_library
from cdmo_harness.kubelet.plugin_connection import GrpcPlugin
from cdmo_harness.plugin_program import PLUGIN, plugin_command
from cdmo_harness.processes import ManagedProcess

from tests.harness.plugin.bench import LIMIT, ONE_G, THREE_G, Bench

pytestmark = [pytest.mark.asyncio, pytest.mark.timeout(60)]

GPU_UUID = "GPU-11111111-1111-4111-8111-111111111111"
LIBRARY = "usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1"


@pytest.fixture(scope="module")
def library() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="cdmo-") as folder:
        yield build_library(Path(folder))


@dataclass
class Host:
    """A host root with one H100, a kubelet's registration socket, and the plugin's process."""

    folder: Path
    driver: SimulatedDriver
    bench: Bench
    process: ManagedProcess | None = None

    @property
    def root(self) -> Path:
        return self.folder / "root"

    def environment(self) -> dict[str, str]:
        state = {"NVMLSIM_STATE": str(self.driver.state), "NVMLSIM_ROOT": str(self.root)}
        return {"PATH": os.environ["PATH"], "PYTHONUNBUFFERED": "1", "GRPC_VERBOSITY": "ERROR", **state}

    def cut(self, *wishes: str) -> list[str]:
        """Cut slices as cdmo_harness.cutting is asked to; returns UUIDs."""
        command = [sys.executable, "-m", "cdmo_harness.cutting", str(self.root / LIBRARY), *wishes]
        done = subprocess.run(command, env=self.environment(), capture_output=True, text=True, timeout=30, check=True)
        lines = [line.split() for line in done.stdout.splitlines()]
        for minor, instance, _ in lines:
            make_slice_nodes(self.root, int(minor), int(instance))
        return [uuid for _, _, uuid in lines]

    def start_plugin(self) -> ManagedProcess:
        command, extra = plugin_command(self.root, self.folder / "plugin", None)
        environment = {**self.environment(), **extra}
        self.process = ManagedProcess(PLUGIN, command, folder=self.folder, environment=environment)
        return self.process


@pytest_asyncio.fixture
async def host(library: Path) -> AsyncIterator[Host]:
    with tempfile.TemporaryDirectory(prefix="cdmo-") as name:
        folder = Path(name)
        installed = folder / "root" / LIBRARY
        sockets = folder / "root/var/lib/kubelet/device-plugins"
        for needed in (installed.parent, sockets):
            needed.mkdir(parents=True)
        installed.write_bytes(library.read_bytes())
        gpu = GpuSpec("H100-SXM5-80GB", "00000000:10:00.0", GPU_UUID)
        driver = SimulatedDriver.create(installed, folder / "state", folder / "root", gpus=[gpu])
        make_driver_nodes(folder / "root", [0])
        made = Host(folder, driver, Bench(sockets, {}))
        async with made.bench.kubelet():
            yield made
            if made.process is not None:
                made.process.stop(grace=2.0)
        driver.close()


async def test_a_gpu_without_mig_is_one_whole_gpu(host: Host) -> None:
    host.start_plugin()
    await host.bench.until_healthy(whole=[GPU_UUID])


async def test_slices_are_registered_by_profile_and_looked_at_again_on_sighup(host: Host) -> None:
    (three,) = host.cut("0:9:4")
    process = host.start_plugin()
    await host.bench.until_healthy(three_g=[three])
    (one,) = host.cut("0:19:0")
    os.kill(process.pid, signal.SIGHUP)
    await host.bench.until_healthy(three_g=[three], one_g=[one])
    command = Path(f"/proc/{process.pid}/cmdline").read_bytes().split(b"\0")
    assert command[0].rpartition(b"/")[2] == PLUGIN.encode()


async def test_every_device_node_that_allocate_names_exists_after_the_cut(host: Host) -> None:
    (uuid,) = host.cut("0:9:4")
    host.start_plugin()
    await host.bench.until_healthy(three_g=[uuid])
    plugin = await GrpcPlugin.dial(str(host.bench.folder / "nvidia-mig-3g.40gb.sock"))
    answer = await plugin.allocate([uuid])
    await plugin.close()
    assert len([path for path in answer.device_paths if "nvidia-cap" in path]) == 2
    assert all((host.root / path.lstrip("/")).exists() for path in answer.device_paths)


async def test_a_gpu_instance_without_a_compute_instance_is_not_seen(host: Host) -> None:
    (uuid, none) = host.cut("0:19:0", "0:9:4:0")
    assert none == "none"
    host.start_plugin()
    await host.bench.until_healthy(one_g=[uuid])


async def test_a_compute_instance_that_is_not_full_width_ends_the_plugin(host: Host) -> None:
    host.cut("0:9:4:1")
    process = host.start_plugin()
    assert await asyncio.to_thread(process.wait, LIMIT)
    assert process.exit_status == 1
    assert "MIG profile '1c.3g.40gb' does not match any resource patterns" in process.tail(20)


async def test_a_driver_that_does_not_load_ends_the_plugin(host: Host) -> None:
    host.driver.fail_nth("nvmlInit_v2", 9)
    host.driver.fail_nth("nvmlInitWithFlags", 9)
    process = host.start_plugin()
    assert await asyncio.to_thread(process.wait, LIMIT)
    assert process.exit_status == 1
    assert "failed to initialize NVML" in process.tail(20)


async def test_mig_without_slices_is_no_device_and_no_error(host: Host) -> None:
    host.cut("0")
    process = host.start_plugin()
    await _said(process, "No devices found. Waiting indefinitely.")
    (uuid,) = host.cut("0:19:0")
    os.kill(process.pid, signal.SIGHUP)
    await host.bench.until_healthy(one_g=[uuid])


async def test_an_xid_makes_a_device_unhealthy_until_the_next_look(host: Host) -> None:
    (uuid,) = host.cut("0:19:0")
    process = host.start_plugin()
    await host.bench.until_healthy(one_g=[uuid])
    async with asyncio.timeout(LIMIT):
        # The health check registers for events a moment after the kubelet has its list.
        while host.bench.manager.health(ONE_G, uuid) == "Healthy":
            host.driver.inject_xid(GPU_UUID, 79)
            await asyncio.sleep(0.1)
    os.kill(process.pid, signal.SIGHUP)
    await host.bench.until_healthy(one_g=[uuid])


async def test_an_applications_xid_harms_no_device(host: Host) -> None:
    (one, three) = host.cut("0:19:0", "0:9:4")
    host.start_plugin()
    await host.bench.until_healthy(one_g=[one], three_g=[three])
    host.driver.inject_xid(GPU_UUID, 31)
    host.driver.inject_xid(GPU_UUID, 43)
    assert host.bench.manager.health(THREE_G, three) == "Healthy"


async def test_sigterm_ends_the_plugin_and_removes_its_sockets(host: Host) -> None:
    (uuid,) = host.cut("0:19:0")
    process = host.start_plugin()
    await host.bench.until_healthy(one_g=[uuid])
    os.kill(process.pid, signal.SIGTERM)
    assert await asyncio.to_thread(process.wait, LIMIT)
    assert process.exit_status == 0
    assert list(host.bench.folder.glob("nvidia-*.sock")) == []
    await host.bench.until_healthy()


async def test_the_plugin_registers_again_when_the_kubelet_makes_its_socket_anew(host: Host) -> None:
    (uuid,) = host.cut("0:19:0")
    host.start_plugin()
    await host.bench.until_healthy(one_g=[uuid])
    await host.bench.clients.disconnect_all()
    await host.bench.until_healthy()
    socket = host.bench.kubelet_socket
    aside = socket.with_name("aside")
    socket.rename(aside)
    aside.rename(socket)
    await host.bench.until_healthy(one_g=[uuid])


async def _said(process: ManagedProcess, text: str) -> None:
    async with asyncio.timeout(LIMIT):
        while text not in process.tail(50):  # noqa: ASYNC110 a log file tells nobody when it grows
            await asyncio.sleep(0.02)
