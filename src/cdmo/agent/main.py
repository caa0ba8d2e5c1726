"""The agent's wiring: every task of the process is named here."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from cdmo.agent.apply import Applier
from cdmo.agent.change import NodeChange, Phase, Progress, QuietLimits
from cdmo.agent.fence import Fence, FenceLimits
from cdmo.agent.journal import Journal
from cdmo.agent.loop import AgentLoop, LoopSettings
from cdmo.agent.observe import Observer
from cdmo.hardware.library import DriverSearch
from cdmo.hardware.nvml import NvmlGpus
from cdmo.kube.client import KubeClient
from cdmo.kube.connect import ConnectSettings, connect
from cdmo.kubelet.devicenodes import CapabilityNodes, NodeKind
from cdmo.kubelet.deviceplugin import NvidiaDevicePlugin
from cdmo.kubelet.podresources import KubeletPodResources
from cdmo.kubelet.processes import ProcessTable
from cdmo.runtime.clock import Clock
from cdmo.runtime.hostpaths import HostPaths
from cdmo.runtime.run import run_until_signalled
from cdmo.runtime.worker import Worker

logger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class AgentSettings:
    """Everything the agent can be told. Seconds."""

    node: str
    connect: ConnectSettings
    paths: HostPaths
    driver_root: str = ""  # on the host; empty: found at start
    device_node_kind: NodeKind = NodeKind.CHARACTER
    loop: LoopSettings = field(default_factory=LoopSettings)
    fence: FenceLimits = field(default_factory=FenceLimits)
    quiet: QuietLimits = field(default_factory=QuietLimits)
    reload_limit: float = 3.0  # for the device plugin to come back
    change_limit: float = 25.0  # how long a change under way is waited for when the process is told to end


class LoggedProgress:
    """Says in the log where a change is."""

    def entered(self, phase: Phase) -> None:
        """Log the phase."""
        logger.debug("change", phase=phase)


async def run_agent(
    settings: AgentSettings, environment: Mapping[str, str], clock: Clock, progress: Progress
) -> None:
    """Run until signalled. Raises CdmoError when it cannot even begin."""
    async with AsyncExitStack() as stack:
        paths = settings.paths
        paths.boot_id()  # a wrong --root is told at once
        connection = await stack.enter_async_context(connect(settings.connect, environment))
        await connection.check()
        kubelet = await stack.enter_async_context(KubeletPodResources(paths.pod_resources_socket, clock=clock))
        plugin = await stack.enter_async_context(
            NvidiaDevicePlugin(
                processes=ProcessTable(paths.proc),
                sockets=paths.device_plugins,
                pods=kubelet,
                clock=clock,
                limit=settings.reload_limit,
            )
        )
        worker = Worker("nvml")
        stack.callback(worker.close)
        await _serve(settings, KubeClient(connection, clock, random.random), kubelet, plugin, worker, clock, progress)


async def _serve(
    settings: AgentSettings,
    client: KubeClient,
    kubelet: KubeletPodResources,
    plugin: NvidiaDevicePlugin,
    worker: Worker,
    clock: Clock,
    progress: Progress,
) -> None:
    """Make the parts, start the tasks."""
    name, paths = settings.node, settings.paths

    def changed(*_: object) -> None:
        loop.wake()

    here = f"metadata.name={name}"
    nodes = client.nodes(changed, field_selector=here)
    mignodes = client.mig_node_mirror(changed, field_selector=here)
    pods = client.pods(changed, field_selector=f"spec.nodeName={name}")
    recorder = client.recorder("cdmo-agent", name)

    search = DriverSearch(paths, settings.driver_root)
    gpus = NvmlGpus(lambda: search().library, time.sleep)
    observer = Observer(gpus, kubelet, worker, lambda: tuple(pods.items.values()))
    capability_nodes = CapabilityNodes(paths, lambda: search().dev_roots, settings.device_node_kind)
    fence = Fence(client.fence(), name, clock, settings.fence)
    journal = Journal(journal_path(paths))
    change = NodeChange(
        name,
        fence=fence,
        api=client.fence(),
        observer=observer,
        applier=Applier(gpus, gpus, capability_nodes, worker),
        plugin=plugin,
        journal=journal,
        clock=clock,
        progress=progress,
        quiet=settings.quiet,
    )
    loop = AgentLoop(
        name,
        mirror=lambda: (
            (nodes.items.get(name), mignodes.items.get(name)) if pods.synced and nodes.synced else (None, None)
        ),
        pods_here=lambda: tuple(pods.items.values()),
        observer=observer,
        pods=kubelet,
        change=change,
        journal=journal,
        mignodes=client.mig_nodes(),
        events=recorder,
        boot_id=paths.boot_id,
        clock=clock,
        settings=settings.loop,
    )

    async def work() -> None:
        for each in (nodes, mignodes, pods):
            await each.wait_synced()
        await loop.run()

    async def finish() -> None:
        loop.stop()
        await loop.ended.wait()

    await run_until_signalled(
        {
            "watch node": nodes.run,
            "watch mignode": mignodes.run,
            "watch pods": pods.run,
            "events": recorder.run,
            "node": work,
        },
        finish=finish,
        finish_limit=settings.change_limit,
    )


def journal_path(paths: HostPaths) -> Path:
    """Where the journal lies on a host."""
    return paths.state / "journal.json"
