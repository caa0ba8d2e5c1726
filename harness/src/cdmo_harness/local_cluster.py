"""A whole local cluster with CDMO at work: control plane, simulated GPU nodes, agents and controllers.

Every part is a process of its own, as on a real cluster; the agents and the controllers run with the rights
that deploy/rbac gives them. Calls block; from asynchronous code run them with `asyncio.to_thread`.
"""

from __future__ import annotations

import itertools
import os
import stat
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from cdmo_harness import manifests
from cdmo_harness.api_proxy import ApiProxy
from cdmo_harness.binaries import Binaries, cache_root
from cdmo_harness.control_plane import ControlPlane
from cdmo_harness.driver import GpuSpec
from cdmo_harness.gpu_node import GpuNode, NodeSetup
from cdmo_harness.nvml_build import build_library
from cdmo_harness.processes import ManagedProcess
from cdmo_harness.simulated_node import SimulatedNode

NAMESPACE = "cdmo"
NodeMaker = Callable[[NodeSetup, Path], GpuNode]
CDMO = Path(sys.executable).with_name("cdmo")


@dataclass(frozen=True, slots=True)
class NodeSpec:
    """A node to simulate."""

    name: str
    cards: tuple[str, ...]  # keys of sim/nvml/cards, a GPU each

    def gpus(self, number: int) -> list[GpuSpec]:
        """Its GPUs; `number` is the node's place in the cluster, so that no two GPUs share a UUID."""
        return [
            GpuSpec(
                card=card,
                pci_bus_id=f"00000000:{16 * (index + 1):02X}:00.0",
                uuid=f"GPU-5157a000-{number:04x}-4000-8000-{index:012x}",
            )
            for index, card in enumerate(self.cards)
        ]


DEMO_NODES = (
    NodeSpec("gpu-1", ("H100-SXM5-80GB", "H100-SXM5-80GB")),
    NodeSpec("gpu-2", ("A100-SXM4-80GB", "A100-SXM4-80GB")),
    NodeSpec("gpu-3", ("A30-24GB",)),
)

# The simulated driver's time for a create and a destroy, seconds: what an A30 was measured to take.
CREATE_SECONDS = 0.15
DESTROY_SECONDS = 0.10


