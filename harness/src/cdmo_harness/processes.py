"""Child processes of the harness: each with a log file, a process group and a record on disk.

No child may outlive the harness, however the harness ends. Three things see to that:

- `ManagedProcess.stop` ends the process and everything in its process group.
- The kernel sends SIGKILL to the child when the thread that started it ends (PR_SET_PDEATHSIG, prctl(2)),
  thus also after `kill -9` of the harness. The call has to be made inside the child. A `preexec_fn` would run
  Python between fork and exec, which can deadlock when other threads hold locks at that moment; so the child
  starts as a tiny Python program that makes the call and then replaces itself by the real one (same process
  id, about 20 ms). And because the signal belongs to a thread, one thread that lives as long as this process
  starts all children: started by a short-lived worker thread they would die with it.
- A record on disk names each process by id, start time and boot, so that a later run can end what is left
  without ever hitting another process that got the same id (`end_recorded`).

Whether a process runs is asked of a pidfd: it becomes readable when the process ends, also while the dead
process still waits to be reaped, when `kill -0` would call it alive.
"""

from __future__ import annotations

import functools
import json
import os
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import structlog

from cdmo_harness.errors import ProcessError
from cdmo_harness.namespaces import children_in

_log = structlog.get_logger(__name__)

# Runs inside the child before it becomes the real program. Should the harness be gone already, its death
# signal cannot come any more, so the child compares its parent with the one that wanted it.
_BIRTH = """
import ctypes, os, sys
PR_SET_PDEATHSIG, SIGKILL = 1, 9
if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0:
    sys.exit("prctl(PR_SET_PDEATHSIG): " + os.strerror(ctypes.get_errno()))
if os.getppid() != int(sys.argv[1]):  # 0 for a parent outside the child's process id namespace
    sys.exit("the harness ended before its child began")
try:
    os.execv(sys.argv[2], sys.argv[2:])
except OSError as error:
    sys.exit(sys.argv[2] + ": " + str(error))
"""

# Seconds that SIGKILL may take: only a process stuck in the kernel needs more.
_KILL_LIMIT = 10.0


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """A process for as long as this machine is up: ids are used again, an id with its start time is not."""

    pid: int
    start_time: int
    """Clock ticks after boot (field 22 of /proc/PID/stat, proc(5))."""
    boot: str
    """The kernel's random id of this boot."""

    @classmethod
    def of(cls, pid: int) -> ProcessIdentity | None:
        """The identity of a process that exists now, or None. A zombie does not count as existing."""
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
        except OSError:
            return None
        # The second field is the program's name in parentheses and may itself contain both.
        fields = stat.rpartition(")")[2].split()
        if fields[0] in ("Z", "X"):
            return None
        return cls(pid, int(fields[19]), _boot())

    def exists(self) -> bool:
        """Whether this very process still runs."""
        return ProcessIdentity.of(self.pid) == self


def write_record(path: Path, identity: ProcessIdentity) -> None:
    """Note a process on disk for `end_recorded`."""
    record = {"pid": identity.pid, "start_time": identity.start_time, "boot": identity.boot}
    path.write_text(json.dumps(record))


