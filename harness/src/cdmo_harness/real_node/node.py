"""A GPU node with a real kubelet, containerd, runc and containers that run; GPUs and plugin as simulated nodes have.

    with RealNode(NodeSetup("gpu-1", kubeconfig, library, gpus=[GpuSpec(…)]), directory, kubelet=path) as node:
        …

Needs root on Linux, and containerd, runc and the CNI plugins. It runs in namespaces of its own (see `holder`) and
in a control group of its own, so several can run on one machine, beside a kubelet that is there already.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import yaml

from cdmo_harness import cgroups
from cdmo_harness.binaries import cache_root
from cdmo_harness.control_plane_arguments import FIRST_SERVICE_ADDRESS
from cdmo_harness.errors import HarnessError, NotReadyInTime
from cdmo_harness.gpu_node import GpuNode, NodeSetup
from cdmo_harness.kubelet import counters
from cdmo_harness.plugin_program import PLUGIN, plugin_command
from cdmo_harness.processes import ManagedProcess, end_recorded, read_record
from cdmo_harness.real_node import containerd, kubelet_settings
from cdmo_harness.real_node.holder import GPU_HOST
from cdmo_harness.real_node.layout import Layout
from cdmo_harness.real_node.programs import Programs, build_programs
from cdmo_harness.real_node.requirements import check_machine
from cdmo_harness.real_node.sights import PodWatch


class RealNode(GpuNode):
    """One node whose kubelet is Kubernetes' own. Of a `NodeSetup` it takes no cpu, memory or kubelet version."""

    def __init__(
        self, setup: NodeSetup, directory: Path, *, kubelet: Path, images: Sequence[Path] = (), gpu_host: bool = False
    ) -> None:
        """`kubelet`: the program. `images`: archives that its pods need. `gpu_host`: the agent runs on it as a pod,
        and the device plugin beside it. Raises HarnessError where this machine cannot run such a node."""
        super().__init__(setup, directory)
        check_machine()
        self.layout = Layout(self.folder, self.root, setup.name)
        self._program = kubelet
        self._images = tuple(images)
        self._gpu_host = gpu_host
        self._programs: Programs | None = None
        self._holder: ManagedProcess | None = None
        self._relay: ManagedProcess | None = None
        self._containerd: ManagedProcess | None = None
        self._pods = PodWatch(setup.kubeconfig, setup.name, self.layout.records / "log")

    def counters(self) -> counters.Counts:
        """What happened to this node's pods so far, by the API and by what containers were given."""
        return self._pods.counts()

    @property
    def containerd(self) -> ManagedProcess | None:
        """containerd's process."""
        return self._containerd

    # ---- the parts of a node -------------------------------------------------------------------------------

    def _power_on(self) -> None:
        layout = self.layout
        for folder in (layout.tunables, layout.logs, layout.containerd_folder, layout.records):
            folder.mkdir(exist_ok=True)
        self._programs = build_programs(cache_root(os.environ) / "real-node")
        cgroups.make(layout.cgroup, self.folder)
        containerd.configure(layout, self._programs, self._library, self.driver.state)
        self._start_holder()
        self._start_relay()
        self._start_containerd(self._programs)
        self._pods.start()

    def _power_off(self) -> None:
        """Ends the first process of the node's namespaces and with it everything inside."""
        self._pods.stop()
        # What is this process' own child goes first: the kernel waits for it to be taken leave of.
        for process in (self._relay, self._containerd):
            if process is not None:
                process.stop(grace=0)
        end_recorded(self.layout.init_record)
        if self._holder is not None:
            self._holder.stop(grace=0)
        self._relay = self._containerd = self._holder = None
        self.layout.containerd_socket.unlink(missing_ok=True)
        for record in self.layout.records.glob("*"):
            if record.name != "log":  # the driver forgets processes by itself
                record.unlink()

    def _end(self) -> None:
        self._power_off()
        cgroups.remove_recorded(self.folder)

    def _plugin_command(self) -> tuple[list[str], dict[str, str]]:
        """Containers get their device nodes from below the root, as with NVIDIA_DEV_ROOT."""
        binary = self.setup.device_plugin
        command, environment = plugin_command(self.root, self.folder / "plugin", binary)
        return ([*command, "--dev-root", str(self.root)] if binary is None else command), environment

    def _launch_kubelet(self) -> ManagedProcess:
        return self._inside("kubelet", kubelet_settings.command(self._program, self.setup, self.layout))

    # ---- what the kubelet needs ----------------------------------------------------------------------------

    def _start_holder(self) -> None:
        layout = self.layout
        layout.holder_ready.unlink(missing_ok=True)
        command = [sys.executable, "-m", "cdmo_harness.real_node.holder"]
        command += [str(self.folder), str(self.root), self.setup.name, *([GPU_HOST] if self._gpu_host else [])]
        self._holder = ManagedProcess("holder", command, folder=self.folder, environment=_environment())
        self._await(self._holder, "has its namespaces", layout.holder_ready.exists)
        # Process 1 of this host: the agent looks there for what is in the network namespace of the kubelet.
        first = self.root / "proc/1"
        first.unlink(missing_ok=True)
        first.symlink_to(self._namespace("net").parents[1])

    def _start_relay(self) -> None:
        ready = self.layout.relay_ready
        ready.unlink(missing_ok=True)
        command = [sys.executable, "-m", "cdmo_harness.real_node.relay", str(self._namespace("net"))]
        command += [str(_port(self.setup.kubeconfig)), str(ready)]
        self._relay = ManagedProcess("relay", command, folder=self.folder, environment=_environment())
        self._await(self._relay, "reaches the API server", ready.exists)
        if self._gpu_host:
            self._serve_api()

    def _serve_api(self) -> None:
        """What kube-proxy does for the one Service that every pod asks for."""
        service = (
            f"-d {FIRST_SERVICE_ADDRESS} -p tcp --dport 443 -j REDIRECT --to-ports {_port(self.setup.kubeconfig)}"
        )
        command = ["nsenter", f"--net={self._namespace('net')}", "--", "iptables", "-t", "nat", "-A", "PREROUTING"]
        done = subprocess.run([*command, *service.split()], capture_output=True, text=True, timeout=10, check=False)
        if done.returncode != 0:
            raise HarnessError(f"the API server's Service cannot be made: {done.stderr.strip()}")

    def _start_containerd(self, programs: Programs) -> None:
        self._containerd = self._inside("containerd", containerd.command(self.layout))
        self._await(self._containerd, "has its containerd", lambda: _answers(self.layout.containerd_socket))
        containerd.import_images(self.layout, programs, self._images)

    def _launch_plugin(self, command: list[str], environment: dict[str, str]) -> ManagedProcess:
        """Where the agent is a pod, the plugin has to be among the processes that it sees."""
        if not self._gpu_host:
            return super()._launch_plugin(command, environment)
        return self._inside(PLUGIN, command, environment)

    def _inside(self, name: str, command: list[str], more: Mapping[str, str] | None = None) -> ManagedProcess:
        """Start a process in all of the node's namespaces."""
        program = shutil.which(command[0])
        if program is None:
            raise HarnessError(f"{command[0]} cannot be run")
        enter = ["nsenter", f"--mount={self._namespace('mnt')}", f"--net={self._namespace('net')}", "--"]
        return ManagedProcess(
            name,
            [*enter, program, *command[1:]],
            folder=self.folder,
            environment={**_environment(), **(more or {})},
            pid_namespace=self._namespace("pid"),
        )

    def _namespace(self, kind: str) -> Path:
        first = read_record(self.layout.init_record)
        if first is None:
            raise HarnessError(f"node {self.setup.name} has no namespaces", hint="is it started?")
        return Path(f"/proc/{first.pid}/ns/{kind}")

    def _await(self, process: ManagedProcess, what: str, holds: Callable[[], bool]) -> None:
        """As `_wait_until`, but with the process' last words where it ends or takes too long."""
        try:
            self._wait_until(what, lambda: holds() or not process.running)
        except NotReadyInTime as error:
            raise NotReadyInTime(f"{error}\n{process.tail(8)}") from error
        if not holds():
            raise HarnessError(f"the {process.name} of {self.setup.name} ended at once:\n{process.tail(8)}")


def _environment() -> dict[str, str]:
    return {"PATH": f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin", "HOME": "/", "PYTHONUNBUFFERED": "1"}


def _port(kubeconfig: Path) -> int:
    """The API server's port of 127.0.0.1."""
    server: str = yaml.safe_load(kubeconfig.read_text())["clusters"][0]["cluster"]["server"]
    address = urlsplit(server)
    if address.port is None:
        raise HarnessError(f"{kubeconfig} does not name the API server's port: {server}")
    return address.port


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True
