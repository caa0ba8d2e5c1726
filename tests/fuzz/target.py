"""What is fuzzed: how to make inputs for it, and what must hold whatever the input is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from tests.fuzz.mutate import Seed

# Takes one input. True: it was taken for sound; False: it was refused in the documented way. Anything that is raised,
# a failed assertion among them, is a finding.
Run = Callable[[bytes], bool]


@dataclass(frozen=True, slots=True)
class Target:
    """One reader of the outside world."""

    name: str
    share: int  # of the inputs, relative to the other targets
    seeds: Callable[[], Sequence[Seed]]
    prepare: Callable[[Path], AbstractContextManager[Run]]  # gets an empty folder of its own


class Over(BaseException):
    """Ends a loop that would go on for ever; nothing under test catches it."""
