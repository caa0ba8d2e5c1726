"""The agent's wiring: every task of the process is named here."""

from __future__ import annotations

import gc
import os
import random
import secrets
import time
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog

from cdmo.agent.apply import Applier
from cdmo.agent.change import PHASE_LIMITS, NodeChange, Phase, Progress, QuietLimits
from cdmo.agent.fence import Fence, FenceLimits
from cdmo.agent.journal import Journal
from cdmo.agent.loop import AgentLoop, LoopSettings
from cdmo.agent.lost_modes import LostModes
from cdmo.agent.marker import Marker
from cdmo.agent.metrics import AgentMetrics, asked
from cdmo.agent.observe import Observer
from cdmo.agent.status import Heart, StatusKeeper
from cdmo.agent.watch import ChangeWatch
from cdmo.agent.whole_gpus import WholeGpus
from cdmo.agent.witness import Witness
from cdmo.agent.xid_bell import XidBell
from cdmo.hardware.kernel_log import KernelLog
from cdmo.hardware.library import DriverSearch
from cdmo.hardware.nvml import NvmlGpus
from cdmo.hardware.reset import GpuReset
from cdmo.hardware.watched import WatchedGpus
from cdmo.kube.client import KubeClient
from cdmo.kube.connect import ConnectSettings, connect
from cdmo.kubelet.devicenodes import CapabilityNodes, NodeKind
from cdmo.kubelet.deviceplugin import NvidiaDevicePlugin
from cdmo.kubelet.podresources import KubeletPodResources
from cdmo.kubelet.processes import ProcessTable
from cdmo.model.names import NAMESPACE, SCHEDULER
from cdmo.runtime.clock import Clock
from cdmo.runtime.hostpaths import HostPaths
from cdmo.runtime.pulse import Pulse
from cdmo.runtime.run import run_until_signalled
from cdmo.runtime.worker import Worker
from cdmo.serving.asked import Watch, common, register
from cdmo.serving.health import Health, watched
from cdmo.serving.settings import LOOPBACK, ServingSettings
from cdmo.serving.start import server_of

logger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class DriverLimits:
    """How long a driver call may take before it counts as hung. Seconds.

    Without persistence mode the driver first initialises every GPU in each reading, some seconds for each of them.
    """

    read: float = 20.0
    change: float = 30.0
    reset: float = 25.0  # of the program that resets a GPU; less than `change`, which holds for it too


@dataclass(frozen=True, slots=True)
class AgentSettings:
    """Everything the agent can be told. Seconds."""

    node: str
    connect: ConnectSettings
    paths: HostPaths
    namespace: str = NAMESPACE  # CDMO's own
    scheduler: str = SCHEDULER  # the one that is asked whether it knows of a change
    driver_root: str = ""  # on the host; empty: found at start
    device_node_kind: NodeKind = NodeKind.CHARACTER
    serving: ServingSettings = LOOPBACK
    loop: LoopSettings = field(default_factory=LoopSettings)
    fence: FenceLimits = field(default_factory=FenceLimits)
    quiet: QuietLimits = field(default_factory=QuietLimits)
    phases: Mapping[Phase, float] = field(default_factory=lambda: PHASE_LIMITS)
    driver: DriverLimits = field(default_factory=DriverLimits)
    reload_limit: float = 3.0  # for the device plugin to come back
    change_limit: float = 25.0  # how long a change under way is waited for when the process is told to end
    heartbeat_every: float = 10.0
    beat_pause: float = 2.0  # between two looks whether a heartbeat is due
    stuck_after: float = 240.0  # without any progress; the longest wait is a look and some calls of the API server


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
        await connection.begin()
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
        agent = _Agent(settings, KubeClient(connection, clock, random.random), kubelet, plugin, clock, progress)
        stack.callback(agent.worker.close)
        await agent.run()


