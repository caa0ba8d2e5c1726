"""Runs targets: a time for every input, a file for every finding."""

from __future__ import annotations

import hashlib
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from types import FrameType

from tests.fuzz.mutate import Mutator
from tests.fuzz.target import Run, Target

LIMIT_SECONDS = 1.0  # of processor time for one input: what others do on the machine does not count


class Hang(BaseException):
    """An input took longer than LIMIT_SECONDS; nothing under test catches it."""


@dataclass(frozen=True, slots=True)
class Finding:
    """An input that broke a target."""

    target: str
    content: bytes
    what: str  # the exception as Python prints it

    @property
    def name(self) -> str:
        """What its file is called."""
        return f"{self.target}-{hashlib.sha256(self.content).hexdigest()[:8]}"

    def save(self, folder: Path) -> Path:
        """Keep the input."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / self.name
        path.write_bytes(self.content)
        return path


@dataclass(frozen=True, slots=True)
class Tally:
    """How a target did."""

    target: str
    inputs: int
    accepted: int
    slowest: float  # seconds of processor time
    seconds: float  # of processor time, of all inputs together
    finding: Finding | None = None


@contextmanager
def limited(seconds: float) -> Iterator[Callable[[], None]]:
    """Gives a function that starts the time anew; when it runs out, Hang is raised wherever Python is."""

    def out(number: int, frame: FrameType | None) -> None:
        raise Hang(f"still not done after {seconds:g} s of processor time")

    before = signal.signal(signal.SIGPROF, out)
    try:
        yield lambda: signal.setitimer(signal.ITIMER_PROF, seconds) and None
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def attempt(name: str, run: Run, content: bytes) -> bool | Finding:
    """One input."""
    try:
        return run(content)
    except (KeyboardInterrupt, SystemExit) as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        return Finding(name, content, traceback.format_exc(limit=-12))
    except BaseException:
        return Finding(name, content, traceback.format_exc(limit=-12))


def fuzz(
    target: Target, inputs: int, seed: int, folder: Path, before: Callable[[bytes], None] = lambda content: None
) -> Tally:
    """So many inputs, until the first finding. `before` is told every input."""
    mutator = Mutator(target.seeds(), Random(f"{seed} {target.name}"))
    accepted, slowest, began = 0, 0.0, time.process_time()
    with target.prepare(folder) as run, limited(LIMIT_SECONDS) as restart:
        for number in range(inputs):
            content = mutator.next()
            before(content)
            started = time.process_time()
            restart()
            answer = attempt(target.name, run, content)
            slowest = max(slowest, time.process_time() - started)
            if isinstance(answer, Finding):
                return Tally(target.name, number + 1, accepted, slowest, time.process_time() - began, answer)
            accepted += answer
    return Tally(target.name, inputs, accepted, slowest, time.process_time() - began)
