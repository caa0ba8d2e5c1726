"""Children start with a log, end with their whole group, and never outlive the harness."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from cdmo_harness.errors import ProcessError
from cdmo_harness.processes import (
    ManagedProcess,
    ProcessIdentity,
    end_recorded,
    ended,
    read_record,
    tail,
    write_record,
)

LIMIT = 10.0

Start = Callable[[str], ManagedProcess]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a shell script as a managed process; all are ended after the test."""
    started: list[ManagedProcess] = []

    def run(script: str) -> ManagedProcess:
        name = f"child-{len(started)}"
        environment = {"PATH": os.environ["PATH"], "FIFO": str(tmp_path / "fifo")}
        process = ManagedProcess(name, ["sh", "-c", script], folder=tmp_path, environment=environment)
        started.append(process)
        return process

    yield run
    for process in started:
        process.stop(grace=0)


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    """A pipe with a name, through which a script says that it has come to some point."""
    path = tmp_path / "fifo"
    os.mkfifo(path)
    return path


def ends(pid: int) -> bool:
    """Wait until a process that need not be our child has ended."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([pidfd], [], [], LIMIT)[0])
    finally:
        os.close(pidfd)


def until_stopped(pid: int) -> None:
    """Wait until a process stands still (state T of proc(5))."""
    limit = time.monotonic() + LIMIT
    while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
        assert time.monotonic() < limit, f"process {pid} does not stop"
        os.sched_yield()


def test_output_goes_to_the_log_and_the_exit_status_is_known(start: Start) -> None:
    process = start("echo to stdout; echo to stderr >&2; exit 7")

    assert process.wait(LIMIT)
    assert process.exit_status == 7
    assert not process.running
    assert process.tail(10).splitlines() == ["to stdout", "to stderr"]


def test_a_child_sees_only_the_environment_it_was_given(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://example.invalid")
    process = start("echo proxy=$HTTPS_PROXY")

    assert process.wait(LIMIT)
    assert process.tail(1) == "proxy="


def test_a_program_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(ProcessError, match=r"etcd cannot start: /no/such/etcd"):
        ManagedProcess("etcd", ["/no/such/etcd"], folder=tmp_path, environment={})


def test_a_polite_program_ends_by_itself(start: Start, fifo: Path) -> None:
    process = start('trap "exit 3" TERM; echo ready > $FIFO; while :; do sleep 0.05; done')
    assert fifo.read_text() == "ready\n"

    process.stop(grace=LIMIT)

    assert process.exit_status == 3


def test_a_program_that_ignores_the_request_is_killed(start: Start, fifo: Path) -> None:
    process = start('trap "" TERM; echo ready > $FIFO; while :; do sleep 0.05; done')
    assert fifo.read_text() == "ready\n"

    process.stop(grace=0.1)

    assert process.exit_status == -signal.SIGKILL


def test_a_paused_program_can_be_stopped_politely(start: Start, fifo: Path) -> None:
    # Nothing is started once it is ready: a shell that waits for its child to begin another program (vfork), and
    # that child paused before it could, is in state D.
    process = start('trap "exit 3" TERM; sleep 60 & echo ready > $FIFO; wait')
    assert fifo.read_text() == "ready\n"
    process.pause()
    until_stopped(process.pid)
    assert process.running

    process.stop(grace=LIMIT)

    assert process.exit_status == 3


def test_a_resumed_program_goes_on(start: Start, fifo: Path) -> None:
    process = start("echo ready > $FIFO; read line < $FIFO; exit 5")
    assert fifo.read_text() == "ready\n"
    process.pause()
    until_stopped(process.pid)
    process.resume()
    fifo.write_text("go on\n")

    assert process.wait(LIMIT)
    assert process.exit_status == 5


def test_grandchildren_end_with_their_parent(start: Start, fifo: Path) -> None:
    process = start("sleep 600 & echo $! > $FIFO; wait")
    grandchild = int(fifo.read_text())

    process.stop(grace=0)

    assert ends(grandchild)


def test_grandchildren_end_even_if_their_parent_ended_before(start: Start, fifo: Path) -> None:
    process = start("sleep 600 & echo $! > $FIFO; exit 0")
    grandchild = int(fifo.read_text())
    assert process.wait(LIMIT)

    process.stop(grace=LIMIT)

    assert ends(grandchild)


def test_stopping_twice_does_no_harm(start: Start) -> None:
    process = start("exit 6")
    assert process.wait(LIMIT)
    process.stop(grace=LIMIT)
    process.stop(grace=LIMIT)

    assert process.exit_status == 6
    assert process.wait(0)


def test_waiting_for_several_names_the_one_that_ended(start: Start) -> None:
    steady, brief = start("sleep 600"), start("exit 1")

    assert ended([steady, brief], LIMIT) == [brief]


def test_a_process_outlives_the_thread_that_asked_for_it(start: Start, fifo: Path) -> None:
    started: list[ManagedProcess] = []
    thread = threading.Thread(target=lambda: started.append(start("echo ready > $FIFO; read line < $FIFO; exit 9")))
    thread.start()
    assert fifo.read_text() == "ready\n"
    thread.join(LIMIT)
    fifo.write_text("the thread is gone\n")

    assert started[0].wait(LIMIT)
    assert started[0].exit_status == 9


_CRASHING_HARNESS = """
import os, signal, sys
from pathlib import Path
from cdmo_harness.processes import ManagedProcess
process = ManagedProcess("orphan", ["sleep", "600"], folder=Path(sys.argv[1]), environment=dict(os.environ))
Path(sys.argv[2]).write_text(str(process.pid))
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_harness_takes_its_children_along(tmp_path: Path) -> None:
    child = tmp_path / "child"
    harness = subprocess.run([sys.executable, "-c", _CRASHING_HARNESS, str(tmp_path), str(child)], timeout=LIMIT)

    assert harness.returncode == -signal.SIGKILL
    assert ends(int(child.read_text()))


def test_a_recorded_process_that_still_runs_is_ended_by_a_later_run(start: Start, tmp_path: Path) -> None:
    process = start("sleep 600")

    assert end_recorded(tmp_path / "child-0.process")

    assert process.exit_status == -signal.SIGKILL
    assert not (tmp_path / "child-0.process").exists()


def test_another_process_with_a_recorded_number_is_spared(start: Start, tmp_path: Path) -> None:
    process = start("sleep 600")
    identity = ProcessIdentity.of(process.pid)
    assert identity is not None
    for other in (replace(identity, start_time=identity.start_time - 1), replace(identity, boot="another")):
        write_record(tmp_path / "old.process", other)
        assert not end_recorded(tmp_path / "old.process")

    assert process.running


@pytest.mark.parametrize("content", ["", "{", "[]", '{"pid": 1}', '{"pid": "x", "start_time": 1, "boot": ""}'])
def test_a_damaged_record_ends_nothing(tmp_path: Path, content: str) -> None:
    record = tmp_path / "damaged.process"
    record.write_text(content)

    assert read_record(record) is None
    assert not end_recorded(record)
    assert not record.exists()


def test_a_zombie_does_not_count_as_running(start: Start) -> None:
    process = start("exit 0")
    assert process.wait(LIMIT)

    assert ProcessIdentity.of(process.pid) is None


def test_the_tail_of_a_long_log_is_its_last_lines(tmp_path: Path) -> None:
    log = tmp_path / "long.log"
    log.write_text("".join(f"line {number}\n" for number in range(10_000)))

    assert tail(log, 2) == "line 9998\nline 9999"
    assert tail(tmp_path / "absent.log", 2) == ""
