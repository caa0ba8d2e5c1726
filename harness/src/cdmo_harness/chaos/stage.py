"""The cluster that chaos happens to: what faults do to it, in one place."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import structlog

from cdmo.agent.main import journal_path
from cdmo.api.v1alpha1 import Condition
from cdmo.model.cluster import carries_fence
from cdmo.model.names import PARTITIONING_LABEL, PARTITIONING_VALUE
from cdmo.model.reasons import ConditionType, ReadyReason
from cdmo.runtime.hostpaths import HostPaths
from cdmo_harness.api_proxy import ApiProxy
from cdmo_harness.chaos.cdmo_with_knobs import CARELESS, DISK_FULL_FILE, OFFSET_FILE
from cdmo_harness.chaos.supervisor import Supervisor
from cdmo_harness.errors import ControlPlaneError
from cdmo_harness.local_cluster import NAMESPACE, LocalCluster, base_environment
from cdmo_harness.observer import ClusterView
from cdmo_harness.processes import ManagedProcess
from cdmo_harness.simulated_node import SimulatedNode
from cdmo_harness.threads import to_the_end

_log = structlog.get_logger(__name__)

CONTROLLERS = ("controller-1", "controller-2")
LABELLED = {PARTITIONING_LABEL: PARTITIONING_VALUE}

# Shorter than the longest hang that a fault makes, so that the agent has to give a call up.
_DRIVER_LIMITS = ("--driver-read-limit=5", "--driver-change-limit=8")
_REPORT_LIMIT = 60.0  # seconds until every agent has reported its node
_API_LIMIT = 60.0  # for which a call is tried again while the API server is away
_RETRY_SECONDS = 0.3
_BOOT_LIMIT = 30.0  # for a Node to show a new boot
# Seconds that the alarm "restart the kubelet" stands before somebody does; and between two looks.
_ALARM_SECONDS = 6.0
_ALARM_LOOK_SECONDS = 0.5


@dataclass(slots=True, eq=False)
class Window:
    """A time in which a node loses pods also without CDMO. Seconds of the monotonic clock."""

    node: str
    kind: str
    began: float
    ended: float | None = None  # None while it lasts
    # Set where only pods for which devices are too few are lost, and only while the driver's count of destroyed GPU
    # instances is still this.
    destroyed: int | None = None


@dataclass(slots=True)
class Stage:
    """A running cluster with CDMO at work. Faults and the load act through it; calls that block go to threads."""

    cluster: LocalCluster
    view: ClusterView
    proxy: ApiProxy
    supervisor: Supervisor
    clock_file: Path
    node_locks: dict[str, asyncio.Lock] = field(default_factory=dict)  # held by who stops a node's kubelet or plugin
    open: set[str] = field(default_factory=set)  # "namespace/name" of submitted pods that have not ended
    deleted: set[str] = field(default_factory=set)  # of these, the ones that a user deleted
    windows: list[Window] = field(default_factory=list)
    rebooting: set[str] = field(default_factory=set)
    interrupted_changes: int = 0  # starts of an agent that found a journal or its fence
    kubelets_healed: int = 0  # restarts that the alarm asked for

    @property
    def nodes(self) -> tuple[str, ...]:
        """The names of all nodes."""
        return tuple(self.cluster.nodes)

    def node(self, name: str) -> SimulatedNode:
        """A node."""
        node = self.cluster.nodes[name]
        assert isinstance(node, SimulatedNode), "chaos needs the knobs of the kubelet stand-in"
        return node

    def journal(self, name: str) -> Path:
        """Where a node's agent keeps its journal."""
        return journal_path(HostPaths(self.node(name).root))

    def disk_full(self, name: str) -> Path:
        """The file that, while it is there, leaves no room on a node's disk."""
        return self.node(name).folder / "disk-full"

    def fenced(self, name: str) -> bool:
        """Whether a node carries the fence or its taint, as far as this process has seen."""
        node = self.view.nodes.get(name)
        return node is not None and carries_fence(node)

    def ready(self, name: str) -> Condition | None:
        """The Ready condition of a MigNode."""
        mignode = self.view.mignodes.get(name)
        conditions = () if mignode is None else mignode.status.conditions
        return next((each for each in conditions if each.type == ConditionType.READY), None)

    async def api(self, call: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """A call of the administrator, tried again while the API server is away or refuses for a passing reason."""
        deadline = time.monotonic() + _API_LIMIT
        while True:
            try:
                return await asyncio.to_thread(call, *arguments, **options)
            except ControlPlaneError:
                if time.monotonic() >= deadline:
                    raise
                await asyncio.sleep(_RETRY_SECONDS)

    async def label(self, name: str, labels: Mapping[str, str | None]) -> None:
        """Set or remove labels of a Node."""
        await self.api(
            self.cluster.control_plane.api.patch, f"/api/v1/nodes/{name}", {"metadata": {"labels": dict(labels)}}
        )

    async def delete(self, path: str, *, grace_seconds: int | None = None) -> None:
        """Delete an object; one that is gone already is no trouble."""

        def delete() -> None:
            try:
                self.cluster.control_plane.api.delete(path, grace_seconds=grace_seconds)
            except ControlPlaneError as error:
                if "(404)" not in str(error):
                    raise

        await self.api(delete)

    async def boot_of(self, name: str) -> str:
        """The boot id that a Node shows; empty when nobody can say."""
        try:
            node = await asyncio.to_thread(self.cluster.control_plane.api.get, f"/api/v1/nodes/{name}")
        except ControlPlaneError:
            return ""
        return str(node["status"]["nodeInfo"]["bootID"])

    @asynccontextmanager
    async def losing_pods(self, name: str, kind: str) -> AsyncIterator[None]:
        """Inside the block the node loses pods whatever CDMO does."""
        window = Window(name, kind, time.monotonic())
        self.windows.append(window)
        try:
            yield
        finally:
            window.ended = time.monotonic()

    @asynccontextmanager
    async def losing_answers(self, kind: str) -> AsyncIterator[None]:
        """Inside the block answers to binds get lost: the scheduler gives the slice of such a pod away once more.

        Nodes in a change are left out: what is lost there may be lost to CDMO.
        """
        windows = [
            Window(name, kind, time.monotonic(), destroyed=self.destroyed(name))
            for name in self.nodes
            if not self.fenced(name)
        ]
        self.windows += windows
        try:
            yield
        finally:
            for window in windows:
                window.ended = time.monotonic()

    def destroyed(self, name: str) -> int:
        """How many GPU instances of a node were destroyed so far, as the driver counts."""
        return self.node(name).driver.counters().gpu_instances_destroyed

    async def restart_kubelet(self, name: str, *, crash: bool = False, **settings: Any) -> None:
        """Restart a node's kubelet, with other settings of NodeSetup if any are given."""
        node = self.node(name)
        async with self.node_locks[name]:
            node.setup = replace(node.setup, **settings)
            if crash and node.kubelet is not None:
                node.kubelet.stop(grace=0)
            await asyncio.to_thread(node.restart_kubelet)

    async def reboot(self, name: str) -> None:
        """Power goes and comes back; returns when the Node shows the new boot.

        Until then the scheduler counts on slices that went with the power.
        """
        node = self.node(name)
        self.rebooting.add(name)
        try:
            async with self.node_locks[name]:
                await self.supervisor.kill(f"agent-{name}")
                await to_the_end(node.reboot)
        finally:
            self.rebooting.discard(name)
            await self.supervisor.bring_back(f"agent-{name}")
        boot = (node.root / "proc/sys/kernel/random/boot_id").read_text().strip()

        async def shown() -> bool:
            return await self.boot_of(name) == boot

        await until(shown, limit=_BOOT_LIMIT)

    async def heal_kubelets(self) -> None:
        """Be the administrator who restarts a kubelet when a Node's alarm asks for it; until cancelled."""
        since: dict[str, float] = {}
        while True:
            await asyncio.sleep(_ALARM_LOOK_SECONDS)
            for name in self.nodes:
                if not self._asks_for_restart(name):
                    since.pop(name, None)
                    continue
                began = since.setdefault(name, time.monotonic())
                if time.monotonic() - began < _ALARM_SECONDS or self.node_locks[name].locked():
                    continue
                del since[name]
                _log.info("kubelet restarted, as the alarm asks", node=name)
                async with self.losing_pods(name, "kubelet healed"):
                    await self.restart_kubelet(name)
                self.kubelets_healed += 1

    def _asks_for_restart(self, name: str) -> bool:
        ready = self.ready(name)
        return ready is not None and ready.reason == ReadyReason.PLUGIN_STUCK and "kubelet" in ready.message

    def agent_started(self, role: str) -> None:
        """Count the starts that find an open change."""
        name = role.removeprefix("agent-")
        if name in self.cluster.nodes and (self.journal(name).exists() or self.fenced(name)):
            self.interrupted_changes += 1


@asynccontextmanager
async def running(cluster: LocalCluster, seed: int, *, careless: bool = False) -> AsyncIterator[Stage]:
    """The cluster with its nodes labelled and CDMO at work behind the API proxy; all stopped at the end."""
    knobs = {CARELESS: "1"} if careless else {}
    try:
        await to_the_end(cluster.start)
        plane = cluster.control_plane
        async with ClusterView(plane.admin_kubeconfig, plane.api) as view:
            await view.watch_mignodes()
            async with _proxied(cluster, view, seed, knobs) as stage:
                yield stage
    finally:
        await asyncio.to_thread(cluster.stop)


@asynccontextmanager
async def _proxied(
    cluster: LocalCluster, view: ClusterView, seed: int, knobs: Mapping[str, str]
) -> AsyncIterator[Stage]:
    plane = cluster.control_plane
    with ApiProxy.for_control_plane(plane, seed=seed) as proxy:
        clock_file = plane.directory / "clock-offset"
        stage: Stage | None = None

        def started(role: str) -> None:
            if stage is not None:
                stage.agent_started(role)

        supervisor = Supervisor(started)
        stage = Stage(cluster, view, proxy, supervisor, clock_file)
        stage.node_locks = {name: asyncio.Lock() for name in cluster.nodes}
        tasks: list[asyncio.Task[None]] = []
        try:
            await _start_cdmo(stage, knobs)
            tasks += [asyncio.create_task(supervisor.run()), asyncio.create_task(stage.heal_kubelets())]
            yield stage
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await supervisor.stop()


async def _start_cdmo(stage: Stage, knobs: Mapping[str, str]) -> None:
    cluster, plane = stage.cluster, stage.cluster.control_plane
    environment = {OFFSET_FILE: str(stage.clock_file), **knobs}
    launcher = (sys.executable, "-m", "cdmo_harness.chaos.cdmo_with_knobs")
    for name in cluster.nodes:
        await stage.label(name, LABELLED)
        token = await asyncio.to_thread(plane.service_account_kubeconfig, NAMESPACE, "cdmo-agent", node=name)
        kubeconfig = stage.proxy.kubeconfig_for(token, f"agent-{name}")

        def start_agent(name: str = name, kubeconfig: Path = kubeconfig) -> ManagedProcess:
            command = (*launcher, "agent", *_DRIVER_LIMITS)
            turned = {**environment, DISK_FULL_FILE: str(stage.disk_full(name))}
            cluster.start_agent(name, command=command, environment=turned, kubeconfig=kubeconfig)
            return cluster.agents.pop(name)

        await stage.supervisor.add(f"agent-{name}", start_agent)
    token = await asyncio.to_thread(plane.service_account_kubeconfig, NAMESPACE, "cdmo-controller")
    for name in CONTROLLERS:
        kubeconfig = stage.proxy.kubeconfig_for(token, name)
        command = [*launcher, "controller", f"--kubeconfig={kubeconfig}", f"--lease-namespace={NAMESPACE}"]

        def start_controller(name: str = name, command: list[str] = command) -> ManagedProcess:
            return ManagedProcess(
                name, command, folder=plane.directory, environment={**base_environment(), **environment}
            )

        await stage.supervisor.add(name, start_controller)
    await stage.view.wait(
        "every agent reports its node",
        lambda: all((ready := stage.ready(each)) is not None and ready.status == "True" for each in cluster.nodes),
        limit=_REPORT_LIMIT,
    )


async def until(holds: Callable[[], bool | Awaitable[bool]], *, limit: float, pause: float = 0.05) -> bool:
    """Whether a condition came to hold within `limit` seconds."""
    deadline = time.monotonic() + limit
    while time.monotonic() < deadline:
        answer = holds()
        if answer if isinstance(answer, bool) else await answer:
            return True
        await asyncio.sleep(pause)
    return False
