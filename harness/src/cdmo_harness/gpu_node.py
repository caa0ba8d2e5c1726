"""What every GPU node of the harness has, whoever plays its kubelet: a host root, simulated GPUs, a device plugin.

`SimulatedNode` adds a kubelet stand-in, `real_node.RealNode` a kubelet, containerd and containers. An agent gets
`node.root` as its host root and `node.driver.environment()`: below that root it finds the library, the kernel's
files, the kubelet's sockets and, in proc, this node's device plugin and no other process. Calls block.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Self

import structlog

from cdmo_harness import nvidia_smi
from cdmo_harness.device_nodes import make_driver_nodes, make_slice_nodes
from cdmo_harness.driver import GpuSpec, SimulatedDriver
from cdmo_harness.errors import HarnessError, NotReadyInTime
from cdmo_harness.kubelet import counters
from cdmo_harness.plugin_program import PLUGIN, plugin_command
from cdmo_harness.processes import ManagedProcess

_log = structlog.get_logger(__name__)

LIBRARY_FOLDER = "usr/lib/x86_64-linux-gnu"
PLUGIN_FOLDER = "var/lib/kubelet/device-plugins"
POD_RESOURCES_SOCKET = "var/lib/kubelet/pod-resources/kubelet.sock"
# A Unix socket's path may have 107 characters; the longest of ours below the root is a plugin's for a +me profile.
_LONGEST_ROOT = 107 - len(f"/{PLUGIN_FOLDER}/nvidia-mig-1g.141gb.me.all.sock")
_GRACE = 2.0  # seconds for an orderly end
_CUT_LIMIT = 30.0
_READY_LIMIT = 30.0
_POLL_SECONDS = 0.02
# Seconds after which a plugin that ended is started again: the kubelet's back-off for a container that crashes.
_PLUGIN_BACK_OFF = (0.5, 10.0, 20.0, 40.0, 80.0, 160.0, 300.0)


@dataclass(frozen=True, slots=True)
class NodeSetup:
    """A node's kubelet, GPUs and plugin. Times in seconds.

    What only a kubelet stand-in can choose (the real one takes it from its version and machine): `cpu`, `memory`,
    `pods`, `start_latency`, `stream_end_delay`, and `kubelet_minor`, of which 37 has the registration trap of 1.37.
    """

    name: str
    kubeconfig: Path
    library: Path
    gpus: Sequence[GpuSpec]
    labels: Mapping[str, str] = field(default_factory=dict)
    cpu: str = "64"
    memory: str = "512Gi"
    pods: int = 110
    status_period: float = 10.0
    start_latency: float = 0.15
    kubelet_minor: int = 37
    stream_end_delay: float = 0.0  # until the kubelet handles the end of a plugin's stream: with 37, a sure trap
    device_plugin: Path | None = None  # a real plugin's binary in place of the stand-in; needs root
    seed: int = 0


class GpuNode(ABC):
    """One node; started by `start` or `with`. Files live below `directory/NAME`, which must be a short path."""

    def __init__(self, setup: NodeSetup, directory: Path) -> None:
        self.setup = setup
        self.folder = directory / setup.name
        self.root = self.folder / "root"
        if len(str(self.root)) > _LONGEST_ROOT:
            raise HarnessError(
                f"{self.root} is too long for the sockets below it",
                hint=f"choose a directory and a name that make at most {_LONGEST_ROOT} characters",
            )
        self._rng = Random(f"{setup.seed}/{setup.name}")
        self._driver: SimulatedDriver | None = None
        self._kubelet: ManagedProcess | None = None
        self._plugin: ManagedProcess | None = None
        self._lock = threading.RLock()  # the keeper and the caller both start and stop the plugin
        self._keeping = threading.Event()
        self._keeper: threading.Thread | None = None

    # ---- what each kind of node does its own way -----------------------------------------------------------

    @abstractmethod
    def counters(self) -> counters.Counts:
        """What happened to this node's pods so far."""

    @abstractmethod
    def _launch_kubelet(self) -> ManagedProcess:
        """Start the kubelet's process."""

    @abstractmethod
    def _power_on(self) -> None:
        """Make what the kubelet needs and what does not survive a boot."""

    @abstractmethod
    def _power_off(self) -> None:
        """A boot ends whatever runs besides kubelet and plugin: containers, and what keeps them."""

    @abstractmethod
    def _end(self) -> None:
        """The node is stopped for good; kubelet and plugin have ended."""

    def _launch_plugin(self, command: list[str], environment: dict[str, str]) -> ManagedProcess:
        """Start the device plugin's process."""
        return ManagedProcess(PLUGIN, command, folder=self.folder, environment=environment)

    def _plugin_command(self) -> tuple[list[str], dict[str, str]]:
        return plugin_command(self.root, self.folder / "plugin", self.setup.device_plugin)

    # ---- start and stop ------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Make the host and start kubelet and plugin; on failure what was started is stopped.

        The plugin comes after the kubelet's sockets, as on a real node, where it is a pod.
        """
        self._make_host()
        try:
            self._power_on()
            self.start_kubelet()
            self.wait_for_kubelet()
            self.start_plugin()
            self._keeping.clear()
            self._keeper = threading.Thread(target=self._keep_plugin, name=f"keeper {self.setup.name}", daemon=True)
            self._keeper.start()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End everything that runs and close the driver; the files stay."""
        self._keeping.set()
        if self._keeper is not None:
            self._keeper.join()
            self._keeper = None
        self.stop_plugin()
        self._stop_kubelet(grace=_GRACE)
        self._end()
        if self._driver is not None:
            self._driver.close()
            self._driver = None

    @property
    def driver(self) -> SimulatedDriver:
        """The simulated hardware; while the node is started."""
        if self._driver is None:
            raise HarnessError(f"node {self.setup.name} is not started")
        return self._driver

    @property
    def plugin(self) -> ManagedProcess | None:
        """The device plugin's process; None when it was killed and has not been started again."""
        return self._plugin

    @property
    def kubelet(self) -> ManagedProcess | None:
        """The kubelet's process."""
        return self._kubelet

    # ---- what happens to a node ----------------------------------------------------------------------------

    def cut(self, *slices: tuple[int, int, int]) -> list[str]:
        """Cut (GPU index, profile id, first slot), with the slices' device nodes; returns their UUIDs.

        The plugin is not told: call this before `start`'s plugin matters, or `reload_plugin` after it.
        """
        wishes = [f"{gpu}:{profile}:{start}" for gpu, profile, start in slices]
        return [line.split()[2] for line in self._run_cutting(wishes)]

    def enable_mig(self, *gpus: int) -> None:
        """Turn MIG on for these GPUs, by NVML index, without any slice."""
        self._run_cutting([str(gpu) for gpu in gpus])

    def reload_plugin(self) -> None:
        """SIGHUP, to the plugin alone. Waits until a plugin that just started would survive it."""
        self.wait_for_plugin()
        self._signal_plugin(signal.SIGHUP)

    def wait_for_plugin(self) -> None:
        """Return when the plugin's process has taken its name and handles SIGHUP; before, that would end it."""
        self._wait_until("handles SIGHUP", self._plugin_handles_hangup)

    def wait_for_kubelet(self) -> None:
        """Return when the kubelet serves its sockets. It makes the one for plugins last, after a clean-up."""
        socket = self.root / PLUGIN_FOLDER / "kubelet.sock"
        self._wait_until("has its kubelet's sockets", socket.exists)

    @contextmanager
    def paused_plugin(self) -> Iterator[None]:
        """The plugin is stopped (SIGSTOP) inside the block."""
        self._signal_plugin(signal.SIGSTOP)
        try:
            yield
        finally:
            self._signal_plugin(signal.SIGCONT)

    @contextmanager
    def paused_kubelet(self) -> Iterator[None]:
        """The kubelet is stopped (SIGSTOP) inside the block: what a throttled one looks like."""
        if self._kubelet is None:
            raise HarnessError(f"the kubelet of {self.setup.name} does not run")
        self._kubelet.pause()
        try:
            yield
        finally:
            self._kubelet.resume()

    def restart_kubelet(self) -> None:
        """Stop and start the kubelet; pods go on running, plugins register again by themselves."""
        self._stop_kubelet(grace=_GRACE)
        self.start_kubelet()
        self.wait_for_kubelet()

    def kill_plugin(self) -> None:
        """SIGKILL: the plugin is gone until it is started again, by the back-off of a crashed container or here."""
        with self._lock:
            if self._plugin is not None:
                self._plugin.stop(grace=0)

    def reboot(self) -> None:
        """Everything that a boot takes away goes: processes, containers, slices, /dev; the disk stays."""
        with self._lock:
            self.stop_plugin()
            self._stop_kubelet(grace=0)
            self._power_off()
            self.driver.reboot()
            self._new_boot()
            self._power_on()
            self.start_kubelet()
            self.wait_for_kubelet()
            self.start_plugin()

    # ---- processes -----------------------------------------------------------------------------------------

    def start_kubelet(self) -> None:
        """Start the kubelet, which must not run."""
        self._kubelet = self._launch_kubelet()

    def start_plugin(self) -> None:
        """Start the plugin, which must not run, and show it in the host's proc."""
        with self._lock:
            command, extra = self._plugin_command()
            environment = {**self._environment(), **extra}
            self._plugin = self._launch_plugin(command, environment)
            (self.root / "proc" / str(self._plugin.pid)).symlink_to(f"/proc/{self._plugin.pid}")

    def stop_plugin(self) -> None:
        """SIGTERM; it is not started again by itself."""
        with self._lock:
            plugin, self._plugin = self._plugin, None
            if plugin is not None:
                self._forget(plugin)
                plugin.stop(grace=_GRACE)

    def _keep_plugin(self) -> None:
        """Start the plugin again when it ends, as the kubelet restarts a container that crashed."""
        crashes = 0
        while not self._keeping.is_set():
            plugin = self._plugin
            if plugin is None or not plugin.wait(0):
                self._keeping.wait(0.1)
                continue
            _log.warning("device plugin ended", node=self.setup.name, crashes=crashes)
            if self._keeping.wait(_PLUGIN_BACK_OFF[min(crashes, len(_PLUGIN_BACK_OFF) - 1)]):
                return
            crashes += 1
            with self._lock:
                if self._plugin is plugin and not self._keeping.is_set():
                    self.stop_plugin()
                    self.start_plugin()

    def _stop_kubelet(self, *, grace: float) -> None:
        kubelet, self._kubelet = self._kubelet, None
        if kubelet is not None:
            kubelet.stop(grace=grace)
        # A kubelet that was killed leaves its sockets; gone, they tell the next start from this one's.
        for socket in (self.root / PLUGIN_FOLDER / "kubelet.sock", self.root / POD_RESOURCES_SOCKET):
            socket.unlink(missing_ok=True)

    def _signal_plugin(self, number: signal.Signals) -> None:
        with self._lock:
            if self._plugin is None or not self._plugin.running:
                raise HarnessError(f"the device plugin of {self.setup.name} does not run")
            os.kill(self._plugin.pid, number)

    def _plugin_handles_hangup(self) -> bool:
        """Whether the plugin has a handler for SIGHUP by now (SigCgt of proc(5): bit 0 is signal 1)."""
        plugin = self._plugin
        if plugin is None:
            return False
        try:
            status = Path(f"/proc/{plugin.pid}/status").read_text()
        except OSError:
            return False
        caught = next(line.split()[1] for line in status.splitlines() if line.startswith("SigCgt:"))
        return (
            bool(int(caught, 16) & 1) and Path(f"/proc/{plugin.pid}/cmdline").read_bytes().find(PLUGIN.encode()) > 0
        )

    def _wait_until(self, what: str, holds: Callable[[], bool]) -> None:
        limit = time.monotonic() + _READY_LIMIT
        while not holds():
            if time.monotonic() > limit:
                raise NotReadyInTime(f"node {self.setup.name}: no sign within {_READY_LIMIT:.0f} s that it {what}")
            time.sleep(_POLL_SECONDS)

    def _forget(self, plugin: ManagedProcess) -> None:
        (self.root / "proc" / str(plugin.pid)).unlink(missing_ok=True)

    def _run_cutting(self, wishes: Sequence[str]) -> list[str]:
        command = [sys.executable, "-m", "cdmo_harness.cutting", str(self._library), *wishes]
        try:
            done = subprocess.run(
                command, env=self._environment(), capture_output=True, text=True, timeout=_CUT_LIMIT, check=True
            )
        except subprocess.CalledProcessError as error:
            raise HarnessError(f"cutting {' '.join(wishes)} failed: {error.stderr.strip()[-300:]}") from error
        lines = done.stdout.splitlines()
        for line in lines:
            minor, instance, _ = line.split()
            make_slice_nodes(self.root, int(minor), int(instance))
        return lines

    # ---- the host ------------------------------------------------------------------------------------------

    @property
    def _library(self) -> Path:
        return self.root / LIBRARY_FOLDER / self.setup.library.name

    def _make_host(self) -> None:
        for folder in (LIBRARY_FOLDER, PLUGIN_FOLDER, "var/lib/kubelet/pod-resources", "dev", "proc"):
            (self.root / folder).mkdir(parents=True, exist_ok=True)
        self._library.unlink(missing_ok=True)  # a node of this name before: written over, its mapping would crash us
        shutil.copy2(self.setup.library, self._library)
        state = self.folder / "driver.state"
        self._driver = SimulatedDriver.create(self._library, state, self.root, gpus=self.setup.gpus)
        nvidia_smi.install(self.root / "usr/bin", self._library, state, self.root)
        self._new_boot()

    def _new_boot(self) -> None:
        boot = self.root / "proc/sys/kernel/random/boot_id"
        boot.parent.mkdir(parents=True, exist_ok=True)
        boot.write_text(f"{uuid.UUID(int=self._rng.getrandbits(128), version=4)}\n")
        make_driver_nodes(self.root, [gpu.minor for gpu in self.driver.snapshot()])

    def _environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ.get("PATH", os.defpath),
            "PYTHONUNBUFFERED": "1",
            "GRPC_VERBOSITY": "ERROR",
            "NVMLSIM_STATE": str(self.driver.state),
            "NVMLSIM_ROOT": str(self.root),
        }