def read_record(path: Path) -> ProcessIdentity | None:
    """The process that a record names, or None if the file is gone or was cut off while being written."""
    try:
        record = json.loads(path.read_text())
        return ProcessIdentity(int(record["pid"]), int(record["start_time"]), str(record["boot"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def end_recorded(path: Path) -> bool:
    """Kill the process that a record names if it still runs, with its group; remove the record.

    Returns whether there was something to kill. For what an earlier, killed run left behind.
    """
    identity = read_record(path)
    killed = identity is not None and _kill_foreign(identity)
    path.unlink(missing_ok=True)
    return killed


def ending_with_us(command: Sequence[str], *, parent: int | None = None) -> list[str]:
    """The command, to be killed by the kernel when the thread that starts it ends, in whatever way.

    `parent`: this process' id as the child sees it (0: it does not), when that is another one than here.
    """
    seen = os.getpid() if parent is None else parent
    return [sys.executable, "-I", "-S", "-c", _BIRTH, str(seen), *command]


class ManagedProcess:
    """One running child process.

    `name` is for messages and file names: the log is `<folder>/<name>.log` (appended to, so that a restart
    keeps the old lines), the record `<folder>/<name>.process`.
    """

    def __init__(
        self,
        name: str,
        arguments: Sequence[str | Path],
        *,
        folder: Path,
        environment: Mapping[str, str],
        pid_namespace: Path | None = None,
    ) -> None:
        """Start the program `arguments[0]` with exactly this environment; its folder becomes `folder`.

        With `pid_namespace` (/proc/PID/ns/pid) the process gets an id there too and ends with that namespace.
        """
        self.name = name
        self.log_path = folder / f"{name}.log"
        self._record = folder / f"{name}.process"
        command = [str(argument) for argument in arguments]
        program = shutil.which(command[0])
        if program is None:
            raise ProcessError(f"{name} cannot start: {command[0]} is not a program that can be run")
        command[0] = str(Path(program).absolute())
        start = _starter(os.getpid()).submit(self._start, command, folder, environment, pid_namespace)
        self._child = start.result()
        self._pidfd = os.pidfd_open(self._child.pid)
        identity = ProcessIdentity.of(self._child.pid)
        if identity is not None:
            write_record(self._record, identity)
        _log.debug("process started", name=name, pid=self._child.pid)

    def _start(
        self, command: list[str], folder: Path, environment: Mapping[str, str], pid_namespace: Path | None
    ) -> subprocess.Popen[bytes]:
        birth = ending_with_us(command, parent=os.getpid() if pid_namespace is None else 0)
        try:
            with self.log_path.open("ab") as log, children_in(pid_namespace):
                return subprocess.Popen(
                    birth,
                    cwd=folder,
                    env=dict(environment),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
        except OSError as error:
            raise ProcessError(f"{self.name} cannot start: {error}") from error

    @property
    def pid(self) -> int:
        """The process id."""
        return self._child.pid

    @property
    def running(self) -> bool:
        """Whether the process has not ended (a paused one runs)."""
        return not self.wait(0)

    @property
    def exit_status(self) -> int | None:
        """The exit status, negative for the signal that ended it; None while it runs."""
        if self._child.returncode is not None:
            return self._child.returncode
        # WNOWAIT leaves the process unreaped: until `stop` its number must stay taken.
        info = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if info is None:
            return None
        return info.si_status if info.si_code == os.CLD_EXITED else -info.si_status

    def wait(self, limit: float) -> bool:
        """Wait until the process ends, at most `limit` seconds; returns whether it ended."""
        if self._child.returncode is not None:
            return True
        return bool(ended([self], limit))

    def stop(self, *, grace: float) -> None:
        """SIGTERM, up to `grace` seconds (0: none) to end by itself, then SIGKILL to what is left."""
        if self._child.returncode is None:
            if grace > 0 and self.running:
                self.resume()
                self._signal_group(signal.SIGTERM)
                self.wait(grace)
            # Also after an orderly end: the group may have other members. The child is not reaped yet, so
            # nobody else can have got the number.
            self._signal_group(signal.SIGKILL)
            if not self.wait(_KILL_LIMIT):
                raise ProcessError(f"{self.name} (process {self.pid}) did not end after SIGKILL")
            self._child.wait()
            os.close(self._pidfd)
            _log.debug("process stopped", name=self.name, pid=self.pid, status=self._child.returncode)
        self._record.unlink(missing_ok=True)

    def pause(self) -> None:
        """Freeze the process and its group, as a hung program looks from outside."""
        self._signal_group(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a paused process go on."""
        self._signal_group(signal.SIGCONT)

    def tail(self, lines: int) -> str:
        """The last lines of the log, for error messages."""
        return tail(self.log_path, lines)

    def resident_bytes(self) -> int:
        """Memory that the process holds now, in bytes (VmRSS of proc(5)); 0 when it has ended."""
        try:
            status = Path(f"/proc/{self.pid}/status").read_text()
        except OSError:
            return 0
        found = next((line for line in status.splitlines() if line.startswith("VmRSS:")), "VmRSS: 0 kB")
        return int(found.split()[1]) * 1024

    def _signal_group(self, number: signal.Signals) -> None:
        if self._child.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(self._child.pid, number)

    def fileno(self) -> int:
        """A descriptor that becomes readable when the process ends; valid until `stop` returns."""
        return self._pidfd


def ended(processes: Iterable[ManagedProcess], limit: float) -> list[ManagedProcess]:
    """Wait until one of the processes ends, at most `limit` seconds; returns those that have."""
    poll = select.poll()
    by_descriptor = {process.fileno(): process for process in processes}
    for descriptor in by_descriptor:
        poll.register(descriptor, select.POLLIN)
    return [by_descriptor[descriptor] for descriptor, _ in poll.poll(limit * 1000)]


def tail(path: Path, lines: int) -> str:
    """The last lines of a text file, read from its end; empty if there is no such file."""
    try:
        with path.open("rb") as stream:
            size = stream.seek(0, os.SEEK_END)
            # Log lines of Kubernetes stay below about 500 bytes.
            stream.seek(max(0, size - 500 * lines))
            text = stream.read().decode(errors="replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-lines:])


def _kill_foreign(identity: ProcessIdentity) -> bool:
    """Kill a process that is not our child. The pidfd pins the process that the identity is checked on."""
    try:
        pidfd = os.pidfd_open(identity.pid)
    except OSError:
        return False
    try:
        if not identity.exists():
            return False
        # The group first, while its leader still holds the number; it led one if the harness started it.
        with suppress(ProcessLookupError):
            if os.getpgid(identity.pid) == identity.pid:
                os.killpg(identity.pid, signal.SIGKILL)
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        return bool(select.select([pidfd], [], [], _KILL_LIMIT)[0])
    finally:
        os.close(pidfd)


@functools.cache
def _starter(harness_pid: int) -> ThreadPoolExecutor:
    """The one thread of process `harness_pid` that starts children; a forked copy gets its own."""
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"start-processes-{harness_pid}")


@functools.cache
def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
