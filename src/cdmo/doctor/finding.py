"""What a check says, and what makes a check."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from cdmo.doctor.facts import ClusterFacts, Source


class Status(StrEnum):
    """How bad it is. error: slices are not cut, pods do not get them, or somebody else cuts them too."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Finding:
    """One answer of one check. `object`: what it is about, as KIND/NAME; `fix` is empty when nothing is wrong."""

    check: str
    status: Status
    object: str
    sentence: str
    fix: str = ""


@dataclass(frozen=True, slots=True)
class Trouble:
    """What a check found wrong, before it is put under the check's name."""

    object: str
    sentence: str
    fix: str
    status: Status = Status.ERROR


@dataclass(frozen=True, slots=True)
class Check:
    """One question to the facts."""

    name: str
    looks_at: str  # half a sentence for the table in docs/doctor.md
    needs: tuple[Source, ...]  # without these it is not asked
    troubles: Callable[[ClusterFacts], Iterator[Trouble]]

    def findings(self, facts: ClusterFacts) -> Iterator[Finding]:
        """Every trouble; a single `ok` where there is none, a warning where it could not be looked."""
        unread = [each for each in self.needs if each in facts.unread]
        if unread:
            what = ", ".join(unread)
            yield Finding(self.name, Status.WARNING, "cluster", f"not checked: {what} could not be read", _READ_FIX)
            return
        found = False
        for each in self.troubles(facts):
            found = True
            yield Finding(self.name, each.status, each.object, each.sentence, each.fix)
        if not found:
            yield Finding(self.name, Status.OK, "cluster", self.looks_at)


_READ_FIX = "see the check `reading`"
