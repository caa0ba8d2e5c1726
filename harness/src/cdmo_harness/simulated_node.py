"""A simulated GPU node: a host root, a simulated driver, a kubelet stand-in and a device plugin.

    with SimulatedNode(NodeSetup("gpu-1", kubeconfig, library, gpus=[GpuSpec(…)]), directory) as node:
        node.cut((0, 9, 4))          # GPU 0, profile id 9, first memory slot 4
        node.reload_plugin()

What it shares with a node that has a real kubelet, and how an agent is pointed at it, is in `gpu_node`.
"""

from __future__ import annotations

import sys

from cdmo_harness.gpu_node import (
    LIBRARY_FOLDER,
    PLUGIN_FOLDER,
    POD_RESOURCES_SOCKET,
    GpuNode,
    NodeSetup,
)
from cdmo_harness.kubelet import counters
from cdmo_harness.kubelet.__main__ import POD_RESOURCES_DELAY
from cdmo_harness.processes import ManagedProcess

__all__ = ["LIBRARY_FOLDER", "PLUGIN_FOLDER", "POD_RESOURCES_SOCKET", "NodeSetup", "SimulatedNode"]


class SimulatedNode(GpuNode):
    """One node whose kubelet is the stand-in of `cdmo_harness.kubelet`; needs no root."""

    def counters(self) -> counters.Counts:
        """What happened to this node's pods so far."""
        return counters.read(self.folder / "kubelet-counters.json")

    def slow_pod_resources(self, seconds: float) -> None:
        """Each call of the kubelet's PodResources socket takes this much longer from now on; 0 takes it back."""
        (self.folder / POD_RESOURCES_DELAY).write_text(f"{seconds:g}")

    def _power_on(self) -> None:
        """Nothing: the stand-in brings all it needs."""

    def _end(self) -> None:
        """Nothing: containers of the stand-in are lines in a file."""

    def _power_off(self) -> None:
        (self.folder / "kubelet-runtime.json").unlink(missing_ok=True)

    def _launch_kubelet(self) -> ManagedProcess:
        setup = self.setup
        command = [sys.executable, "-m", "cdmo_harness.kubelet", "--node", setup.name, "--root", str(self.root)]
        command += ["--kubeconfig", str(setup.kubeconfig), "--driver-state", str(self.driver.state)]
        command += ["--cpu", setup.cpu, "--memory", setup.memory, "--pods", str(setup.pods)]
        command += ["--status-period", str(setup.status_period), "--start-latency", str(setup.start_latency)]
        command += ["--kubelet-minor", str(setup.kubelet_minor), "--seed", str(self._rng.getrandbits(32))]
        command += ["--stream-end-delay", str(setup.stream_end_delay)]
        for key, value in setup.labels.items():
            command += ["--label", f"{key}={value}"]
        return ManagedProcess("kubelet", command, folder=self.folder, environment=self._environment())
