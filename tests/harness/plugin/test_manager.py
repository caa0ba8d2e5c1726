"""The plugin's servers against a real registration socket: order, retries, answers."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from cdmo_harness.kubelet.devices import EndpointFailed
from cdmo_harness.kubelet.plugin_connection import GrpcPlugin
from cdmo_harness.plugin.inventory import EnumerationFailed
from cdmo_harness.plugin.kubelet_socket import watch_for_creation

from tests.harness.plugin.bench import LIMIT, ONE_G, THREE_G, Bench

pytestmark = pytest.mark.asyncio


@pytest.fixture(autouse=True)
def no_health_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    """These tests have no NVML; the health watch is tested with the simulated driver."""
    monkeypatch.setattr("cdmo_harness.plugin.manager.HealthWatch.start", lambda self: None)


async def test_each_resource_is_registered_with_its_devices(tmp_path: Path) -> None:
    bench = Bench(tmp_path, {ONE_G: ["MIG-a", "MIG-b"], THREE_G: ["MIG-c"]})
    async with bench.kubelet(), bench.plugin():
        await bench.until_healthy(one_g=["MIG-a", "MIG-b"], three_g=["MIG-c"])
        assert {path.name for path in tmp_path.glob("nvidia-*.sock")} == {
            "nvidia-mig-1g.10gb.sock",
            "nvidia-mig-3g.40gb.sock",
        }


async def test_a_change_is_seen_at_the_next_restart_only(tmp_path: Path) -> None:
    bench = Bench(tmp_path, {ONE_G: ["MIG-a"], THREE_G: ["MIG-c"]})
    async with bench.kubelet(), bench.plugin():
        await bench.until_healthy(one_g=["MIG-a"], three_g=["MIG-c"])
        bench.inventory = {ONE_G: ["MIG-b"]}
        bench.wishes.restart()
        await bench.until_healthy(one_g=["MIG-b"])
        assert bench.looks == 2
        assert not (tmp_path / "nvidia-mig-3g.40gb.sock").exists()


async def test_resources_without_devices_are_not_registered(tmp_path: Path) -> None:
    bench = Bench(tmp_path, {ONE_G: ["MIG-a"], THREE_G: []})
    async with bench.kubelet(), bench.plugin():
        await bench.until_healthy(one_g=["MIG-a"])
        assert not (tmp_path / "nvidia-mig-3g.40gb.sock").exists()


async def test_a_refused_registration_is_tried_again_and_later_resources_wait(tmp_path: Path) -> None:
    bench = Bench(tmp_path, {ONE_G: ["MIG-a"], THREE_G: ["MIG-c"]}, retry_seconds=0.05)
    refused = asyncio.Event()
    accept = bench.clients.register
    registered: list[str] = []

    async def refuse_first(resource: str, socket_path: str) -> None:
        registered.append(resource)
        if not refused.is_set():
            refused.set()
            raise EndpointFailed(f"device plugin already connected: {socket_path}")
        await accept(resource, socket_path)

    bench.clients = _Registering(refuse_first)  # type: ignore[assignment]
    async with bench.kubelet(), bench.plugin():
        await bench.until_healthy(one_g=["MIG-a"], three_g=["MIG-c"])
    assert registered == [ONE_G, ONE_G, THREE_G]
    assert bench.looks == 2


class _Registering:
    def __init__(self, register: object) -> None:
        self.register = register

    async def disconnect_all(self) -> None:
        """Nothing is connected through this one."""


async def test_an_error_while_looking_ends_the_plugin(tmp_path: Path) -> None:
    bench = Bench(tmp_path, {}, fails=True)
    async with bench.kubelet(), bench.plugin() as task:
        with pytest.raises(EnumerationFailed):
            await task


async def test_without_devices_the_plugin_waits_for_a_restart(tmp_path: Path) -> None:
    bench = Bench(tmp_path, {})
    async with bench.kubelet(), bench.plugin() as task:
        bench.inventory = {ONE_G: ["MIG-a"]}
        bench.wishes.restart()
        await bench.until_healthy(one_g=["MIG-a"])
        assert not task.done()


async def test_allocate_answers_from_the_list_and_refuses_what_is_not_on_it(tmp_path: Path) -> None:
    for node in ("dev/nvidiactl", "dev/nvidia-uvm"):
        (tmp_path / node).parent.mkdir(exist_ok=True)
        (tmp_path / node).touch()
    bench = Bench(tmp_path, {ONE_G: ["MIG-a"]})
    async with bench.kubelet(), bench.plugin():
        await bench.until_healthy(one_g=["MIG-a"])
        plugin = await GrpcPlugin.dial(str(tmp_path / "nvidia-mig-1g.10gb.sock"))
        answer = await plugin.allocate(["MIG-a"])
        with pytest.raises(EndpointFailed) as caught:
            await plugin.allocate(["MIG-x"])
        await plugin.close()
    assert answer.device_paths == (
        "/dev/nvidiactl",
        "/dev/nvidia-uvm",
        "/dev/nvidia0",
        "/dev/nvidia-caps/nvidia-cap12",
    )
    assert str(caught.value) == (
        f'rpc error: code = Unknown desc = invalid allocation request for "{ONE_G}": unknown device: MIG-x'
    )


async def test_preferred_allocation_includes_what_must_be_included(tmp_path: Path) -> None:
    bench = Bench(tmp_path, {ONE_G: ["MIG-a", "MIG-b", "MIG-c"]})
    async with bench.kubelet(), bench.plugin():
        await bench.until_healthy(one_g=["MIG-a", "MIG-b", "MIG-c"])
        plugin = await GrpcPlugin.dial(str(tmp_path / "nvidia-mig-1g.10gb.sock"))
        chosen = await plugin.preferred(["MIG-a", "MIG-b", "MIG-c"], ["MIG-b"], 2)
        await plugin.close()
    assert "MIG-b" in chosen
    assert len(chosen) == 2


async def test_a_new_kubelet_socket_is_noticed(tmp_path: Path) -> None:
    seen = asyncio.Event()
    with watch_for_creation(tmp_path / "kubelet.sock", seen.set):
        (tmp_path / "other.sock").touch()
        (tmp_path / "kubelet.sock").touch()
        async with asyncio.timeout(LIMIT):
            await seen.wait()
