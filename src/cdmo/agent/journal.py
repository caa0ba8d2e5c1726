"""The change that is under way, on disk: what a restarted agent must finish or undo.

One small file, replaced atomically and synced, so it is whole after a kill at any line. It is written before the
first step and removed after the fence is down. A journal that cannot be read is treated as "a change was under
way, of which nothing is known": the agent then fences, looks, and makes the device plugin enumerate again.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import msgspec

from cdmo.agent.steps import Action, Step
from cdmo.api.decoding import decoder
from cdmo.api.v1alpha1 import PciBusId, ProfileId, Slot
from cdmo.errors import JournalUnwritable
from cdmo.model.gpu import Placement
from cdmo.runtime.hostpaths import replace_file, sync_folder

MAXIMUM_BYTES = 1 << 20


class JournalStep(msgspec.Struct, frozen=True):
    """One step as written down."""

    action: Action
    gpu: PciBusId
    profile_id: ProfileId | None = None
    start: Slot | None = None

    def step(self) -> Step:
        """The step again."""
        placed = self.profile_id is not None and self.start is not None
        return Step(self.action, self.gpu, Placement(self.profile_id or 0, self.start or 0) if placed else None)


class Entry(msgspec.Struct, frozen=True):
    """A change under way."""

    boot_id: str
    steps: tuple[JournalStep, ...] = ()

    def being_made(self) -> frozenset[tuple[str, Placement]]:
        """Where this change was creating instances: a half-made one there is CDMO's own."""
        steps = [each.step() for each in self.steps]
        return frozenset((each.gpu, each.placement) for each in steps if each.placement is not None)


_decode = decoder(Entry)

# Nothing that was put in the journal's place is followed (a link) or waited for (a FIFO).
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class Journal:
    """The journal file. All calls are short and local: no thread is needed."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def write(self, steps: tuple[Step, ...], boot_id: str) -> None:
        """Put the steps on disk, synced. Raises JournalUnwritable; then nothing may be changed."""
        entry = Entry(boot_id, tuple(_written(each) for each in steps))
        try:
            replace_file(self._path, msgspec.json.encode(entry))
        except OSError as error:
            raise JournalUnwritable(
                f"the journal {self._path} cannot be written: {error.strerror}",
                hint="free disk space or make the folder writable; nothing was changed",
            ) from error

    def read(self) -> Entry | None:
        """The change that was under way, or None. An unreadable journal gives an Entry without steps."""
        try:
            with os.fdopen(os.open(self._path, _READ), "rb") as file:
                content = file.read(MAXIMUM_BYTES + 1) or b""
        except FileNotFoundError:
            return None
        except OSError:
            return Entry("")
        try:
            return _decode(content) if len(content) <= MAXIMUM_BYTES else Entry("")
        except msgspec.MsgspecError:
            return Entry("")

    def clear(self) -> None:
        """Remove it: the change is over. Raises JournalUnwritable."""
        try:
            self._path.unlink(missing_ok=True)
            with contextlib.suppress(FileNotFoundError):
                sync_folder(self._path.parent)
        except OSError as error:
            raise JournalUnwritable(
                f"the journal {self._path} cannot be removed: {error.strerror}", hint="make its folder writable"
            ) from error


def _written(step: Step) -> JournalStep:
    if step.placement is None:
        return JournalStep(step.action, step.gpu)
    return JournalStep(step.action, step.gpu, step.placement.profile_id, step.placement.start)
