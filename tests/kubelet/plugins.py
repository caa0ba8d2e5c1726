"""A node's folders, scripted plugin processes in them, and a kubelet that believes the sockets."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from cdmo.kubelet.port import PodDevices
from cdmo.kubelet.sockets import resource_of, socket_of

SCRIPT = Path(__file__).with_name("scripted_plugin.py")
LIMIT = 10.0  # seconds until a test gives up on a process

NONE: frozenset[str] = frozenset()  # devices that may be missing
ONE, THREE = "nvidia.com/mig-1g.10gb", "nvidia.com/mig-3g.40gb"
ONE_SOCKET, THREE_SOCKET = "nvidia-mig-1g.10gb.sock", "nvidia-mig-3g.40gb.sock"


def kill(pid: int) -> None:
    """Kill a child of this process and wait until it has ended; whoever started it still has to collect it."""
    descriptor = os.pidfd_open(pid)
    try:
        os.kill(pid, signal.SIGKILL)
        os.waitid(os.P_PIDFD, descriptor, os.WEXITED | os.WNOWAIT)
    finally:
        os.close(descriptor)


class Program:
    """A child process that prints lines; killed at the end of the test, whatever state it is in."""

    def __init__(self, command: Sequence[str], *, executable: str = sys.executable) -> None:
        # Under another name Python does not find its own library: it looks beside its first argument.
        home = {**os.environ, "PYTHONHOME": sys.base_prefix} if command[0] != executable else None
        self._process = subprocess.Popen(command, executable=executable, stdout=subprocess.PIPE, env=home)
        self.pid = self._process.pid
        self.heard: list[str] = []
        self._rest = b""

    def wait_for(self, word: str) -> None:
        """Return when the program says this; AssertionError when it does not within the limit."""
        deadline = time.monotonic() + LIMIT
        while (line := self._next(deadline)) is not None:
            if line.split()[0] == word:
                return
        raise AssertionError(f"no {word!r} within {LIMIT} s after {self.heard}")

    def listen(self) -> list[str]:
        """Everything it said so far."""
        while self._next(0.0) is not None:
            pass
        return self.heard

    def wait_for_state(self, *states: str) -> None:
        """Return when the kernel shows one of these states (T: stopped)."""
        deadline = time.monotonic() + LIMIT
        while self.state() not in states:
            if time.monotonic() > deadline:
                raise AssertionError(f"process is {self.state()}, not one of {states}")
            os.sched_yield()

    def state(self) -> str:
        """The kernel's letter for it."""
        return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0]

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    def end(self) -> None:
        """Kill it and collect it."""
        self._process.kill()
        self._process.wait(LIMIT)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _next(self, deadline: float) -> str | None:
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        while b"\n" not in self._rest:
            left = max(0.0, deadline - time.monotonic()) if deadline else 0.0
            if not select.select([descriptor], [], [], left)[0]:
                return None
            chunk = os.read(descriptor, 4096)
            if not chunk:
                return None
            self._rest += chunk
        line, _, self._rest = self._rest.partition(b"\n")
        self.heard.append(line.decode())
        return self.heard[-1]


class NodeFolder:
    """The folders of a node: sockets, and a proc with links to the processes that run "on" it."""

    def __init__(self, root: Path) -> None:
        self.sockets = root / "device-plugins"
        self.proc = root / "proc"
        self.sockets.mkdir(parents=True)
        self.proc.mkdir()
        self._programs: list[Program] = []

    def start_plugin(self, *arguments: str, name: str = "nvidia-device-plugin") -> Program:
        """A scripted plugin that has its sockets by now."""
        command = [name, "-S", str(SCRIPT), str(self.sockets), *arguments]
        plugin = self.run(command)
        plugin.wait_for("started")
        return plugin

    def run(self, command: Sequence[str]) -> Program:
        """A process that this node's proc shows."""
        program = Program(command)
        self._programs.append(program)
        (self.proc / str(program.pid)).symlink_to(f"/proc/{program.pid}")
        return program

    def run_impostor(self) -> Program:
        """A process that calls itself the plugin, of another user."""
        program = Program([sys.executable, "-S", "-c", "import signal; print('started', flush=True); signal.pause()"])
        self._programs.append(program)
        program.wait_for("started")
        folder = self.proc / str(program.pid)
        folder.mkdir()
        (folder / "cmdline").write_bytes(b"nvidia-device-plugin\0")
        (folder / "status").write_text("Uid:\t65533\t65533\t65533\t65533\nCapEff:\t0000000000000000\n")
        return program

    def close(self) -> None:
        """End all processes."""
        for each in self._programs:
            each.end()


class SocketKubelet:
    """Lists a resource's devices while its socket is there. `late` first answers show what was there before."""

    def __init__(self, folder: Path, devices: Mapping[str, frozenset[str]], *, late: int = 0) -> None:
        self.folder = folder
        self.devices = dict(devices)
        self.late = late
        self.on_ask: Callable[[], None] = lambda: None
        self.on_gap: Callable[[], None] = lambda: None  # asked while there is no socket

    def gap(self) -> bool:
        """Whether the plugin has no socket now."""
        return not any(self.folder.glob("nvidia-*.sock"))

    async def allocatable(self) -> Mapping[str, frozenset[str]]:
        self.on_ask()
        there = {resource_of(path.name) for path in self.folder.glob("nvidia-*.sock")}
        if not there:
            self.on_gap()
        if not there and self.late:
            self.late -= 1
            return dict(self.devices)
        return {resource: ids for resource, ids in self.devices.items() if resource in there}

    async def get(self, namespace: str, name: str) -> PodDevices | None:
        raise AssertionError("a reload asks for no pod")

    async def list(self) -> tuple[PodDevices, ...]:
        raise AssertionError("a reload lists no pods: that can disturb an admission")


class ConnectedKubelet(SocketKubelet):
    """Lists the devices of one resource until it sees the end of its connection, as the real one does."""

    def __init__(self, folder: Path, resource: str, ids: frozenset[str]) -> None:
        super().__init__(folder, {resource: ids})
        self._connection = socket.socket(socket.AF_UNIX)
        self._connection.connect(str(folder / socket_of(resource)))
        self._connection.setblocking(False)
        self.noticed = False

    async def allocatable(self) -> Mapping[str, frozenset[str]]:
        with suppress(BlockingIOError):
            self.noticed = self.noticed or not self._connection.recv(1)
        return await super().allocatable() if self.noticed else dict(self.devices)

    def close(self) -> None:
        """End its side too."""
        self._connection.close()
