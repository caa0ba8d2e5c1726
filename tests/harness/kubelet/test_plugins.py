"""Registration, disconnection, and the trap of 1.37: the same socket twice."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from cdmo_harness.kubelet.devices import EndpointFailed
from cdmo_harness.kubelet.plugins import PluginClients

from tests.harness.kubelet.builders import ONE_G, SOCKET, FakePlugin, Node, Tasks

pytestmark = pytest.mark.asyncio


@dataclass
class Registrar:
    """A registration server whose dials are answered by the plugins of `queue`, in order."""

    kubelet_minor: int
    queue: list[FakePlugin] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.node = Node(self.kubelet_minor)
        self.tasks = Tasks()
        self.clients = PluginClients(self.node.manager, self._dial, lambda uids: None, self.tasks.spawn)

    async def _dial(self, socket_path: str) -> FakePlugin:
        plugin = self.queue.pop(0)
        if plugin.gone is not None:
            raise EndpointFailed(plugin.gone)
        return plugin

    async def registers(self, plugin: FakePlugin) -> FakePlugin:
        self.queue.append(plugin)
        await self.clients.register(ONE_G, plugin.socket_path)
        await self.tasks.settle()
        return plugin

    async def lists(self, plugin: FakePlugin, *ids: str) -> None:
        plugin.lists_devices(*ids)
        await self.tasks.settle()

    async def handles_end_of(self, plugin: FakePlugin) -> None:
        plugin.ends()
        await self.tasks.settle()

    def healthy(self) -> set[str]:
        return {device.id for device in self.node.manager.allocatable().get(ONE_G, [])}


@pytest.mark.parametrize("kubelet_minor", [36, 37])
async def test_a_plugin_that_ends_first_and_registers_then_comes_back(kubelet_minor: int) -> None:
    kubelet = Registrar(kubelet_minor)
    old = await kubelet.registers(FakePlugin())
    await kubelet.lists(old, "MIG-a")
    await kubelet.handles_end_of(old)
    assert kubelet.healthy() == set()
    assert old.closed
    new = await kubelet.registers(FakePlugin())
    assert kubelet.healthy() == set(), "registering alone brings no device back"
    await kubelet.lists(new, "MIG-b")
    assert kubelet.healthy() == {"MIG-b"}


async def test_on_1_37_a_register_before_the_old_end_breaks_the_resource_for_good() -> None:
    kubelet = Registrar(37)
    old = await kubelet.registers(FakePlugin())
    await kubelet.lists(old, "MIG-a")
    with pytest.raises(EndpointFailed, match=f"^device plugin already connected: {SOCKET}$"):
        await kubelet.registers(FakePlugin())
    await kubelet.handles_end_of(old)
    assert kubelet.healthy() == {"MIG-a"}, "the old devices go on being advertised"
    for _ in range(3):
        with pytest.raises(EndpointFailed, match="already connected"):
            await kubelet.registers(FakePlugin())


async def test_on_1_37_another_socket_takes_over_without_a_gap() -> None:
    kubelet = Registrar(37)
    old = await kubelet.registers(FakePlugin())
    await kubelet.lists(old, "MIG-a")
    new = await kubelet.registers(FakePlugin(socket_path=f"{SOCKET}.2"))
    await kubelet.lists(new, "MIG-b")
    await kubelet.handles_end_of(old)
    assert kubelet.healthy() == {"MIG-b"}
    assert kubelet.node.manager.registrations[ONE_G].endpoint is new


async def test_before_1_37_a_late_end_of_the_old_stream_takes_the_new_devices_away() -> None:
    kubelet = Registrar(36)
    old = await kubelet.registers(FakePlugin())
    await kubelet.lists(old, "MIG-a")
    new = await kubelet.registers(FakePlugin())
    await kubelet.lists(new, "MIG-b")
    await kubelet.handles_end_of(old)
    assert kubelet.healthy() == set()
    assert new.closed
    healed = await kubelet.registers(FakePlugin())
    await kubelet.lists(healed, "MIG-b")
    assert kubelet.healthy() == {"MIG-b"}


async def test_a_plugin_nobody_answers_for_is_refused_and_can_try_again() -> None:
    kubelet = Registrar(37)
    text = "failed to dial device plugin: context deadline exceeded"
    with pytest.raises(EndpointFailed, match=text):
        await kubelet.registers(FakePlugin(gone=text))
    await kubelet.lists(await kubelet.registers(FakePlugin()), "MIG-a")
    assert kubelet.healthy() == {"MIG-a"}