class LocalCluster:
    """Start it, label its nodes, submit pods."""

    def __init__(
        self,
        binaries: Binaries,
        *,
        nodes: Sequence[NodeSpec] = DEMO_NODES,
        status_period: float = 10.0,
        device_plugin: Path | None = None,
        keep_files: bool = False,
        make_node: NodeMaker = SimulatedNode,
    ) -> None:
        """`status_period`: the kubelets' node status period, seconds. `device_plugin`: a real device plugin's
        binary in place of the stand-in. `make_node`: what makes a node, for instance one with a real kubelet."""
        self.control_plane = ControlPlane(binaries, keep_files=keep_files)
        self.nodes: dict[str, GpuNode] = {}
        self.make_node = make_node
        self.agents: dict[str, ManagedProcess] = {}
        self.controllers: list[ManagedProcess] = []
        self._controller_numbers = itertools.count(1)  # never used again: two of a name would share files
        self.proxy: ApiProxy | None = None  # through which agents ("agent-NODE") and controllers started later speak
        self._specs = nodes
        self._library = Path()
        self._status_period = status_period
        self.device_plugin = device_plugin

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Control plane, CDMO's manifests, nodes. Agents and controllers are started apart."""
        try:
            self.start_control_plane()
            self.install_manifests()
            self.start_nodes()
        except BaseException:
            self.stop()
            raise

    def start_control_plane(self) -> None:
        """etcd, API server, controller manager, scheduler."""
        self.control_plane.start()

    def install_manifests(self) -> None:
        """CRD, fence policy, RBAC."""
        manifests.install(self.control_plane.api)

    def start_nodes(self) -> None:
        """All nodes at once. Those that started are known, and will be stopped, also when one does not."""
        self._library = build_library(cache_root(os.environ) / "nvml")
        with ThreadPoolExecutor(max_workers=len(self._specs) or 1) as pool:
            starts = [pool.submit(self._start_node, spec, number) for number, spec in enumerate(self._specs)]
        failures = [error for each in starts if (error := each.exception()) is not None]
        for each in starts:
            if each.exception() is None:
                node = each.result()
                self.nodes[node.setup.name] = node
        if failures:
            raise failures[0]

    def stop(self) -> None:
        """End every process that was started here, newest kind first."""
        for process in (*self.controllers, *self.agents.values()):
            process.stop(grace=2.0)
        self.controllers.clear()
        self.agents.clear()
        for node in self.nodes.values():
            node.stop()
        self.nodes.clear()
        self.control_plane.stop()

    # --- CDMO's processes -----------------------------------------------------------------------------------

    def start_agents(self) -> None:
        """An agent on every node, as the DaemonSet would."""
        for name in self.nodes:
            self.start_agent(name)

    def start_agent(
        self,
        name: str,
        *,
        command: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        kubeconfig: Path | None = None,
    ) -> None:
        """One node's agent. `command` replaces `cdmo agent` (a test that has it die at a given step); `kubeconfig`
        one with a token made for it."""
        node = self.nodes[name]
        if kubeconfig is None:
            kubeconfig = self.control_plane.service_account_kubeconfig(NAMESPACE, "cdmo-agent", node=name)
            kubeconfig = self._through_proxy(kubeconfig, f"agent-{name}")
        arguments = [
            *(command or (str(CDMO), "agent")),
            f"--node={name}",
            f"--kubeconfig={kubeconfig}",
            f"--root={node.root}",
        ]
        if not stat.S_ISCHR((node.root / "dev/nvidiactl").stat().st_mode):  # this user may not mknod
            arguments.append("--placeholder-device-nodes")
        self.agents[name] = ManagedProcess(
            f"agent-{name}",
            arguments,
            folder=node.folder,
            environment={**base_environment(), **node.driver.environment(), **(environment or {})},
        )

    def stop_agent(self, name: str, *, grace: float = 5.0) -> None:
        """End one agent; a grace of 0 is a SIGKILL."""
        self.agents.pop(name).stop(grace=grace)

    def start_controller(self, *options: str) -> ManagedProcess:
        """One more controller, with more options of `cdmo controller`; the Lease decides which of them leads."""
        kubeconfig = self.control_plane.service_account_kubeconfig(NAMESPACE, "cdmo-controller")
        number = next(self._controller_numbers)
        kubeconfig = self._through_proxy(kubeconfig, f"controller-{number}")
        process = ManagedProcess(
            f"controller-{number}",
            [str(CDMO), "controller", f"--kubeconfig={kubeconfig}", f"--lease-namespace={NAMESPACE}", *options],
            folder=self.control_plane.directory,
            environment=base_environment(),
        )
        self.controllers.append(process)
        return process

    def _through_proxy(self, kubeconfig: Path, client: str) -> Path:
        return kubeconfig if self.proxy is None else self.proxy.kubeconfig_for(kubeconfig, client)

    def _start_node(self, spec: NodeSpec, number: int) -> GpuNode:
        setup = NodeSetup(
            name=spec.name,
            kubeconfig=self.control_plane.kubeconfig_for_node(spec.name),
            library=self._library,
            gpus=spec.gpus(number),
            status_period=self._status_period,
            device_plugin=self.device_plugin,
            seed=number,
        )
        node = self.make_node(setup, self.control_plane.directory)
        node.start()
        # MIG on, as the page's step "nvidia-smi -mig 1" leaves a node: no slices yet.
        node.wait_for_kubelet()
        node.enable_mig(*range(len(spec.cards)))
        for gpu in node.driver.snapshot():
            if gpu.mig_pending and not gpu.mig_enabled:  # Ampere: the mode waits for a reset
                node.driver.reset_gpu(gpu.uuid)
        node.reload_plugin()
        node.driver.set_latency("nvmlDeviceCreateGpuInstanceWithPlacement", CREATE_SECONDS)
        node.driver.set_latency("nvmlGpuInstanceDestroy", DESTROY_SECONDS)
        return node


def base_environment() -> dict[str, str]:
    """What CDMO's processes get from this one: nothing that could reach outside."""
    return {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
