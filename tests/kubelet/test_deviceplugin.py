"""Reloading a plugin that misbehaves in one way a test."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Mapping

import pytest

from cdmo.errors import KubeletUnavailable, PluginAbsent, PluginStuck
from cdmo.kubelet.deviceplugin import NvidiaDevicePlugin
from cdmo.kubelet.port import PodResources
from cdmo.kubelet.processes import ProcessTable
from cdmo.runtime.clock import SystemClock
from tests.kubelet.plugins import (
    NONE,
    ONE,
    ONE_SOCKET,
    THREE,
    THREE_SOCKET,
    ConnectedKubelet,
    NodeFolder,
    SocketKubelet,
    kill,
)

pytestmark = pytest.mark.asyncio

BOTH = {ONE: frozenset({"MIG-a", "MIG-b"}), THREE: frozenset({"MIG-c"})}


def plugin_of(node: NodeFolder, pods: PodResources, limit: float = 5.0) -> NvidiaDevicePlugin:
    """What is tested, on this node."""
    return NvidiaDevicePlugin(
        processes=ProcessTable(node.proc), sockets=node.sockets, pods=pods, clock=SystemClock(), limit=limit
    )


async def test_a_reload_ends_when_all_sockets_are_new_and_the_kubelet_agrees(node: NodeFolder) -> None:
    process = node.start_plugin(ONE_SOCKET, THREE_SOCKET)
    async with plugin_of(node, SocketKubelet(node.sockets, BOTH)) as plugin:
        await plugin.reload(BOTH, NONE, NONE)
    assert "back" in process.listen()
    assert process.state() != "T"


async def test_the_plugin_stands_still_until_the_kubelet_lists_none_of_its_devices(node: NodeFolder) -> None:
    process = node.start_plugin(ONE_SOCKET, "--gap", "0.02")
    kubelet = SocketKubelet(node.sockets, {ONE: BOTH[ONE]}, late=2)
    states: list[str] = []

    def note() -> None:
        process.wait_for_state("T")
        states.append(process.state())
        if not kubelet.late:
            kubelet.on_gap = lambda: None

    kubelet.on_gap = note
    async with plugin_of(node, kubelet) as plugin:
        await plugin.reload({ONE: BOTH[ONE]}, NONE, NONE)
    assert states == ["T"] * 3
    assert kubelet.late == 0


async def test_a_hold_is_short_and_repeated_while_the_kubelet_has_not_noticed(node: NodeFolder) -> None:
    process = node.start_plugin(ONE_SOCKET, "--gap", "0.5")
    kubelet = SocketKubelet(node.sockets, {ONE: BOTH[ONE]}, late=12)
    async with plugin_of(node, kubelet) as plugin:
        await plugin.reload({ONE: BOTH[ONE]}, NONE, NONE)
    assert process.listen().count("continued") >= 3, "one at the start of the agent, and one after each hold"


async def test_a_stop_that_came_before_the_connections_ended_is_taken_back(node: NodeFolder) -> None:
    """Held on, the plugin would never end them and the kubelet never notice."""
    process = node.start_plugin(ONE_SOCKET, "--late-end", "--gap", "0.02")
    kubelet = ConnectedKubelet(node.sockets, ONE, BOTH[ONE])
    async with plugin_of(node, kubelet) as plugin:
        await plugin.reload({ONE: BOTH[ONE]}, NONE, NONE)
    kubelet.close()
    assert kubelet.noticed
    assert process.listen().count("continued") >= 3


async def test_sockets_for_vanished_and_for_new_resources_change_places(node: NodeFolder) -> None:
    node.start_plugin(ONE_SOCKET, "--then", THREE_SOCKET)
    async with plugin_of(node, SocketKubelet(node.sockets, BOTH)) as plugin:
        await plugin.reload({THREE: BOTH[THREE], ONE: frozenset()}, NONE, NONE)


async def test_a_plugin_without_any_slice_is_reloaded_too(node: NodeFolder) -> None:
    process = node.start_plugin(ONE_SOCKET, "--then")
    async with plugin_of(node, SocketKubelet(node.sockets, BOTH)) as plugin:
        await plugin.reload({}, NONE, NONE)
        await plugin.reload({}, NONE, NONE)
    process.wait_for("back")


async def test_a_whole_gpu_resource_is_held_for_but_not_expected(node: NodeFolder) -> None:
    node.start_plugin("nvidia-gpu.sock", ONE_SOCKET)
    devices = {"nvidia.com/gpu": frozenset({"GPU-1"}), ONE: BOTH[ONE]}
    async with plugin_of(node, SocketKubelet(node.sockets, devices)) as plugin:
        await plugin.reload({ONE: BOTH[ONE]}, NONE, NONE)


async def test_a_socket_that_an_earlier_plugin_left_does_not_confuse(node: NodeFolder) -> None:
    dead = node.start_plugin(THREE_SOCKET)
    dead.end()
    (node.proc / str(dead.pid)).unlink()
    node.start_plugin(ONE_SOCKET)
    async with plugin_of(node, SocketKubelet(node.sockets, {ONE: BOTH[ONE]})) as plugin:
        await plugin.reload({ONE: BOTH[ONE]}, NONE, NONE)


async def test_devices_the_kubelet_does_not_list_are_named(node: NodeFolder) -> None:
    process = node.start_plugin(ONE_SOCKET, THREE_SOCKET)
    async with plugin_of(node, SocketKubelet(node.sockets, BOTH), limit=0.5) as plugin:
        with pytest.raises(PluginStuck) as raised:
            await plugin.reload({**BOTH, ONE: frozenset({"MIG-a", "MIG-b", "MIG-d"})}, NONE, NONE)
    assert f"{ONE}: the kubelet lists 2 (MIG-a, MIG-b), the GPUs have 3 (MIG-a, MIG-b, …)" in str(raised.value)
    assert THREE not in str(raised.value)
    assert process.state() != "T"


@pytest.mark.parametrize("bad", ["MIG-a", "MIG-c"])
async def test_a_device_that_the_plugin_may_hold_unhealthy_is_not_waited_for(node: NodeFolder, bad: str) -> None:
    node.start_plugin(ONE_SOCKET, THREE_SOCKET)
    listed = {resource: ids - {bad} for resource, ids in BOTH.items()}
    for devices in (listed, BOTH):
        async with plugin_of(node, SocketKubelet(node.sockets, devices)) as plugin:
            await plugin.reload(BOTH, frozenset({bad}), NONE)


async def test_a_doubtful_device_does_not_excuse_another(node: NodeFolder) -> None:
    node.start_plugin(ONE_SOCKET)
    kubelet = SocketKubelet(node.sockets, {ONE: frozenset({"MIG-b", "MIG-x"})})
    async with plugin_of(node, kubelet, limit=0.5) as plugin:
        with pytest.raises(PluginStuck, match="the kubelet lists 2"):
            await plugin.reload({ONE: BOTH[ONE]}, frozenset({"MIG-a"}), NONE)


async def test_devices_that_look_right_are_not_believed_without_their_socket(node: NodeFolder) -> None:
    """The kubelet 1.37 that lost track of its plugin goes on listing the old devices as healthy."""
    node.start_plugin(ONE_SOCKET, "--then")

    class Stale(SocketKubelet):
        async def allocatable(self) -> dict[str, frozenset[str]]:
            return self.devices

    async with plugin_of(node, Stale(node.sockets, {ONE: BOTH[ONE]}), limit=0.5) as plugin:
        with pytest.raises(PluginStuck, match=f"no socket {ONE_SOCKET}") as raised:
            await plugin.reload({ONE: BOTH[ONE]}, NONE, NONE)
    assert "restart the kubelet" in raised.value.hint


async def test_a_plugin_that_ignores_the_signal_is_stuck_although_all_looks_right(node: NodeFolder) -> None:
    node.start_plugin(ONE_SOCKET, "--deaf")
    async with plugin_of(node, SocketKubelet(node.sockets, {ONE: BOTH[ONE]}), limit=0.5) as plugin:
        with pytest.raises(PluginStuck, match=r"the old socket .* is still there"):
            await plugin.reload({ONE: BOTH[ONE]}, NONE, NONE)


async def test_a_kubelet_that_is_away_for_a_moment_is_waited_for(node: NodeFolder) -> None:
    node.start_plugin(ONE_SOCKET)
    kubelet = SocketKubelet(node.sockets, {ONE: BOTH[ONE]})
    refusals = iter(range(3))

    def away() -> None:
        if next(refusals, None) is not None:
            raise KubeletUnavailable("restarting")

    kubelet.on_ask = away
    async with plugin_of(node, kubelet) as plugin:
        await plugin.reload({ONE: BOTH[ONE]}, NONE, NONE)


async def test_a_plugin_that_dies_while_it_looks_is_said_to_have_ended(node: NodeFolder) -> None:
    process = node.start_plugin(ONE_SOCKET, "--gap", "30")
    kubelet = SocketKubelet(node.sockets, {ONE: BOTH[ONE]})
    kubelet.on_gap = lambda: process.signal(signal.SIGKILL)
    async with plugin_of(node, kubelet, limit=0.5) as plugin:
        with pytest.raises(PluginStuck) as raised:
            await plugin.reload({ONE: BOTH[ONE]}, NONE, NONE)
    assert "ended while it looked" in raised.value.hint


async def test_without_a_plugin_there_is_nothing_to_reload(node: NodeFolder) -> None:
    async with plugin_of(node, SocketKubelet(node.sockets, {})) as plugin:
        assert not plugin.running()
        with pytest.raises(PluginAbsent, match="no process nvidia-device-plugin"):
            await plugin.reload({}, NONE, NONE)


async def test_two_plugins_are_one_too_many(node: NodeFolder) -> None:
    pids = [node.start_plugin(name).pid for name in (ONE_SOCKET, THREE_SOCKET)]
    async with plugin_of(node, SocketKubelet(node.sockets, BOTH)) as plugin:
        assert plugin.running()
        with pytest.raises(PluginStuck, match="more than one") as raised:
            await plugin.reload(BOTH, NONE, NONE)
    assert all(str(pid) in str(raised.value) for pid in pids)


async def test_a_users_process_that_calls_itself_the_plugin_is_left_alone(node: NodeFolder) -> None:
    node.start_plugin(ONE_SOCKET, THREE_SOCKET)
    impostor = node.run_impostor()
    async with plugin_of(node, SocketKubelet(node.sockets, BOTH)) as plugin:
        await plugin.reload(BOTH, NONE, NONE)
    assert impostor.state() == "S", "the signal would have ended it"


async def test_a_plugin_that_has_no_handler_yet_is_not_killed_by_the_signal(node: NodeFolder) -> None:
    starting = node.run(
        ["nvidia-device-plugin", "-S", "-c", "import signal; print('started', flush=True); signal.pause()"]
    )
    starting.wait_for("started")
    async with plugin_of(node, SocketKubelet(node.sockets, {}), limit=0.2) as plugin:
        with pytest.raises(PluginStuck, match="does not handle SIGHUP"):
            await plugin.reload({}, NONE, NONE)
    assert starting.state() in ("R", "S")


async def test_a_reload_that_is_cancelled_lets_the_plugin_go_on(node: NodeFolder) -> None:
    process = node.start_plugin(ONE_SOCKET, "--gap", "0.2")
    held = asyncio.Event()

    class Silent(SocketKubelet):
        async def allocatable(self) -> Mapping[str, frozenset[str]]:
            if self.gap():
                held.set()
                await asyncio.Event().wait()
            return await super().allocatable()

    async with plugin_of(node, Silent(node.sockets, {ONE: BOTH[ONE]})) as plugin:
        reload = asyncio.create_task(plugin.reload({ONE: BOTH[ONE]}, NONE, NONE))
        await held.wait()
        process.wait_for_state("T")
        reload.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reload
        process.wait_for("back")


async def test_a_plugin_that_was_left_stopped_goes_on_when_the_agent_starts(node: NodeFolder) -> None:
    process = node.start_plugin(ONE_SOCKET)
    process.signal(signal.SIGSTOP)
    process.wait_for_state("T")
    async with plugin_of(node, SocketKubelet(node.sockets, {})):
        process.wait_for("continued")


async def test_a_guardian_that_was_killed_is_replaced(node: NodeFolder) -> None:
    node.start_plugin(ONE_SOCKET)
    async with plugin_of(node, SocketKubelet(node.sockets, {ONE: BOTH[ONE]})) as plugin:
        first = plugin.guardian_pid
        kill(first)
        await plugin.reload({ONE: BOTH[ONE]}, NONE, NONE)
        assert plugin.guardian_pid != first


async def test_without_an_answer_of_the_guardian_the_plugin_is_left_alone(node: NodeFolder) -> None:
    process = node.start_plugin(ONE_SOCKET)
    async with plugin_of(node, SocketKubelet(node.sockets, {ONE: BOTH[ONE]})) as plugin:
        first = plugin.guardian_pid
        os.kill(first, signal.SIGSTOP)
        with pytest.raises(PluginStuck, match="the plugin was left alone"):
            await plugin.reload({ONE: BOTH[ONE]}, NONE, NONE)
        assert "hangup" not in process.listen()
        await plugin.reload({ONE: BOTH[ONE]}, NONE, NONE)
        assert plugin.guardian_pid != first


async def test_others_are_nudged_by_their_name_and_may_be_absent(node: NodeFolder) -> None:
    discovery = node.start_plugin(name="gpu-feature-discovery")
    async with plugin_of(node, SocketKubelet(node.sockets, {})) as plugin:
        assert await plugin.nudge("gpu-feature-discovery") == 1
        assert await plugin.nudge("dcgm-exporter") == 0
    discovery.wait_for("hangup")