class _Agent:
    """The parts of the process, made in the order in which they need each other."""

    def __init__(
        self,
        settings: AgentSettings,
        client: KubeClient,
        kubelet: KubeletPodResources,
        plugin: NvidiaDevicePlugin,
        clock: Clock,
        progress: Progress,
    ) -> None:
        self._settings = settings
        self._client = client
        self._clock = clock
        name = settings.node
        self._nodes, self._fence_api = client.own_node(name, self._changed)
        self._mignodes = client.mig_node_mirror(self._changed, field_selector=f"metadata.name={name}")
        self._pods = client.pods(self._changed, field_selector=f"spec.nodeName={name}")
        self._recorder = client.recorder("cdmo-agent", name)
        self._metrics = AgentMetrics()
        self._pulse = Pulse(clock, settings.stuck_after)
        self._watch = ChangeWatch(progress, clock, settings.phases, self._phase_ended)
        self._status = StatusKeeper(name, client.mig_nodes(), clock, settings.heartbeat_every)
        self.worker = Worker("nvml", clock, settings.driver.read, self._driver_returned)
        self._loop = self._new_loop(kubelet, plugin)
        for each in (self._nodes, self._mignodes, self._pods):
            each.when_synced(self._loop.wake)  # a round in which one was not was none
        self._heart = Heart(
            self._status,
            self._pulse,
            self._watch,
            sink=self._recorder,
            node=lambda: self._nodes.items.get(name),
            clock=clock,
            pause=settings.beat_pause,
        )

    async def run(self) -> None:
        """Serve and work until signalled."""
        register(
            self._metrics.registry,
            (
                *common(self._watches(), lambda: self._recorder.queued, lambda: self._recorder.dropped),
                *asked(
                    self.worker,
                    ready=lambda: not self._loop.trouble,
                    heartbeat_age=lambda: self._status.age,
                ),
            ),
        )
        server = server_of(
            self._settings.serving,
            self._health(),
            self._metrics.registry,
            self._client.access_review(),
            f"cdmo-agent {self._settings.node}",
            self._clock,
        )
        tasks: dict[str, Callable[[], Coroutine[Any, Any, None]]] = {
            "watch node": self._nodes.run,
            "watch mignode": self._mignodes.run,
            "watch pods": self._pods.run,
            "events": self._recorder.run,
            "heartbeat": self._heart.run,
            "kernel log": XidBell(KernelLog(self._settings.paths.dev / "kmsg"), self._changed, self._clock).run,
            "serving": server.run,
            "node": self._work,
        }
        await run_until_signalled(tasks, finish=self._finish, finish_limit=self._settings.change_limit)

    async def _work(self) -> None:
        for each in (self._nodes, self._mignodes, self._pods):
            # Without the API server nothing can be done, however long that lasts: this process is not stuck.
            await each.wait_synced()
        gc.freeze()  # what there is now mostly stays: no collection in the middle of a change looks through it
        self._pulse.mark("the first round")
        await self._loop.run()

    async def _finish(self) -> None:
        self._loop.stop()
        await self._loop.ended.wait()

    def _witness(self, name: str) -> Witness:
        asked = self._client.witness(self._settings.namespace, self._settings.scheduler)
        # 64 bits: another change of this node has another word, this process' or an earlier one's.
        return Witness(asked, name, self._clock, lambda: secrets.token_hex(8), self._settings.fence.heard)

    def _changed(self, *_: object) -> None:
        self._loop.wake()

    def _phase_ended(self, phase: Phase, seconds: float) -> None:
        self._metrics.phase_ended(phase, seconds)
        self._pulse.mark()

    def _driver_returned(self, late: bool) -> None:
        self._pulse.mark()
        if late:
            self._loop.driver_answered()

    def _watches(self) -> tuple[Watch, ...]:
        return (
            Watch("nodes", lambda: self._nodes.synced, lambda: len(self._nodes.items)),
            Watch("mignodes", lambda: self._mignodes.synced, lambda: len(self._mignodes.items)),
            Watch("pods", lambda: self._pods.synced, lambda: len(self._pods.items)),
        )

    def _health(self) -> Health:
        return Health(
            live={"rounds": lambda: self._pulse.stuck() if self._loop.running else ""},
            ready=dict(
                [
                    *(watched(each.kind, each.synced) for each in self._watches()),
                    ("node", lambda: self._loop.trouble),
                ]
            ),
        )

    def _new_loop(self, kubelet: KubeletPodResources, plugin: NvidiaDevicePlugin) -> AgentLoop:
        settings, fence_api, clock = self._settings, self._fence_api, self._clock
        name, paths = settings.node, settings.paths
        nodes, mignodes, pods = self._nodes, self._mignodes, self._pods
        search = DriverSearch(paths, settings.driver_root)
        reset = GpuReset(search, paths.proc, os.environ, settings.driver.reset)
        nvml = NvmlGpus(lambda: search().library, time.sleep, self.worker.check_wanted, reset)
        gpus = WatchedGpus(nvml, KernelLog(paths.dev / "kmsg"), paths.state / "health.json", paths.boot_id)
        observer = Observer(gpus, kubelet, self.worker, lambda: tuple(pods.items.values()))
        capability_nodes = CapabilityNodes(paths, lambda: search().dev_roots, settings.device_node_kind)
        journal = Journal(journal_path(paths))
        change = NodeChange(
            name,
            fence=Fence(fence_api, name, clock, settings.fence, self._witness(name)),
            api=fence_api,
            observer=observer,
            applier=Applier(gpus, gpus, capability_nodes, self.worker, settings.driver.change),
            plugin=plugin,
            whole_gpus=WholeGpus(name, fence_api, kubelet, clock),
            journal=journal,
            clock=clock,
            progress=self._watch,
            quiet=settings.quiet,
            limits=settings.phases,
        )
        return AgentLoop(
            mirror=lambda: (
                (nodes.items.get(name), mignodes.items.get(name)) if pods.synced and nodes.synced else (None, None)
            ),
            pods_here=lambda: tuple(pods.items.values()),
            observer=observer,
            pods=kubelet,
            change=change,
            watch=self._watch,
            journal=journal,
            lost_modes=LostModes(paths.state / "lost-modes.json"),
            marker=Marker(fence_api),
            status=self._status,
            events=self._recorder,
            metrics=self._metrics,
            pulse=self._pulse,
            boot_id=paths.boot_id,
            clock=clock,
            settings=settings.loop,
        )


def journal_path(paths: HostPaths) -> Path:
    """Where the journal lies on a host."""
    return paths.state / "journal.json"
