"""Faults of nodes: kubelet, device plugin, the host itself, and people who edit what belongs to CDMO."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from random import Random
from typing import Any

from cdmo.model.names import REPARTITIONING_TAINT
from cdmo_harness.chaos.schedule import FaultKind, Planned, Where
from cdmo_harness.chaos.stage import LABELLED, Stage, until
from cdmo_harness.errors import ControlPlaneError, HarnessError
from cdmo_harness.threads import to_the_end

_FENCE_LIMIT = 20.0  # seconds that a change is waited for
_MIGNODES = "/apis/cdmo.clear.ml/v1alpha1/mignodes"


@asynccontextmanager
async def kubelet_restarted(stage: Stage, fault: Planned) -> AsyncIterator[None]:
    """As an administrator does it; its pods run on."""
    async with stage.losing_pods(fault.target, fault.kind):
        await stage.restart_kubelet(fault.target)
        yield


@asynccontextmanager
async def kubelet_killed(stage: Stage, fault: Planned) -> AsyncIterator[None]:
    """SIGKILL while the node changes, and a start at once."""
    await until(lambda: stage.fenced(fault.target), limit=_FENCE_LIMIT, pause=0.01)
    async with stage.losing_pods(fault.target, fault.kind):
        await stage.restart_kubelet(fault.target, crash=True)
        yield


@asynccontextmanager
async def kubelet_paused(stage: Stage, fault: Planned) -> AsyncIterator[None]:
    """SIGSTOP, what a starved kubelet looks like."""
    async with stage.node_locks[fault.target]:
        with stage.node(fault.target).paused_kubelet():
            yield


@asynccontextmanager
async def kubelet_stalled_in_a_change(stage: Stage, fault: Planned) -> AsyncIterator[None]:
    """Short pauses all through a change: one of them covers the moment when the plugin comes back."""
    await until(lambda: stage.fenced(fault.target), limit=_FENCE_LIMIT, pause=0.01)
    random = Random(fault.seed)
    async with stage.node_locks[fault.target]:
        for _ in range(6):
            with stage.node(fault.target).paused_kubelet():
                await asyncio.sleep(random.uniform(0.02, 0.2))
            await asyncio.sleep(random.uniform(0.01, 0.1))
        yield


@asynccontextmanager
async def kubelet_ticks(stage: Stage, fault: Planned) -> AsyncIterator[None]:
    """A node status five times a second: what CDMO wrote there is set back at every moment, the worst included."""
    before = stage.node(fault.target).setup.status_period
    async with stage.losing_pods(fault.target, fault.kind):
        await stage.restart_kubelet(fault.target, status_period=0.2)
    try:
        yield
    finally:
        async with stage.losing_pods(fault.target, fault.kind):
            await stage.restart_kubelet(fault.target, status_period=before)


@asynccontextmanager
async def plugin_too_early(stage: Stage, fault: Planned) -> AsyncIterator[None]:
    """Somebody signals the plugin beside CDMO, and the kubelet is slow to see that it went: on 1.37 the kubelet is
    broken from then on and must be restarted, which happens at the end."""
    node = stage.node(fault.target)
    async with stage.losing_pods(fault.target, fault.kind):
        await stage.restart_kubelet(fault.target, stream_end_delay=0.3)
        try:
            with suppress(HarnessError):  # the plugin is down, or just starting
                await asyncio.to_thread(node.reload_plugin)
            yield
        finally:
            await stage.restart_kubelet(fault.target, stream_end_delay=0.0)


@asynccontextmanager
async def pod_resources_slow(stage: Stage, fault: Planned) -> AsyncIterator[None]:
    """Every answer of the kubelet's PodResources socket takes long."""
    node, seconds = stage.node(fault.target), Random(fault.seed).choice((0.2, 1.0, 4.0))
    await asyncio.to_thread(node.slow_pod_resources, seconds)
    try:
        yield
    finally:
        await asyncio.to_thread(node.slow_pod_resources, 0.0)


@asynccontextmanager
async def plugin_gone(stage: Stage, fault: Planned) -> AsyncIterator[None]:
    """The device plugin ends and does not come back for a while."""
    node = stage.node(fault.target)
    async with stage.losing_pods(fault.target, fault.kind), stage.node_locks[fault.target]:
        await to_the_end(node.stop_plugin)
        try:
            yield
        finally:
            await to_the_end(node.start_plugin)


@asynccontextmanager
async def plugin_paused(stage: Stage, fault: Planned) -> AsyncIterator[None]:
    """SIGSTOP: the plugin is there and answers nothing."""
    async with stage.node_locks[fault.target]:
        try:
            with stage.node(fault.target).paused_plugin():
                yield
        except HarnessError:  # it has ended: nothing to pause, or to let go on
            return


@asynccontextmanager
async def node_rebooted(stage: Stage, fault: Planned) -> AsyncIterator[None]:
    """Power goes: processes, containers and slices with it, on Hopper the MIG mode too."""
    async with stage.losing_pods(fault.target, fault.kind):
        await stage.reboot(fault.target)
        yield


