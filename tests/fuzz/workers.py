"""One process a target: a crash of the interpreter, a hang in C or a hunger for memory is a finding as well."""

from __future__ import annotations

import mmap
import os
import resource
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import msgspec

from tests.fuzz.mutate import LONGEST
from tests.fuzz.run import Finding, Tally, fuzz
from tests.fuzz.target import Target

MOST_MEMORY = 4 << 30  # bytes of address space of a worker
STUCK_SECONDS = 60.0  # of real time without a new input: not even the limit inside the worker could end it
_HEAD = struct.Struct("<QQ")  # number of the input, its length


class Done(msgspec.Struct):
    """A worker's last word."""

    tally: Tally
    memory_mib: int  # at most, all in all


def work(target: Target, inputs: int, seed: int, build: Path) -> int:
    """A worker: fuzz one target and leave a file that says how it went."""
    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
    with _shared(_now(build, target), create=False) as shown, tempfile.TemporaryDirectory() as folder:
        numbers = iter(range(1, inputs + 1))

        def before(content: bytes) -> None:
            shown[_HEAD.size : _HEAD.size + len(content)] = content
            shown[: _HEAD.size] = _HEAD.pack(next(numbers), len(content))

        tally = fuzz(target, inputs, seed, Path(folder), before)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    _done(build, target).write_bytes(msgspec.json.encode(Done(tally, peak)))
    return 0


def run_all(targets: Sequence[Target], inputs: int, seed: int, build: Path) -> int:
    """Every target with its share of the inputs, two at a time; prints a table. 1: something was found."""
    build.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    with ThreadPoolExecutor(min(len(targets), os.cpu_count() or 1)) as pool:
        done = list(pool.map(lambda each: _watched(each[0], each[1], seed, build), shares(targets, inputs)))
    _table(done, time.monotonic() - began)
    findings = [each.tally.finding for each in done if each.tally.finding]
    for each in findings:
        sys.stdout.write(f"\nFOUND {each.target}: {each.save(build)}\n{''.join(each.what.splitlines(True)[-24:])}\n")
    return 1 if findings else 0


def shares(targets: Sequence[Target], inputs: int) -> list[tuple[Target, int]]:
    """The inputs of each target: by its share, at least one, all together as many as asked for or a few more."""
    total = sum(each.share for each in targets)
    return [(each, max(1, -(-inputs * each.share // total))) for each in targets]


def _watched(target: Target, inputs: int, seed: int, build: Path) -> Done:
    """Start a worker, and end it when it is stuck."""
    command = [
        sys.executable,
        "-m",
        "tests.fuzz",
        "--work",
        target.name,
        "--inputs",
        str(inputs),
        "--seed",
        str(seed),
    ]
    now = _now(build, target)
    with _shared(now, create=True) as shown:
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as worker:
            ended = threading.Event()
            guard = threading.Thread(target=_end_when_stuck, args=(worker, shown, ended), daemon=True)
            guard.start()
            _, err = worker.communicate()
            ended.set()
            guard.join()
        number, length = _HEAD.unpack(shown[: _HEAD.size])
        content = shown[_HEAD.size : _HEAD.size + length]
    now.unlink()
    done = _done(build, target)
    if worker.returncode == 0:
        answer = msgspec.json.decode(done.read_bytes(), type=Done)
        done.unlink()
        return answer
    what = f"the worker ended with status {worker.returncode}\n{err.decode(errors='replace')[-2000:]}"
    return Done(Tally(target.name, number, 0, 0.0, 0.0, Finding(target.name, content, what)), 0)


def _end_when_stuck(worker: subprocess.Popen[bytes], shown: mmap.mmap, ended: threading.Event) -> None:
    last, since = -1, time.monotonic()
    while not ended.wait(1.0):
        (number, _) = _HEAD.unpack(shown[: _HEAD.size])
        if number != last:
            last, since = number, time.monotonic()
        elif time.monotonic() - since > STUCK_SECONDS:
            worker.kill()
            return


def _now(build: Path, target: Target) -> Path:
    """Where a worker shows its input."""
    return build / f"now-{target.name}"


def _done(build: Path, target: Target) -> Path:
    """Where a worker says how it went; what is logged goes to its standard output, which nobody reads."""
    return build / f"done-{target.name}"


@contextmanager
def _shared(path: Path, *, create: bool) -> Iterator[mmap.mmap]:
    if create:
        path.write_bytes(bytes(_HEAD.size + LONGEST))
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as shown:
        yield shown


def _table(done: Sequence[Done], seconds: float) -> None:
    write: Callable[[str], object] = sys.stdout.write
    write(f"{'TARGET':14}{'INPUTS':>8}{'ACCEPTED':>10}{'REFUSED':>9}{'SLOWEST':>11}{'CPU':>8}{'MEMORY':>10}\n")
    for each in done:
        tally = each.tally
        refused = tally.inputs - tally.accepted - bool(tally.finding)
        write(
            f"{tally.target:14}{tally.inputs:8}{tally.accepted:10}{refused:9}{tally.slowest * 1000:8.0f} ms"
            f"{tally.seconds:6.0f} s{each.memory_mib:6} MiB{'  FOUND' if tally.finding else ''}\n"
        )
    inputs, found = sum(each.tally.inputs for each in done), sum(bool(each.tally.finding) for each in done)
    write(f"{inputs} inputs in {seconds:.0f} s, {found} findings\n")
