"""Processes of the host, found by what they were started as and signalled without ever hitting another one."""

from __future__ import annotations

import math
import os
import re
import select
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from cdmo.runtime.hostpaths import read_text

_MAX_COMMAND_BYTES = 1 << 16
_MAX_STATUS_BYTES = 1 << 16
_MAX_TABLE_BYTES = 1 << 24  # some 100 bytes for each Unix socket of a host
_CONNECTED = "03"  # SS_CONNECTED
_FIRST = "1"
_MAX_PID_DIGITS = 9  # the kernel gives out at most 2^22, proc_sys_kernel(5)
_CAUGHT = re.compile(r"^SigCgt:\s*([0-9a-f]{16})$", re.MULTILINE | re.ASCII)
_USERS = re.compile(r"^Uid:\s*(\d+)\s+(\d+)\s+(\d+)\s+(\d+)$", re.MULTILINE | re.ASCII)
_CAPABILITIES = re.compile(r"^CapEff:\s*([0-9a-f]{16})$", re.MULTILINE | re.ASCII)
_CAP_SYS_ADMIN = 1 << 21  # capabilities(7)


@dataclass(frozen=True, slots=True)
class HostProcess:
    """A process held by a pidfd: its id may be given to another process, the descriptor never is."""

    pid: int
    descriptor: int

    def signal(self, number: signal.Signals) -> bool:
        """Send a signal; False when the process has ended. Raises PermissionError."""
        try:
            signal.pidfd_send_signal(self.descriptor, number)
        except ProcessLookupError:
            return False
        return True

    def ended(self) -> bool:
        """Whether it has ended, collected by its parent or not: signals still reach a zombie."""
        return bool(select.select([self.descriptor], [], [], 0)[0])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self.descriptor)


class ProcessTable:
    """The processes under a /proc; on a simulated node its entries are links named by process id."""

    def __init__(self, proc: Path) -> None:
        self._proc = proc

    def find(self, program: str) -> tuple[HostProcess, ...]:
        """Processes whose first argument is this program, whatever folder it is in. The caller closes them.

        By the command line, not by the name in `comm`, which the kernel cuts to 15 characters.
        """
        found = []
        for pid in self._pids():
            if self._program(pid) != program:
                continue
            try:
                descriptor = os.pidfd_open(pid)
            except OSError:
                continue
            # Between the look and the descriptor the id may have gone to another process: look again.
            if self._program(pid) == program:
                found.append(HostProcess(pid, descriptor))
            else:
                os.close(descriptor)
        return tuple(found)

    def catches(self, process: HostProcess, number: signal.Signals) -> bool:
        """Whether the process has a handler for the signal (SigCgt of proc(5): bit 0 is signal 1)."""
        try:
            status = read_text(self._proc / str(process.pid) / "status", _MAX_STATUS_BYTES)
        except (OSError, ValueError):
            return False
        caught = _CAUGHT.search(status)
        return caught is not None and bool(int(caught[1], 16) >> (number - 1) & 1)

    def is_privileged(self, process: HostProcess) -> bool:
        """Whether it has this process' user, and CAP_SYS_ADMIN if this process has.

        NVIDIA's device plugin has both beside an agent; a container of a user's job can call its process what it
        likes, but has not. A root of a user namespace shows as another user here.
        """
        own, other = _rights(Path("/proc/self")), _rights(self._proc / str(process.pid))
        if own is None or other is None:
            return False
        return own[0] == other[0] and own[1] & _CAP_SYS_ADMIN == own[1] & other[1] & _CAP_SYS_ADMIN

    def age(self, process: HostProcess) -> float:
        """Seconds since the process was started; infinite when it cannot be told.

        The kernel's start time counts from boot, suspended time included (field 22 of proc_pid_stat(5)).
        """
        try:
            # The second field is the program's name in parentheses and may itself contain both.
            fields = read_text(self._proc / str(process.pid) / "stat", _MAX_STATUS_BYTES).rpartition(")")[2].split()
            started = int(fields[19]) / os.sysconf("SC_CLK_TCK")
        except (OSError, ValueError, IndexError, OverflowError):
            return math.inf
        return time.clock_gettime(time.CLOCK_BOOTTIME) - started

    def unix_connections(self, process: HostProcess) -> frozenset[str] | None:
        """File names of the Unix sockets through which the process, as a server, has connections.

        A server's end of a connection goes by the path of the socket it came in through, also when the file is gone
        (proc_net_unix(5): column 6 is the state, 7 the inode, 8 the path). It belongs to the network namespace of
        who connected (unix_stream_connect in the kernel's net/unix/af_unix.c): that of a kubelet to a plugin in a pod
        is in the host's table, not in the plugin's. Process 1 is of the host. None when it cannot be told.
        """
        folder = self._proc / str(process.pid)
        try:
            own = set(map(_target, (folder / "fd").iterdir()))
            lines = _sockets_seen_by(folder)
            if (self._proc / _FIRST).exists():  # a simulated node has none, and no namespaces
                lines += _sockets_seen_by(self._proc / _FIRST)
        except (OSError, ValueError):
            return None
        entries = [each for each in (line.split(maxsplit=7) for line in lines) if len(each) == 8]
        return frozenset(
            path.rpartition("/")[2]
            for *_, state, inode, path in entries
            if state == _CONNECTED and f"socket:[{inode}]" in own
        )

    def _pids(self) -> list[int]:
        try:
            names = [each.name for each in self._proc.iterdir()]
        except OSError:
            return []
        return sorted(
            int(name) for name in names if name.isascii() and name.isdecimal() and len(name) <= _MAX_PID_DIGITS
        )

    def _program(self, pid: int) -> str:
        """The base name of its first argument; empty for what has ended, kernel threads and zombies."""
        try:
            command = read_text(self._proc / str(pid) / "cmdline", _MAX_COMMAND_BYTES)
        except (OSError, ValueError):
            return ""
        return command.partition("\0")[0].rpartition("/")[2]


def _rights(folder: Path) -> tuple[frozenset[str], int] | None:
    """A process' users (one, if real, effective, saved and file system's are the same) and effective capabilities."""
    try:
        status = read_text(folder / "status", _MAX_STATUS_BYTES)
    except (OSError, ValueError):
        return None
    users, capabilities = _USERS.search(status), _CAPABILITIES.search(status)
    if users is None or capabilities is None:
        return None
    return frozenset(users.groups()), int(capabilities[1], 16)


def _sockets_seen_by(folder: Path) -> list[str]:
    """The Unix sockets of a process' network namespace, a line each."""
    return read_text(folder / "net/unix", _MAX_TABLE_BYTES).splitlines()[1:]


def _target(descriptor: Path) -> str:
    """What a descriptor in /proc is of; empty when it was closed while they were listed."""
    try:
        return str(descriptor.readlink())
    except FileNotFoundError:
        return ""