@asynccontextmanager
async def label_removed(stage: Stage, fault: Planned) -> AsyncIterator[None]:
    """The administrator takes the node from CDMO, and gives it back."""
    await stage.label(fault.target, dict.fromkeys(LABELLED))
    try:
        yield
    finally:
        await stage.label(fault.target, LABELLED)


@asynccontextmanager
async def taint_removed(stage: Stage, fault: Planned) -> AsyncIterator[None]:
    """A person takes CDMO's taint away in the middle of a change; the fence proper stands.

    The taint also tells the scheduler of the change: without it one that has not heard of a smaller count yet binds
    after the fence is down, and the pod is refused. So a pod may be lost, but a slice never. The fence's label is
    left alone: without it binds pass in the middle of the change, and that is what it is there to prevent.
    """
    await until(lambda: stage.fenced(fault.target), limit=_FENCE_LIMIT, pause=0.01)
    api, path = stage.cluster.control_plane.api, f"/api/v1/nodes/{fault.target}"
    async with stage.losing_pods(fault.target, fault.kind):
        with suppress(ControlPlaneError):  # the API server is away, or the agent was faster
            taints = (await asyncio.to_thread(api.get, path))["spec"].get("taints") or []
            kept = [each for each in taints if each["key"] != REPARTITIONING_TAINT]
            if kept != taints:
                await asyncio.to_thread(api.patch, path, {"spec": {"taints": kept}})
        yield


@asynccontextmanager
async def spec_edited(stage: Stage, fault: Planned) -> AsyncIterator[None]:
    """A person writes rubbish into a MigNode; what the API server itself refuses is rubbish enough."""
    gpus = _rubbish(Random(fault.seed), [each.pci_bus_id for each in stage.node(fault.target).setup.gpus])
    api = stage.cluster.control_plane.api
    with suppress(ControlPlaneError):
        await asyncio.to_thread(api.patch, f"{_MIGNODES}/{fault.target}", {"spec": {"gpus": gpus}})
    yield


def _rubbish(random: Random, buses: list[str]) -> list[dict[str, Any]]:
    bus = random.choice(buses)
    choices: tuple[list[dict[str, Any]], ...] = (
        [],
        [{"pciBusId": bus, "layout": []}],
        [{"pciBusId": "00000000:FF:00.0", "layout": [{"profileId": 0, "start": 0}]}],
        [{"pciBusId": bus, "layout": [{"profileId": 19, "start": 0}, {"profileId": 9, "start": 0}]}],
        [{"pciBusId": bus, "layout": [{"profileId": 77, "start": 3}]}],
        [{"pciBusId": bus, "layout": [{"profileId": 9, "start": 1}]}],
        [{"pciBusId": bus, "layout": [{"profileId": 19, "start": -4}]}],
        [{"pciBusId": "../../etc/passwd", "layout": []}],
    )
    return random.choice(choices)


_KUBELET = ("kubelet/{}", "plugin/{}")
_WHOLE_NODE = ("kubelet/{}", "plugin/{}", "agent/{}", "gpus/{}", "disk/{}")

NODES = (
    FaultKind("kubelet restarted", kubelet_restarted, Where.NODE, (0.5, 2.0), _KUBELET, loses_pods=True),
    FaultKind("kubelet killed in a change", kubelet_killed, Where.NODE, (0.5, 2.0), _KUBELET, loses_pods=True),
    FaultKind("kubelet paused", kubelet_paused, Where.NODE, (0.5, 8.0), _KUBELET, weight=2),
    FaultKind("kubelet stalls in a change", kubelet_stalled_in_a_change, Where.NODE, (0.1, 0.2), _KUBELET, weight=3),
    FaultKind("kubelet ticks all the time", kubelet_ticks, Where.NODE, (5.0, 15.0), _KUBELET, loses_pods=True),
    FaultKind("plugin registers too early", plugin_too_early, Where.NODE, (3.0, 8.0), _KUBELET, loses_pods=True),
    FaultKind("PodResources slow", pod_resources_slow, Where.NODE, (2.0, 10.0), ("pod resources/{}",)),
    FaultKind("plugin gone", plugin_gone, Where.NODE, (1.0, 8.0), _KUBELET, loses_pods=True),
    FaultKind("plugin paused", plugin_paused, Where.NODE, (0.5, 8.0), _KUBELET, weight=2),
    FaultKind("node rebooted", node_rebooted, Where.NODE, (1.0, 2.0), _WHOLE_NODE, loses_pods=True),
    FaultKind("node label removed", label_removed, Where.NODE, (0.5, 6.0), ("label/{}",)),
    FaultKind("taint removed by hand", taint_removed, Where.NODE, (0.1, 0.5), ("taint/{}",), loses_pods=True),
    FaultKind("MigNode edited by hand", spec_edited, Where.NODE, (0.1, 0.5), ("spec/{}",), weight=2),
)
